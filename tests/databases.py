"""The databases tests run on: one `Database` per driver, emptied before each use.

`db` (blocking drivers) and `adb` (async drivers) in conftest.py hand them out. A test that makes sense
on some of them only says so, and is then not even collected for the others:

    @sqlite_only                        # or @databases("psycopg", "psycopg2")
    def test_pragma(db): ...

What is left of an earlier test is removed when the next one starts: PostgreSQL's schema is dropped,
MariaDB's database created anew, after whoever is still connected was thrown out, so that a leaked
transaction fails its own test's assertions and never hangs the next.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sqlite3
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from tests.servers import MariaDB, PostgreSQL, Server, ServerMissing, find_server

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import sojourn


@dataclass(frozen=True)
class Driver:
    """A way to reach a database: fixture id, SQLAlchemy URL prefix, module, server."""

    name: str
    dialect: str
    prefix: str
    module: str
    server: type[Server] | None
    is_async: bool = False
    package: str = ""  # what to install, where it is not called like the module


DRIVERS = {
    driver.name: driver
    for driver in (
        Driver("sqlite", "sqlite", "sqlite+pysqlite", "sqlite3", None),
        Driver("psycopg", "postgresql", "postgresql+psycopg", "psycopg", PostgreSQL),
        Driver("psycopg2", "postgresql", "postgresql+psycopg2", "psycopg2", PostgreSQL),
        Driver("mysqlclient", "mysql", "mysql+mysqldb", "MySQLdb", MariaDB, package="mysqlclient"),
        Driver("pymysql", "mysql", "mysql+pymysql", "pymysql", MariaDB),
        Driver("aiosqlite", "sqlite", "sqlite+aiosqlite", "aiosqlite", None, is_async=True),
        Driver("asyncpg", "postgresql", "postgresql+asyncpg", "asyncpg", PostgreSQL, is_async=True),
        Driver("psycopg_async", "postgresql", "postgresql+psycopg", "psycopg", PostgreSQL, is_async=True),
    )
}
SYNC = [name for name, driver in DRIVERS.items() if not driver.is_async]
ASYNC = [name for name, driver in DRIVERS.items() if driver.is_async]
#: The fixtures that run a test once per driver, and their drivers.
FIXTURES = {
    "db": SYNC,
    "adb": ASYNC,
    "victim": [name for name in SYNC if DRIVERS[name].server],
    "avictim": [name for name in ASYNC if DRIVERS[name].server],
}


def databases(*names: str) -> pytest.MarkDecorator:
    """Mark a test to run on the named databases only; names are fixture ids or dialects."""
    known = {*DRIVERS, *(driver.dialect for driver in DRIVERS.values())}
    assert set(names) <= known, f"unknown databases {sorted(set(names) - known)}; known: {sorted(known)}"
    return pytest.mark.databases(*names)


sqlite_only = databases("sqlite")
postgresql_only = databases("postgresql")
mysql_only = databases("mysql")
server_only = databases("postgresql", "mysql")


def select_drivers(names: list[str], wanted: tuple[str, ...]) -> list[str]:
    """Return those of *names* that a `databases(...)` mark with arguments *wanted* asks for."""
    return [name for name in names if not wanted or name in wanted or DRIVERS[name].dialect in wanted]


def find_missing_module(driver: Driver) -> str | None:
    """Return why *driver* cannot be imported here, or None."""
    try:
        importlib.import_module(driver.module)
    except ImportError as error:
        return f"driver {driver.package or driver.module} is not installed ({error})"
    return None


def find_obstacle(driver: Driver) -> str | None:
    """Return why tests on *driver* cannot run here, or None; starts the server if there is one."""
    if obstacle := find_missing_module(driver):
        return obstacle
    if driver.server is not None and isinstance(server := find_server(driver.server), ServerMissing):
        return str(server)
    return None


@dataclass
class Database:
    """One empty database of one driver; `url` is ready to use."""

    driver: Driver
    url: str
    server: Server | None = None
    engines: list[Any] = field(default_factory=list)  # Any: blocking and async engines alike

    @property
    def name(self) -> str:
        """The fixture id: sqlite, psycopg, psycopg2, mysqlclient, pymysql, aiosqlite, ..."""
        return self.driver.name

    @property
    def dialect(self) -> str:
        """The dialect: sqlite, postgresql or mysql (which is MariaDB here)."""
        return self.driver.dialect

    @property
    def is_async(self) -> bool:
        """Whether the driver is an async one."""
        return self.driver.is_async

    @property
    def sync_url(self) -> str:
        """The URL of the same database through a blocking driver, to look at it from outside."""
        twin = {"sqlite": "sqlite+pysqlite", "postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}
        return twin[self.dialect] + self.url[self.url.index(":") :]

    def create_engine(self, **options: Any) -> Any:
        """Return a new sojourn engine on this database (async for async drivers), disposed at the end."""
        if self.is_async:
            from sojourn.ext.asyncio import create_async_engine as create
        else:
            from sojourn import create_engine as create
        engine = create(self.url, **options)
        self.engines.append(engine)
        return engine

    def sync_engine(self, **options: Any) -> sojourn.Engine:
        """Return a blocking sojourn engine on the same database."""
        from sojourn import create_engine

        engine = create_engine(self.sync_url, **options)
        self.engines.append(engine)
        return engine

    def dispose(self) -> list[Any]:
        """Dispose of all engines; return the awaitables of the async ones."""
        engines, self.engines = self.engines, []
        return [waiting for engine in engines if (waiting := engine.dispose()) is not None]


def open_database(driver: Driver, folder: Path, own: Server | None = None) -> Database:
    """Return an empty database for *driver*, on the server *own* or on the one all tests share."""
    if driver.server is None:
        return Database(driver, f"{driver.prefix}:///{folder / 'database.sqlite'}")
    server = own or find_server(driver.server)
    assert isinstance(server, Server)
    login = "sojourn" if driver.dialect == "postgresql" else "sojourn:sojourn"
    try:
        EMPTIERS[driver.dialect](server)
    except Exception:  # noqa: BLE001 - an earlier test may have killed every connection, ours too: once more
        forget_admin(server)
        EMPTIERS[driver.dialect](server)
    return Database(driver, f"{driver.prefix}://{login}@127.0.0.1:{server.port}/sojourn_test", server)


_admins: dict[Server, Any] = {}  # Any: a DB-API connection of whichever driver is installed


def empty_postgresql(server: Server) -> None:
    """Leave an empty database `sojourn_test` with nobody but us connected to it."""
    if server not in _admins:
        outside = connect_postgresql(server, "postgres")
        cursor = outside.cursor()
        cursor.execute("SELECT 1 FROM pg_database WHERE datname = 'sojourn_test'")
        if not cursor.fetchall():
            cursor.execute("CREATE DATABASE sojourn_test")
        outside.close()
    cursor = find_admin(server).cursor()
    cursor.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = 'sojourn_test'"
        " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )
    cursor.execute("SELECT gid FROM pg_prepared_xacts WHERE database = 'sojourn_test'")
    for (gid,) in cursor.fetchall():
        cursor.execute(f"ROLLBACK PREPARED '{gid}'")
    cursor.execute("SELECT nspname FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema$)'")
    for (schema,) in cursor.fetchall():
        cursor.execute(f'DROP SCHEMA "{schema}" CASCADE')
    cursor.execute("CREATE SCHEMA public")


def find_admin(server: Server) -> Any:
    """Return the connection in autocommit mode through which *server* is looked after."""
    if server not in _admins:
        mysql = isinstance(server, MariaDB)
        _admins[server] = connect_mysql(server) if mysql else connect_postgresql(server, "sojourn_test")
    return _admins[server]


def forget_admin(server: Server) -> None:
    """Close that connection: it is broken, or *server* is about to end."""
    if stale := _admins.pop(server, None):
        with contextlib.suppress(Exception):  # what every driver raises for a broken connection differs
            stale.close()


def connect_postgresql(server: Server, database: str) -> Any:
    """Return a connection in autocommit mode, through whichever driver is installed."""
    try:
        from psycopg import connect
    except ImportError:
        from psycopg2 import connect
    connection = connect(host="127.0.0.1", port=server.port, user="sojourn", dbname=database)
    connection.autocommit = True
    return connection


def connect_mysql(server: Server) -> Any:
    """Return a connection in autocommit mode, through whichever driver is installed."""
    try:
        from pymysql import connect
    except ImportError:
        from MySQLdb import connect
    connection = connect(host="127.0.0.1", port=server.port, user="sojourn", password="sojourn")
    connection.autocommit(True)
    return connection


def empty_mysql(server: Server) -> None:
    """Leave an empty database `sojourn_test` with nobody connected to it."""
    cursor = find_admin(server).cursor()
    cursor.execute("SELECT id FROM information_schema.processlist WHERE db = 'sojourn_test'")
    for (session,) in cursor.fetchall():
        try:
            cursor.execute(f"KILL {session}")
        except Exception as error:
            if error.args[0] != 1094:  # unknown thread id: it left by itself in between
                raise
    cursor.execute("DROP DATABASE IF EXISTS sojourn_test")
    cursor.execute("CREATE DATABASE sojourn_test")


EMPTIERS: dict[str, Callable[[Server], None]] = {"postgresql": empty_postgresql, "mysql": empty_mysql}


def close_admins() -> None:
    """Close the connections through which databases are emptied."""
    while _admins:
        _admins.popitem()[1].close()


def describe() -> str:
    """Return a line naming what is installed, for the header of a run."""
    found = [f"sqlite {sqlite3.sqlite_version}"]
    found += [name for name in DRIVERS if name != "sqlite" and importlib.util.find_spec(DRIVERS[name].module)]
    return ", ".join(found)
