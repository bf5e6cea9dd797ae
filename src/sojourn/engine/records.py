"""`Record`: one place of a pool, with the driver connection that is in it now.

To the pool's core a record is an `Entry`, to listeners SQLAlchemy's `ConnectionPoolEntry`. A connection that
is lost or too old is replaced; the record can stay, and with it `record_info`.
"""

from __future__ import annotations

import time
import warnings
from collections import deque
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import SAWarning
from sqlalchemy.pool import ConnectionPoolEntry

from sojourn.pooling.core import Entry

if TYPE_CHECKING:
    from collections.abc import Callable


class Notes:
    """What a program notes about a connection, and about the place it has in the pool."""

    _info: dict[Any, Any] | None = None
    notes: dict[Any, Any] | None = None  # survive the connection, and go to the one that replaces it

    @property
    def info(self) -> dict[Any, Any]:
        """Notes that are forgotten with the connection."""
        if self._info is None:
            self._info = {}
        return self._info

    @property
    def record_info(self) -> dict[Any, Any]:
        """Notes that stay when the connection is replaced."""
        if self.notes is None:
            self.notes = {}
        return self.notes


class Record(Entry, Notes, ConnectionPoolEntry):
    """A connection of *pool*, and what is known about it."""

    #: The driver's connection as the DB-API shows it, or None while there is none.
    dbapi_connection: Any = vars(Entry)["connection"]  # the very field that the core calls so

    def __init__(self, pool: Any) -> None:
        super().__init__()
        self.pool = pool
        self.starttime = 0.0  # when the connection was opened, by the wall clock
        self.rollback: Any = None  # the driver's, where that is all there is to a reset
        self.lane: Any = None  # a session's Connection, kept while the record is idle
        self.holder: Any = None  # a weak reference to the proxy, where several users share it
        self.users = 0  # those who share it; a pool that lends it to one at a time does not count
        self.soiled = False  # one of them left something to reset
        self.tainted = False  # a statement of this lease may have changed the server session
        self.finalize_callback: deque[Callable[[Any], object]] = deque()

    # -- what there is ------------------------------------------------------------------------

    @property
    def driver_connection(self) -> Any:  # type: ignore[override]  # Core's own is read-only too
        """The driver's own connection; for async drivers that is not the one of the DB-API."""
        connection = self.dbapi_connection
        return None if connection is None else self.pool.dialect.get_driver_connection(connection)

    @property
    def number(self) -> int | None:
        """How the server calls the session, as far as the driver knows without asking it."""
        connection = self.dbapi_connection
        try:
            if hasattr(connection, "thread_id"):
                return int(connection.thread_id())
            return int(connection.info.backend_pid)
        except Exception:  # noqa: BLE001 - a lost connection has none, nor has SQLite's
            return None

    def keep_notes_of(self, other: Record) -> None:
        """Take over the notes of the record whose place this one takes."""
        self.notes = other.notes

    @property
    def in_use(self) -> bool:
        """Whether the connection is lent."""
        return self.users > 0 or (self.lent and not self.pool.shares)

    @property
    def last_connect_time(self) -> float:
        """When the connection was opened, by the wall clock."""
        return self.starttime

    # -- opening and closing ------------------------------------------------------------------

    def open(self) -> None:
        """Connect, and tell the listeners."""
        pool = self.pool
        self.dbapi_connection = self.poll = self.rollback = self.doomed = None
        self._info = None
        self.tainted = False
        self.starttime = time.time()
        connection = pool.create(self)
        self.poll = pool.arm(connection)
        self.rollback = pool.find_rollback(connection)

    def get_connection(self) -> Any:
        """Return the driver connection, opened if there is none."""
        if self.dbapi_connection is None:
            self.open()
        return self.dbapi_connection

    def close(self) -> None:
        """Close the driver connection."""
        self.discard()

    def discard(self, *, terminate: bool = False) -> None:
        """Close the driver connection if there is one, at once if *terminate*; tell the listeners."""
        connection = self.dbapi_connection
        if connection is None:
            return
        pool = self.pool
        self.lane = None
        self.finalize_callback.clear()
        if pool.dispatch.close:
            pool.dispatch.close(connection, self)
        try:
            pool.discard(connection, terminate=terminate)
        finally:
            self.dbapi_connection = self.poll = self.rollback = None

    def invalidate(self, e: BaseException | None = None, soft: bool = False) -> None:
        """Close the driver connection, which nobody must use again; if *soft*, after the present lease."""
        connection = self.dbapi_connection
        if connection is None:
            return
        dispatch = self.pool.dispatch
        if soft:
            dispatch.soft_invalidate(connection, self, e)
            self._log_invalid(e, "softly ")
            self.doomed = self.doomed or "soft"
            return
        try:
            dispatch.invalidate(connection, self, e)
            self._log_invalid(e, "")
            self.discard(terminate=True)
        finally:
            if self.dbapi_connection is not None:  # a listener objected: close it when it comes back
                self.doomed = "broken"

    def _log_invalid(self, error: BaseException | None, how: str) -> None:
        reason = "no reason given" if error is None else f"{type(error).__name__}: {error}"
        self.pool.logger.info("Connection %r %sinvalidated (%s)", self.dbapi_connection, how, reason)

    # -- the end of a lease -------------------------------------------------------------------

    def checkin(self) -> None:
        """Give the record back to its pool."""
        if not self.in_use:
            warnings.warn(f"Double checkin attempted on {self}", SAWarning, stacklevel=2)
            return
        self.pool.give_back(self)

    def end(self) -> None:
        """Tell who asked for it, and the listeners, that the lease is over."""
        connection = self.dbapi_connection
        while self.finalize_callback:
            finalizer = self.finalize_callback.pop()
            if connection is not None:
                finalizer(connection)
        checkin = self.pool.dispatch.checkin
        if checkin:
            checkin(connection, self)

    def __repr__(self) -> str:
        state = "closed" if self.dbapi_connection is None else "lent" if self.in_use else "idle"
        return f"<Record {state}: {self.dbapi_connection!r}>"
