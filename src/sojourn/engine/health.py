"""Ask a driver connection how it is, in bounded time: alive, in a transaction, clean; and cut it off.

What a pool must know of a connection is not in the DB-API: which socket it uses, whether a transaction is
open, what its server session remembers. `WAYS` has a row of functions for each tested driver, `Health` binds
a row to a dialect. None of these functions waits for a frozen server longer than it is told to: a ping of
psycopg polls its socket, the others are cut off (`shutdown(2)` on the socket) when their time is up, which
ends whatever the driver is waiting for.

Errors are sorted by number where the driver tells one. libpq tells none for a connection that could not be
opened, so there its English text has to do; a server that speaks otherwise is not recognised, and then an
error is neither transient nor hopeless.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from sojourn import corelink
from sojourn.engine.sockets import replace_by_nothing, shut_down
from sojourn.pooling.keeper import limit

PING_LIMIT = 5.0  # seconds; a server that needs longer for nothing is of no use
RESET_LIMIT = 5.0
CLOSE_LIMIT = 5.0

Fd = Callable[[Any], int]
Ask = Callable[[Any], bool | None]
Act = Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class Ways:
    """How to do with one driver what the DB-API has no word for."""

    fd: Fd | None  # raises, or returns a negative number, once the connection is closed
    in_transaction: Ask  # None: the driver cannot prove it
    rollback: Act  # False: the connection cannot be made clean
    reset: Act  # forget what the session was told; False: it cannot, close the connection
    ping: Callable[[Any, float], bool] | None = None  # None: the dialect's own, cut off in time


class Health:
    """The ways of one dialect; nothing here raises but what its docstring says."""

    __slots__ = ("close_limit", "dialect", "ping_limit", "reset_limit", "ways")

    def __init__(
        self,
        dialect: Any,
        *,
        ping_limit: float = PING_LIMIT,
        reset_limit: float = RESET_LIMIT,
        close_limit: float = CLOSE_LIMIT,
    ) -> None:
        self.dialect = dialect
        self.ping_limit = ping_limit
        self.reset_limit = reset_limit
        self.close_limit = close_limit
        name = f"{getattr(dialect, 'name', '')}+{getattr(dialect, 'driver', '')}"  # a pool may have none
        self.ways = WAYS.get(name, UNKNOWN)

    # -- asking -----------------------------------------------------------------------------

    def arm(self, dbapi: Any) -> Callable[[float], Any] | None:
        """Return what tells, called with 0, that the socket has something to say; None if nobody can tell.

        An idle connection has nothing to hear but its end, or a notification: the answer is a reason to
        ping, not to close.
        """
        fd = self._fd(dbapi)
        if fd is None or not hasattr(select, "poll"):
            return None
        poll = select.poll()
        poll.register(fd, select.POLLIN | select.POLLPRI | getattr(select, "POLLRDHUP", 0))
        return poll.poll

    def ping(self, dbapi: Any, seconds: float | None = None) -> bool:
        """Tell whether the server answers within *seconds*; a connection that did not is of no more use."""
        seconds = self.ping_limit if seconds is None else seconds
        try:
            if self.ways.ping is not None:
                return self.ways.ping(dbapi, seconds)
            with limit(partial(self.cut, dbapi), seconds):
                return bool(self.dialect.do_ping(dbapi))
        except Exception:  # noqa: BLE001 - whatever it is, the connection does not serve
            return False

    def in_transaction(self, dbapi: Any) -> bool | None:
        """Tell whether a transaction is open; None where the driver cannot prove it."""
        try:
            return self.ways.in_transaction(dbapi)
        except Exception:  # noqa: BLE001 - a closed connection
            return None

    # -- acting -----------------------------------------------------------------------------

    def cut(self, dbapi: Any) -> None:
        """Make whoever uses the connection fail now; from any thread, without waiting."""
        shut_down(self._fd(dbapi))

    def rollback(self, dbapi: Any, seconds: float | None = None) -> bool:
        """End any open transaction; False: that failed or took too long, close the connection."""
        if self.in_transaction(dbapi) is False:
            return True
        return self._act(self.ways.rollback, dbapi, seconds)

    def reset_session(self, dbapi: Any, pool: Any = None, seconds: float | None = None) -> bool:
        """Forget variables, temporary tables, locks and the like; False: close the connection.

        An open transaction ends too. What a listener of *pool* told each new connection would be forgotten
        with the rest, so then the answer is False.
        """
        if self.dialect.name != "sqlite" and (
            (pool is not None and corelink.is_told_on_connect(pool)) or self._keeps_settings()
        ):
            return False
        return self._act(self.ways.reset, dbapi, seconds)

    def _keeps_settings(self) -> bool:
        """Tell whether Core's dialect tells each new connection something that a reset would undo."""
        if self.dialect.name == "postgresql":  # there the driver remembers the isolation level
            return getattr(self.dialect, "client_encoding", None) is not None
        return corelink.on_connect_isolation(self.dialect) is not None

    def _act(self, act: Act, dbapi: Any, seconds: float | None) -> bool:
        try:
            with limit(partial(self.cut, dbapi), self.reset_limit if seconds is None else seconds):
                return act(dbapi)
        except Exception:  # noqa: BLE001 - the caller closes it, which is the remedy for all of them
            return False

    def close(self, dbapi: Any, seconds: float | None = None) -> None:
        """Say goodbye to the server and close, within *seconds*."""
        try:
            with limit(partial(self.cut, dbapi), self.close_limit if seconds is None else seconds):
                self.dialect.do_close(dbapi)
        except Exception:  # noqa: BLE001, S110 - it is gone either way
            pass

    def abandon(self, dbapi: Any) -> None:
        """Let a forked child's copy never speak: its socket is the parent's.

        The descriptor is replaced by one that swallows everything, so that whenever the object is closed or
        collected, no goodbye reaches the parent's session.
        """
        _abandoned.append(dbapi)  # SQLite's must not be closed either
        replace_by_nothing(self._fd(dbapi))

    def _fd(self, dbapi: Any) -> int | None:
        if self.ways.fd is None or dbapi is None:
            return None
        try:
            fd = self.ways.fd(dbapi)
        except Exception:  # noqa: BLE001 - each driver has its own way to say that it is closed
            return None
        return fd if fd >= 0 else None

    # -- errors -----------------------------------------------------------------------------

    def is_transient(self, error: BaseException) -> bool:
        """Tell whether connecting again soon may help: refused, reset, starting up, too many connections."""
        return sort_connect_error(error) is True

    def is_hopeless(self, error: BaseException) -> bool:
        """Tell whether connecting again cannot help: wrong password, unknown database, no such host."""
        return sort_connect_error(error) is False

    def __repr__(self) -> str:
        known = "" if self.ways is not UNKNOWN else ", not a tested driver"
        return f"<Health of {self.dialect.name}+{self.dialect.driver}{known}>"


