"""The driver table: how each tested driver is spoken to the short way, and what it can do.

A dialect that is not in the table works too, through Core's own Connection (the slow lane). A new
driver is one row here, and a run of the database tests against it.
"""

from __future__ import annotations

import itertools
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sojourn.symbols import Traits

if TYPE_CHECKING:
    from collections.abc import Callable

_names = itertools.count(1)  # server-side cursors need a name, once per connection


def _never(_connection: Any) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Driver:
    """One row of the table."""

    name: str  # dialect+driver, as in a URL
    paramstyle: str  # of plans: positional, because tuples are cheaper than dictionaries
    describe: Callable[[Any], Traits]  # given the dialect, initialized by a first connection if it needs one
    cursor: Callable[[Any], Any]  # the one cursor kept for a connection
    stream: Callable[[Any, int], Any]  # a cursor that leaves its rows with the server
    iterate: bool = False  # reading the cursor row by row is cheaper than fetchall()
    sql_transactions: bool = False  # BEGIN and COMMIT are sent as SQL through the kept cursor
    prepares: str | None = None  # SQL that prepares a transaction begun like any other
    command_pair: Callable[[Any, str], None] | None = None  # runs two commands in one round trip, on a cursor
    aborted: Callable[[Any], bool] = _never  # whether the transaction failed; asks the driver, not the server
    needs_server: bool = True  # traits and SQL text depend on what the first connection finds out


def find_driver(dialect: Any) -> Driver | None:
    """Return the row for *dialect*, or None if it is not a tested one."""
    driver = DRIVERS.get(f"{dialect.name}+{dialect.driver}")
    if driver is None or not type(dialect).__module__.startswith("sqlalchemy.dialects."):
        return None
    return driver


# -- SQLite ------------------------------------------------------------------------------------


def describe_sqlite(dialect: Any) -> Traits:
    """Say what the linked SQLite library can do."""
    version = sqlite3.sqlite_version_info
    return Traits(
        dialect="sqlite",
        driver=dialect.driver,
        mark="?",
        lastrowid_loop=True,
        returning=version >= (3, 35),
        update_returning=version >= (3, 35),
        delete_returning=version >= (3, 35),
        max_parameters=32_766 if version >= (3, 32) else 999,
        values_from=version >= (3, 33),
    )


def set_begin(dialect: Any) -> None:
    """Make *dialect* begin transactions for real, also for Core's own Connection.

    The driver by itself begins at the first INSERT, so that a savepoint set before is a transaction
    of its own, and its release a commit (scenario C7). Its isolation level keeps the meaning it has:
    None is autocommit, a word is the kind of BEGIN.
    """
    dialect.do_begin = begin_sqlite


def begin_sqlite(connection: Any) -> None:
    """Begin, unless in a transaction (a shared connection) or in autocommit."""
    level = connection.isolation_level
    if level is not None and not connection.in_transaction:
        connection.execute(f"BEGIN {level}")


def set_foreign_keys(connection: Any, _record: object) -> None:
    """Let SQLite enforce foreign keys, which it does per connection and not by default."""
    connection.execute("PRAGMA foreign_keys=ON").close()


# -- PostgreSQL --------------------------------------------------------------------------------


def describe_psycopg(dialect: Any) -> Traits:
    """Say what psycopg 3 can do; its RawCursor takes $n as it is, where %s costs 2 us per parameter."""
    return Traits(
        dialect="postgresql",
        driver=dialect.driver,
        mark="$n",
        returning=True,
        update_returning=True,
        delete_returning=True,
        max_parameters=65_535,  # a 16-bit count in the protocol
        unnest=True,
        values_from=True,
        extra={"array": BinaryArray},
    )


class BinaryArray(list[Any]):
    """A list that psycopg sends as an array in binary: half the cost of its default, the text form."""

    __slots__ = ()


def describe_psycopg2(dialect: Any) -> Traits:
    """Say what psycopg2 can do; it writes values into the text, so their number has no limit."""
    return Traits(
        dialect="postgresql",
        driver=dialect.driver,
        mark="%s",
        returning=True,
        update_returning=True,
        delete_returning=True,
        max_parameters=65_535,
        values_from=True,
        executemany_batches=False,
    )


def raw_cursor(connection: Any) -> Any:
    """Make psycopg's cursor for $n parameters."""
    import psycopg  # noqa: PLC0415 - an optional driver
    from psycopg.types.array import ListBinaryDumper  # noqa: PLC0415 - an optional driver

    connection.adapters.register_dumper(BinaryArray, ListBinaryDumper)
    return psycopg.RawCursor(connection)


