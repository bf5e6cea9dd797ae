"""Fixture `victim` (blocking drivers) and `avictim` (async ones): a database on a server that may be hurt.

The two servers of this folder are nobody else's. A test may restart, freeze or crash them, and leaves them
running; what it changed in their settings it changes back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests import databases
from tests.faults.proxy import FaultProxy
from tests.servers import Server, ServerMissing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

_own: dict[type[Server], Server | ServerMissing] = {}


@pytest.fixture(scope="session")
def own_servers() -> Iterator[dict[type[Server], Server | ServerMissing]]:
    """The servers of this folder, by kind; each is started on first use."""
    yield _own
    for server in _own.values():
        if isinstance(server, Server):
            databases.forget_admin(server)
            server.stop()
    _own.clear()


def prepare(name: str, folder: Path) -> databases.Database:
    """Return the empty database *name* on this folder's server, or skip the test with the reason."""
    driver = databases.DRIVERS[name]
    if obstacle := databases.find_missing_module(driver):
        pytest.skip(obstacle)
    assert driver.server is not None
    if driver.server not in _own:
        try:
            _own[driver.server] = driver.server()
        except ServerMissing as missing:
            _own[driver.server] = missing
    server = _own[driver.server]
    if isinstance(server, ServerMissing):
        pytest.skip(str(server))
    if server.process is None or server.process.poll() is not None:
        server.start()  # an earlier test failed half-way
    return databases.open_database(driver, folder, server)


@pytest.fixture
def victim(
    request: pytest.FixtureRequest, tmp_path: Path, own_servers: object
) -> Iterator[databases.Database]:
    """An empty database on a server of this folder, through each blocking driver in turn."""
    database = prepare(request.param, tmp_path)
    yield database
    database.dispose()


@pytest.fixture
async def avictim(
    request: pytest.FixtureRequest, tmp_path: Path, own_servers: object
) -> AsyncIterator[databases.Database]:
    """An empty database on a server of this folder, through each async driver in turn."""
    database = prepare(request.param, tmp_path)
    yield database
    for waiting in database.dispose():
        await waiting


@pytest.fixture
def proxy(request: pytest.FixtureRequest) -> Iterator[FaultProxy]:
    """A fault proxy in front of the server; the database's URL leads through it."""
    name = "victim" if "victim" in request.fixturenames else "avictim"
    database = request.getfixturevalue(name)
    with FaultProxy(database.server.port) as proxy:
        database.url = database.url.replace(f":{database.server.port}/", f":{proxy.port}/")
        yield proxy