_abandoned: list[Any] = []


# -- the drivers' ways -------------------------------------------------------------------------


def _fileno(dbapi: Any) -> int:
    return int(dbapi.fileno())


def _pymysql_fd(dbapi: Any) -> int:
    return int(dbapi._sock.fileno())  # noqa: SLF001 - there is no public way


def _mysqlclient_fd(dbapi: Any) -> int:
    """Return the socket noted at first, if it is that one still.

    mysqlclient does not tell while another thread uses the connection, which is when cutting matters.
    """
    noted = dbapi.__dict__.get(_NOTED)
    if noted is None:
        fd = int(dbapi.fileno())
        dbapi.__dict__[_NOTED] = fd, os.fstat(fd).st_ino
        return fd
    fd, socket_number = noted
    return fd if dbapi.open and os.fstat(fd).st_ino == socket_number else -1


_NOTED: Final = "sojourn_socket"


def _unprovable(dbapi: Any) -> bool | None:
    return None


def _rolls_back(dbapi: Any) -> bool:
    dbapi.rollback()
    return True


def _cannot(dbapi: Any) -> bool:
    return False


def _sqlite_in_transaction(dbapi: Any) -> bool | None:
    return bool(dbapi.in_transaction)


def _reset_sqlite(dbapi: Any) -> bool:
    """Keep a database in memory, which would end with its connection; any other is closed."""
    if dbapi.in_transaction:
        dbapi.rollback()
    return not any(file for _, name, file in dbapi.execute("PRAGMA database_list") if name == "main")


