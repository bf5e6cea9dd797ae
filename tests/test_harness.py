"""The test harness itself: private servers, fresh databases, and what a whole run must not do."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from tests.conftest import find_forbidden
from tests.databases import ASYNC, SYNC, databases, select_drivers, sqlite_only
from tests.servers import PostgreSQL, Server, find_server

pytest_plugins = ["pytester"]
ROOT = Path(__file__).parents[1]


def run_raw(db, statement):
    """Execute one statement through the bare driver and commit."""
    url = make_url(db.url)
    module = import_module(db.driver.module)
    if db.dialect == "sqlite":
        connection = module.connect(url.database)
    else:
        name = "dbname" if db.dialect == "postgresql" else "database"
        arguments = {"host": url.host, "port": url.port, "user": url.username, name: url.database}
        connection = module.connect(**arguments, **({"password": url.password} if url.password else {}))
    try:
        cursor = connection.cursor()
        cursor.execute(statement)
        rows = cursor.fetchall() if cursor.description else []
        connection.commit()
    finally:
        connection.close()
    return [tuple(row) for row in rows]


@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_gets_an_empty_database(db, turn):
    """A table made by one test is gone in the next, on every driver."""
    run_raw(db, "CREATE TABLE probe (id integer)")
    run_raw(db, "INSERT INTO probe VALUES (1)")

    assert run_raw(db, "SELECT count(*) FROM probe") == [(1,)]


@pytest.mark.parametrize("turn", [1, 2])
@databases("postgresql", "mysql")
def test_a_leaked_transaction_does_not_hang_the_next_test(db, turn, request):
    """Whoever is still connected when the next test starts is thrown out."""
    url = make_url(db.url)
    name = "dbname" if db.dialect == "postgresql" else "database"
    arguments = {"host": url.host, "port": url.port, "user": url.username, name: url.database}
    module = import_module(db.driver.module)
    leaked = module.connect(**arguments, **({"password": url.password} if url.password else {}))
    request.config.stash.setdefault(LEAKED, []).append(leaked)
    leaked.cursor().execute("CREATE TABLE held (id integer)")
    leaked.cursor().execute("INSERT INTO held VALUES (1)")

    assert run_raw(db, "SELECT 1") == [(1,)]


LEAKED = pytest.StashKey()


def test_leaked_connections_of_this_file_are_closed(request):
    """Closing a connection that the server threw out raises at most a driver error."""
    for connection in request.config.stash.get(LEAKED, []):
        with contextlib.suppress(sys.modules[type(connection).__module__.partition(".")[0]].Error):
            connection.close()


async def test_async_tests_run_and_name_their_database(adb):
    """An async test gets the ids aiosqlite, asyncpg and psycopg_async."""
    assert adb.is_async
    assert adb.name in ASYNC


@sqlite_only
def test_a_mark_restricts_the_databases(db):
    """Under `sqlite_only` no other database is collected."""
    assert db.name == "sqlite"


def test_a_dialect_selects_all_its_drivers():
    """A mark may name a dialect or a single driver; no names mean all."""
    assert select_drivers(SYNC, ("postgresql",)) == ["psycopg", "psycopg2"]
    assert select_drivers(SYNC, ("pymysql", "sqlite")) == ["sqlite", "pymysql"]
    assert select_drivers(SYNC, ()) == SYNC


def test_forbidden_imports_are_recognised():
    """The ORM packages and greenlet are found among modules; Core and its compiler extension are not."""
    modules = ["sqlalchemy.orm", "sqlalchemy.orm.session", "sqlalchemy.ext.hybrid", "greenlet._greenlet"]

    assert find_forbidden(["sqlalchemy", "sqlalchemy.ext.compiler", "sqlalchemy.sql", *modules]) == sorted(
        modules
    )


def run_inner(pytester, text, **environment):
    """Run a test file of the given text under our conftest, in a process of its own."""
    pytester.makepyfile(text)
    ours = {"PYTHONPATH": str(ROOT), "CI": "", "SOJOURN_TEST_REPORT": ""}
    pytester.makeini("[pytest]\nasyncio_mode = auto\nmarkers =\n databases\n not_applicable\n slow\n")
    pytester.makeconftest("from tests.conftest import *")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(pytester.path)],
        cwd=pytester.path, env={**os.environ, **ours, **environment},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


SKIPPING = """
    import pytest

    def test_one():
        pytest.skip("no moon tonight")

    @pytest.mark.not_applicable("SQLite has no servers")
    def test_two():
        raise AssertionError
"""


@pytest.mark.slow
def test_a_skip_is_listed_with_its_reason(pytester):
    """A run prints what it left out by name and reason, apart from what is not applicable."""
    done = run_inner(pytester, SKIPPING)

    assert done.returncode == 0
    assert "no moon tonight: 1 tests" in done.stdout
    assert "SQLite has no servers: 1 tests" in done.stdout


@pytest.mark.slow
def test_a_skip_is_a_failure_under_ci(pytester):
    """With CI=true a skipped test fails, and one declared not applicable does not."""
    done = run_inner(pytester, SKIPPING, CI="true")

    assert done.returncode == 1
    assert "1 failed, 1 skipped" in done.stdout


@pytest.mark.slow
def test_importing_the_orm_fails_the_run(pytester):
    """A run whose tests all pass fails when one of them imported `sqlalchemy.orm`."""
    done = run_inner(pytester, "def test_one():\n    import sqlalchemy.orm")

    assert done.returncode == 1
    assert "the run imported sqlalchemy.orm" in done.stdout


@pytest.mark.slow
@databases("psycopg")
def test_a_server_ends_with_a_run_that_is_killed(db, pytester):
    """When the run is killed outright, its server goes too (where setpriv exists)."""
    server = find_server(PostgreSQL)
    assert isinstance(server, Server)
    text = """
        import os, signal
        from tests.servers import PostgreSQL, find_server

        def test_one():
            server = find_server(PostgreSQL)
            open("pid", "w").write(str(server.process.pid))
            open("folder", "w").write(str(server.folder))
            os.kill(os.getpid(), signal.SIGKILL)
    """
    run_inner(pytester, text)
    pid = int((pytester.path / "pid").read_text())
    import shutil

    from tests.servers import wait_gone

    gone = wait_gone(pid, seconds=20)
    shutil.rmtree((pytester.path / "folder").read_text(), ignore_errors=True)

    assert gone or not shutil.which("setpriv")
