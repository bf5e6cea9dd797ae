"""The auditor: a driver connection of its own that fills the tables and checks what was left in them."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class FastConnection(sqlite3.Connection):
    """A SQLite connection that never waits for the disk; given to every contender as `factory`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.execute("PRAGMA synchronous=off")


class Auditor:
    """What the three auditors share."""

    kind = ""
    mark = "?"

    def __init__(self, place: dict[str, Any]) -> None:
        self.connection = self.connect(place)

    def connect(self, place: dict[str, Any]) -> Any:
        """Open the auditor's own connection, in autocommit mode."""
        raise NotImplementedError

    def run(self, text: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Execute one statement and return its rows, if it has any."""
        cursor = self.connection.cursor()
        cursor.execute(text, params)
        rows = [tuple(row) for row in cursor.fetchall()] if cursor.description else []
        cursor.close()
        return rows

    def build(self, counts: dict[str, int]) -> None:
        """Create all tables and fill those that are only read or updated."""
        for statement in schema.statements(self.kind):
            self.run(statement)
        for table, count in counts.items():
            self.fill(table, count)

    def fill(self, table: str, count: int) -> None:
        """Make `table` hold exactly rows 1..count."""
        self.empty(table)
        make = schema.ROWS[table]
        self.load(table, [self.stored(make(key)) for key in range(1, count + 1)])
        self.tidy(table)

    def load(self, table: str, rows: list[tuple[Any, ...]]) -> None:
        """Insert rows with their keys."""
        columns = schema.TABLES[table]
        marks = ", ".join([self.mark] * len(columns))
        cursor = self.connection.cursor()
        self.run("BEGIN")
        cursor.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows)
        self.run("COMMIT")
        cursor.close()

    def stored(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        """Convert a row to what the driver takes."""
        return tuple(json.dumps(value) if type(value) is dict else value for value in row)

    def empty(self, table: str) -> None:
        """Delete all rows."""
        self.run(f"TRUNCATE TABLE {table}")

    def tidy(self, table: str) -> None:
        """Leave the table in the same physical state for every repetition."""

    def backends(self) -> Iterable[int]:
        """Return the process ids of the servers behind this contender's connections."""
        return ()

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()


class SqliteAuditor(Auditor):
    """SQLite through sqlite3."""

    kind = "sqlite"

    def connect(self, place: dict[str, Any]) -> Any:
        connection = sqlite3.connect(place["file"], isolation_level=None, factory=FastConnection)
        connection.execute("PRAGMA journal_mode=wal")
        return connection

    def stored(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        # The formats are those SQLAlchemy, Django and Peewee read.
        return tuple(_sqlite_value(value) for value in row)

    def empty(self, table: str) -> None:
        self.run(f"DELETE FROM {table}")

    def tidy(self, table: str) -> None:
        self.run("PRAGMA wal_checkpoint(TRUNCATE)")


def _sqlite_value(value: Any) -> Any:
    name = type(value).__name__
    if name == "datetime":
        return value.isoformat(sep=" ", timespec="microseconds")
    if name == "date":
        return value.isoformat()
    if name == "Decimal":
        return float(value)
    return json.dumps(value) if name == "dict" else value


class PostgresqlAuditor(Auditor):
    """PostgreSQL through psycopg 3."""

    kind = "postgresql"
    mark = "%s"

    def connect(self, place: dict[str, Any]) -> Any:
        import psycopg

        return psycopg.connect(place["dsn"], autocommit=True)

    def load(self, table: str, rows: list[tuple[Any, ...]]) -> None:
        with self.connection.cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        self.run(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), {len(rows) + 1}, false)")

    def empty(self, table: str) -> None:
        self.run(f"TRUNCATE TABLE {table} RESTART IDENTITY")

    def tidy(self, table: str) -> None:
        self.run(f"VACUUM ANALYZE {table}")

    def backends(self) -> Iterable[int]:
        return [
            pid for (pid,) in self.run("SELECT pid FROM pg_stat_activity WHERE datname = current_database()")
        ]


class MariadbAuditor(Auditor):
    """MariaDB through mysqlclient."""

    kind = "mariadb"
    mark = "%s"

    def connect(self, place: dict[str, Any]) -> Any:
        import MySQLdb

        return MySQLdb.connect(**place["mysql"], autocommit=True)

    def backends(self) -> Iterable[int]:
        query = (
            "SELECT TID FROM information_schema.PROCESSLIST WHERE DB = DATABASE()"  # threads of the system
        )
        return [thread for (thread,) in self.run(query)]


AUDITORS: dict[str, type[Auditor]] = {
    "sqlite": SqliteAuditor,
    "aiosqlite": SqliteAuditor,
    "postgresql": PostgresqlAuditor,
    "asyncpg": PostgresqlAuditor,
    "mariadb": MariadbAuditor,
}


def pin(cpu: int | None, backends: Iterable[int] = ()) -> None:
    """Keep every thread of this process, and the servers it talks to, on one CPU; None sets them free."""
    cpus = set(range(os.cpu_count() or 1)) if cpu is None else {cpu}
    for task in Path("/proc/self/task").iterdir():
        os.sched_setaffinity(int(task.name), cpus)
    for pid in backends:
        try:
            os.sched_setaffinity(pid, cpus)
        except (PermissionError, ProcessLookupError):
            continue  # a server of another user: the figures are then those of an unpinned run
