"""Places: a database of its own for each contender, on servers that nobody else uses when possible."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote, urlsplit

SYNC_URL = {"postgresql": "postgresql+psycopg", "asyncpg": "postgresql+asyncpg", "mariadb": "mysql+mysqldb"}


class Places:
    """Hands out databases and removes them at the end; use as a context manager."""

    def __init__(self, database: str) -> None:
        self.database = database
        self.folder = Path(tempfile.mkdtemp(prefix="sojourn-bench-"))
        self.made: list[str] = []
        self.server = ""

    def __enter__(self) -> Self:
        if self.database in ("postgresql", "asyncpg"):
            self.server = _server("postgresql", "BENCH_POSTGRESQL_URL")
        elif self.database == "mariadb":
            self.server = _server("mariadb", "BENCH_MARIADB_URL")
        return self

    def __exit__(self, *_: object) -> None:
        for name in self.made:
            self._administer(f"DROP DATABASE IF EXISTS {name}")
        shutil.rmtree(self.folder, ignore_errors=True)

    def give(self, contender: str) -> dict[str, Any]:
        """Make an empty database and say how to reach it."""
        name = "bench_" + contender.replace("-", "_")
        if not self.server:
            file = self.folder / f"{name}.db"
            for old in self.folder.glob(f"{name}.db*"):
                old.unlink()
            driver = "sqlite+aiosqlite" if self.database == "aiosqlite" else "sqlite"
            return {"file": str(file), "url": f"{driver}:///{file}"}
        self._administer(f"DROP DATABASE IF EXISTS {name}")
        self._administer(f"CREATE DATABASE {name}")
        self.made.append(name)
        at = urlsplit(self.server)
        user = at.username or ("root" if self.database == "mariadb" else os.environ.get("USER", "root"))
        password, host, port = unquote(at.password or ""), at.hostname or "127.0.0.1", at.port
        secret = f":{at.password}" if at.password else ""
        url = f"{SYNC_URL[self.database]}://{user}{secret}@{host}:{port}/{name}"
        place: dict[str, Any] = {
            "url": url,
            "host": host,
            "port": port,
            "user": user,
            "password": password,
            "name": name,
        }
        if self.database == "mariadb":
            place["mysql"] = {"host": host, "port": port, "user": user, "passwd": password, "db": name}
        else:
            # fsync would measure the server's disk, not the client.
            self._administer(f"ALTER DATABASE {name} SET synchronous_commit = off")
            place["dsn"] = f"host={host} port={port} user={user} dbname={name}" + (
                f" password={password}" if password else ""
            )
        return place

    def _administer(self, text: str) -> None:
        at = urlsplit(self.server)
        if self.database == "mariadb":
            import MySQLdb

            link = MySQLdb.connect(
                host=at.hostname,
                port=at.port or 3306,
                user=at.username or "root",
                passwd=unquote(at.password or ""),
            )
            link.cursor().execute(text)
            link.close()
            return
        import psycopg

        with psycopg.connect(self.server, autocommit=True) as connection:
            connection.execute(text)


def _server(kind: str, variable: str) -> str:
    """Return the URL of a server: the one named in the environment, else a private one started now."""
    if variable in os.environ:
        return os.environ[variable]
    from tests.servers import MariaDB, PostgreSQL, Server, find_server

    found = find_server(MariaDB if kind == "mariadb" else PostgreSQL)
    if not isinstance(found, Server):
        raise found
    if kind == "mariadb":
        return f"mysql://sojourn:sojourn@127.0.0.1:{found.port}/"
    return f"postgresql://sojourn@127.0.0.1:{found.port}/postgres"
