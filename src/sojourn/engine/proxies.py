"""`Proxy`: a lent driver connection, whose `close()` gives it back to the pool.

A proxy that nobody holds any more gives its connection back too, and says where it was acquired. Until a
statement has run it holds no state, so a connection whose server is gone by then is exchanged silently.
"""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

from sqlalchemy.exc import InvalidRequestError, SAWarning
from sqlalchemy.pool import PoolProxiedConnection

from sojourn.engine.taint import changes_session
from sojourn.pooling.keeper import limit

#: What the driver connection can be asked without any statement being sent that we do not see.
HARMLESS = frozenset(
    (
        "broken",
        "character_set_name",
        "closed",
        "commit",
        "deferrable",
        "encoding",
        "fileno",
        "in_transaction",
        "info",
        "isolation_level",
        "notices",
        "open",
        "readonly",
        "row_factory",
        "server_info",
        "server_version",
        "status",
        "thread_id",
        "total_changes",
    )
)


class Proxy(PoolProxiedConnection):
    """A connection of *pool*, lent to whoever holds this."""

    record: Any = None  # None once it is detached or given back
    dbapi_connection: Any = None
    unused = True  # nobody has asked it for anything, so there is no state to lose
    _shown = False  # the statement for the next cursor was looked at
    closes = 1  # how many more calls of close() give it back

    def __init__(self, pool: Any, record: Any) -> None:
        self._pool = pool
        self.record = record
        self.dbapi_connection = record.connection

    # -- what there is ------------------------------------------------------------------------

    @property
    def _connection_record(self) -> Any:
        """The record, by the name that Core's dialects use."""
        return self.record

    @property
    def driver_connection(self) -> Any:  # type: ignore[override]  # Core's own is read-only too
        """The driver's own connection; for async drivers that is not the one of the DB-API."""
        connection = self.dbapi_connection
        if connection is None or self.record is None:
            return None
        self.unused = False
        self._suspect()
        return self._pool.dialect.get_driver_connection(connection)

    @property
    def is_valid(self) -> bool:
        """Whether there is a driver connection."""
        return self.dbapi_connection is not None

    @property
    def is_detached(self) -> bool:
        """Whether the pool has let it go."""
        return self.record is None

    @property
    def info(self) -> dict[Any, Any]:
        """Notes that are forgotten with the connection."""
        record = self.record
        if record is not None:
            return record.info  # type: ignore[no-any-return]
        return self.__dict__.setdefault("notes", {})  # type: ignore[no-any-return]

    @property
    def record_info(self) -> dict[Any, Any] | None:
        """Notes that stay when the connection is replaced; None once it is detached."""
        record = self.record
        return None if record is None else record.record_info

    # -- use ----------------------------------------------------------------------------------

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        """Make a cursor; the first of a lease asks the socket once more."""
        if self.unused:
            self.unused = False
            record = self.record
            if record is not None and record.poll is not None and record.poll(0):
                self._pool.exchange(self)
        if self._shown:
            self._shown = False
        else:
            self._suspect()
        return self.dbapi_connection.cursor(*args, **kwargs)

    def see(self, text: str) -> None:
        """Look at a statement that Core is about to send with the next cursor."""
        self._shown = True
        record = self.record
        if record is not None:
            record.statement = text
            if not record.tainted and changes_session(text, self._pool.dialect.name):
                record.tainted = True

    def _suspect(self) -> None:
        """Expect of whoever has the driver's own objects that the server session is not what it was."""
        record = self.record
        if record is not None and record.poll is not None:
            record.tainted = True

    def rollback(self) -> None:
        """Roll back, cut off at the limit of a reset: Core does this on its own before it gives back."""
        self.unused = False
        connection, record, health = self.dbapi_connection, self.record, self._pool.health
        if record is None or record.poll is None or health.in_transaction(connection) is False:
            connection.rollback()
            return
        try:
            with limit(partial(health.cut, connection), health.reset_limit):
                connection.rollback()
        except TimeoutError as late:
            raise late.__cause__ or late from None  # in the driver's words it is a lost connection

    def __getattr__(self, name: str) -> Any:
        """Read anything else from the driver connection."""
        self.unused = False
        if name not in HARMLESS:
            self._suspect()
        return getattr(self.dbapi_connection, name)

    # -- the end ------------------------------------------------------------------------------

    def close(self) -> None:
        """Give the connection back, or close it if it is detached; a second call does nothing."""
        self.closes -= 1
        if self.closes == 0:
            self._pool.take_back(self)

    def _close_special(self, transaction_reset: bool = False) -> None:
        """Give the connection back; Core's Connection says that it has rolled back already."""
        self.closes -= 1
        if self.closes == 0:
            self._pool.take_back(self, transaction_reset)

    def detach(self) -> None:
        """Let the pool forget the connection, which is closed for good when this is."""
        if self.record is not None:
            self._pool.detach(self)

    def invalidate(self, e: BaseException | None = None, soft: bool = False) -> None:
        """Close the driver connection, which nobody must use again; if *soft*, after the present lease."""
        if self.dbapi_connection is None:
            warnings.warn("Can't invalidate an already-closed connection.", SAWarning, stacklevel=2)
            return
        record = self.record
        try:
            if record is not None:
                record.invalidate(e, soft)
        finally:
            if not soft:
                self.dbapi_connection = None
                self._pool.take_back(self)

    def __del__(self) -> None:
        if self.record is not None:
            self._pool.collect(self)

    def __repr__(self) -> str:
        state = (
            "lost or given back"
            if self.dbapi_connection is None
            else "detached"
            if self.is_detached
            else "lent"
        )
        return f"<Proxy {state}: {self.dbapi_connection!r}>"


class LentProxy(Proxy):
    """A view of a connection that somebody else will give back."""

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        """Make a cursor."""
        if self._shown:
            self._shown = False
        else:
            self._suspect()
        return self.dbapi_connection.cursor(*args, **kwargs)

    def close(self) -> None:
        """Leave the return to the owner."""

    def _close_special(self, transaction_reset: bool = False) -> None:
        """Leave the return to the owner."""

    def detach(self) -> None:
        """Refuse: the owner will give it back."""
        msg = (
            "this connection is lent by a session, which will give it back; engine.connect() can be detached"
        )
        raise InvalidRequestError(msg)

    def invalidate(self, e: BaseException | None = None, soft: bool = False) -> None:
        """Close the driver connection; the owner notices."""
        self.record.invalidate(e, soft)
        if not soft:
            self.dbapi_connection = None

    def __del__(self) -> None:
        """Leave the return to the owner."""