def raw_stream(connection: Any, size: int) -> Any:
    """Make psycopg's server-side cursor for $n parameters."""
    import psycopg  # noqa: PLC0415 - an optional driver

    cursor = psycopg.RawServerCursor(connection, f"sj_{next(_names)}")
    cursor.itersize = size
    return cursor


def named_stream(connection: Any, size: int) -> Any:
    """Make psycopg2's server-side cursor."""
    cursor = connection.cursor(f"sj_{next(_names)}")
    cursor.itersize = size
    return cursor


def psycopg_pair(cursor: Any, text: str) -> None:
    """Run two commands; they cannot be prepared together."""
    cursor.execute(text, prepare=False)


def psycopg2_pair(cursor: Any, text: str) -> None:
    """Run two commands."""
    cursor.execute(text)


def psycopg_aborted(connection: Any) -> bool:
    """Tell whether the transaction failed and accepts nothing but its rollback."""
    return bool(connection.pgconn.transaction_status == 3)  # libpq's PQTRANS_INERROR


def psycopg2_aborted(connection: Any) -> bool:
    """Tell whether the transaction failed and accepts nothing but its rollback."""
    return bool(connection.info.transaction_status == 3)  # libpq's PQTRANS_INERROR


# -- MySQL and MariaDB -------------------------------------------------------------------------


def describe_mysql(dialect: Any) -> Traits:
    """Say what the server can do; MariaDB has RETURNING, MySQL hands out a gapless range."""
    maria = bool(dialect.is_mariadb)
    version = tuple(n for n in (dialect.server_version_info or ()) if isinstance(n, int))
    returning = maria and version >= (10, 5)
    return Traits(
        dialect="mariadb" if maria else "mysql",
        driver=dialect.driver,
        mark="%s",
        returning=returning,
        delete_returning=returning,
        max_parameters=65_535,
        lastrowid_range=True,
        executemany_batches=False,  # the drivers gather INSERT ... VALUES only
        extra={"json_table": version >= ((10, 6) if maria else (8, 0, 4))},
    )


def pymysql_stream(connection: Any, size: int) -> Any:
    """Make PyMySQL's unbuffered cursor."""
    from pymysql.cursors import SSCursor  # noqa: PLC0415 - an optional driver

    return connection.cursor(SSCursor)


def mysqlclient_stream(connection: Any, size: int) -> Any:
    """Make mysqlclient's unbuffered cursor."""
    from MySQLdb.cursors import SSCursor  # noqa: PLC0415 - an optional driver

    return connection.cursor(SSCursor)


def plain_cursor(connection: Any) -> Any:
    """Make the driver's ordinary cursor."""
    return connection.cursor()


def plain_stream(connection: Any, size: int) -> Any:
    """Make an ordinary cursor for streaming: SQLite makes rows on demand anyway."""
    cursor = connection.cursor()
    cursor.arraysize = size
    return cursor


_PREPARE = "PREPARE TRANSACTION '{}'"

DRIVERS: Final = {
    row.name: row
    for row in (
        Driver(
            "sqlite+pysqlite", "qmark", describe_sqlite, plain_cursor, plain_stream,
            iterate=True, sql_transactions=True, needs_server=False,
        ),
        Driver(
            "postgresql+psycopg", "numeric_dollar", describe_psycopg, raw_cursor, raw_stream,
            prepares=_PREPARE, command_pair=psycopg_pair, aborted=psycopg_aborted,
        ),
        Driver(
            "postgresql+psycopg2", "format", describe_psycopg2, plain_cursor, named_stream,
            prepares=_PREPARE, command_pair=psycopg2_pair, aborted=psycopg2_aborted,
        ),
        Driver("mysql+pymysql", "format", describe_mysql, plain_cursor, pymysql_stream),
        Driver("mariadb+pymysql", "format", describe_mysql, plain_cursor, pymysql_stream),
        Driver("mysql+mysqldb", "format", describe_mysql, plain_cursor, mysqlclient_stream),
        Driver("mariadb+mysqldb", "format", describe_mysql, plain_cursor, mysqlclient_stream),
    )
}  # fmt: skip


def describe_unknown(dialect: Any) -> Traits:
    """Say what may be assumed of a dialect that nobody tested: plain statements, one row each."""
    mark = {"qmark": "?", "format": "%s", "pyformat": "%s"}.get(dialect.paramstyle, "?")
    return Traits(
        dialect=dialect.name,
        driver=dialect.driver,
        mark=mark,
        returning=bool(dialect.insert_returning),
        update_returning=bool(dialect.update_returning),
        delete_returning=bool(dialect.delete_returning),
        max_parameters=999,
        executemany_rowcount=bool(dialect.supports_sane_multi_rowcount),
        executemany_batches=False,
    )