IDLE: Final = 0  # PQTRANS_IDLE and PQTRANS_UNKNOWN, in both drivers' enumerations
NO_CONNECTION: Final = 4


def _psycopg_in_transaction(dbapi: Any) -> bool | None:
    status = dbapi.pgconn.transaction_status
    return None if status == NO_CONNECTION else bool(status != IDLE)


def _psycopg2_in_transaction(dbapi: Any) -> bool | None:
    status = dbapi.info.transaction_status
    return None if status == NO_CONNECTION else bool(status != IDLE)


def _psycopg_ping(dbapi: Any, seconds: float) -> bool:
    """Send an empty query, which begins no transaction, and wait for the answer no longer than *seconds*."""
    pgconn = dbapi.pgconn
    deadline = time.monotonic() + seconds
    poll = select.poll()
    poll.register(pgconn.socket, select.POLLIN)
    pgconn.send_query(b"")
    pgconn.flush()
    answered = False
    while True:
        pgconn.consume_input()
        while not pgconn.is_busy():
            result = pgconn.get_result()
            if result is None:
                return answered
            answered = result.status in _SERVED
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            return False


_SERVED = (0, 1, 2)  # PGRES_EMPTY_QUERY, COMMAND_OK, TUPLES_OK


def _psycopg2_rollback(dbapi: Any) -> bool:
    """Roll back also what autocommit hides: there the driver's rollback() does nothing about a BEGIN."""
    dbapi.rollback()
    if dbapi.info.transaction_status != IDLE:
        with dbapi.cursor() as cursor:
            cursor.execute("ROLLBACK")
    return bool(dbapi.info.transaction_status == IDLE)


def _psycopg_reset(dbapi: Any) -> bool:
    """Discard all; psycopg sees the command's answer, and forgets the statements it has prepared."""
    return _discard(dbapi, lambda: dbapi.execute("DISCARD ALL", prepare=False))


def _psycopg2_reset(dbapi: Any) -> bool:
    def discard() -> None:
        with dbapi.cursor() as cursor:
            cursor.execute("DISCARD ALL")
        del dbapi.notifies[:]

    if not (_psycopg2_rollback(dbapi) and _discard(dbapi, discard)):
        return False
    tell = dbapi.get_parameter_status  # what the driver set when it connected, where the server differs
    return bool(tell("DateStyle").startswith("ISO") and tell("client_encoding") == dbapi.encoding)


def _discard(dbapi: Any, discard: Callable[[], Any]) -> bool:
    """Run *discard* outside of a transaction, as the server demands."""
    dbapi.rollback()
    before = dbapi.autocommit
    if not before:
        dbapi.autocommit = True
    try:
        discard()
    finally:
        if not before and not dbapi.closed:
            dbapi.autocommit = False
    return True


COM_RESET_CONNECTION: Final = 0x1F


def _pymysql_reset(dbapi: Any) -> bool:
    """Reset by the protocol's own command, and say again what the driver said when it connected."""
    if dbapi.init_command is not None or dbapi.sql_mode is not None:
        return False
    autocommit = dbapi.get_autocommit()
    dbapi._execute_command(COM_RESET_CONNECTION, b"")  # noqa: SLF001 - there is no public way
    dbapi._read_ok_packet()  # noqa: SLF001
    dbapi.set_character_set(dbapi.charset, dbapi.collation)
    dbapi.autocommit(autocommit)
    return True


_SQLITE = Ways(None, _sqlite_in_transaction, _rolls_back, _reset_sqlite)
_PYMYSQL = Ways(_pymysql_fd, _unprovable, _rolls_back, _pymysql_reset)
_MYSQLCLIENT = Ways(_mysqlclient_fd, _unprovable, _rolls_back, _cannot)
UNKNOWN: Final = Ways(_fileno, _unprovable, _rolls_back, _cannot)
WAYS: Final = {
    "sqlite+pysqlite": _SQLITE,
    "postgresql+psycopg": Ways(_fileno, _psycopg_in_transaction, _rolls_back, _psycopg_reset, _psycopg_ping),
    "postgresql+psycopg2": Ways(_fileno, _psycopg2_in_transaction, _psycopg2_rollback, _psycopg2_reset),
    "mysql+pymysql": _PYMYSQL,
    "mariadb+pymysql": _PYMYSQL,
    "mysql+mysqldb": _MYSQLCLIENT,
    "mariadb+mysqldb": _MYSQLCLIENT,
}


# -- errors ------------------------------------------------------------------------------------

#: SQLSTATEs with which PostgreSQL ends a session: connection errors (08), shutdown, crash, time-outs.
LOST_STATES: Final = {"57P01", "57P02", "57P03", "57P05", "25P03", "25P04"}
#: Errors of MySQL and MariaDB after which there is no session, beyond those that Core's dialect knows.
LOST_NUMBERS: Final = {1053, 1158, 1159, 1160, 1161, 1927, 2006, 2013, 2055, 3169, 4031}

_TRANSIENT_STATES = {"57P03", "57P01", "57P02", "53300", "08001", "08006", "08000", "08004"}
_HOPELESS_STATES = {"28000", "28P01", "3D000", "42501"}
_TRANSIENT_NUMBERS = {1040, 1053, 1203, 2002, 2003, 2006, 2013, 1158, 1159, 1160, 1161}
_HOPELESS_NUMBERS = {1044, 1045, 1049, 1129, 1130, 1227, 1251, 1698, 2005, 2059}
_HOPELESS_TEXTS = (
    "password authentication failed", "no password supplied", "authentication failed", "no pg_hba.conf entry",
    "does not exist", "is not permitted to log in", "could not translate host name", "failed to resolve host",
    "Name or service not known", "nodename nor servname", "No address associated",
    "permission denied for database", "invalid connection option", "is not currently accepting connections",
)  # fmt: skip
_TRANSIENT_TEXTS = (
    "Connection refused", "Connection reset", "Connection timed out", "timeout expired", "connection timeout",
    "starting up", "shutting down", "in recovery mode", "not yet accepting connections", "too many clients",
    "connection slots", "too many connections", "closed the connection unexpectedly",
    "SSL connection has been closed", "terminating connection", "Temporary failure in name resolution",
    "Network is unreachable", "No route to host", "Broken pipe", "No such file or directory",
    "consistent recovery",
)  # fmt: skip


def sort_connect_error(error: BaseException) -> bool | None:
    """Tell whether to try again (True), that it is pointless (False), or that nobody knows (None)."""
    cause: Any = getattr(error, "original_exception", None) or error  # PyMySQL keeps the socket's error
    if isinstance(cause, socket.gaierror):
        return cause.errno == socket.EAI_AGAIN
    if isinstance(cause, (ConnectionError, TimeoutError)):
        return True
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    if state in _HOPELESS_STATES:
        return False
    if state in _TRANSIENT_STATES:
        return True
    number = error_number(error)
    if number in _HOPELESS_NUMBERS:
        return False
    text = str(error)
    if _names_any(text, _TRANSIENT_TEXTS):  # before the hopeless: one of several addresses may be refused
        return True
    if _names_any(text, _HOPELESS_TEXTS):
        return False
    return True if number in _TRANSIENT_NUMBERS else None


def _names_any(text: str, words: tuple[str, ...]) -> bool:
    return any(word in text for word in words)


def error_number(error: BaseException) -> int | None:
    """Return the number of a MySQL error, or None."""
    first = error.args[0] if error.args else None
    return first if type(first) is int else None


def is_lost(error: BaseException) -> bool:
    """Tell by its number whether *error* says that the server has ended the session.

    Core's dialects look at the connection or the text; but the message of a server that is going can arrive
    before the end of its stream, and it may speak another language.
    """
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    if state is not None:
        return state in LOST_STATES or str(state).startswith("08")
    return error_number(error) in LOST_NUMBERS


def recognise_lost(dialect: Any) -> None:
    """Let *dialect* recognise every end of a connection, also for Core's own Connection."""
    before = dialect.is_disconnect

    def is_disconnect(error: Any, connection: Any, cursor: Any) -> bool:
        return bool(before(error, connection, cursor)) or (
            isinstance(error, dialect.loaded_dbapi.Error) and is_lost(error)
        )

    dialect.is_disconnect = is_disconnect
