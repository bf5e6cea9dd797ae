"""What listeners, logs and Core see of an async pool: a pool to listen to, records, proxies.

Listeners are written for a blocking DB-API, so one that uses the connection must run in a thread. Most do
not: they count, time or note. The first call of each listener runs in a thread and shows what it does; one
that left the connection alone is called in the event loop from then on, where a connection refuses to
block. Should it want to after all, it is called once more, in a thread.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

from sqlalchemy import pool as core
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from sojourn import corelink, errors
from sojourn.engine.records import Notes
from sojourn.pooling.core import Entry

if TYPE_CHECKING:
    from collections.abc import Callable

    from sojourn.engine.natives import Native
    from sojourn.pooling.async_pool import AsyncPool

ELSEWHERE = "this connection is lent by an async engine, which will give it back"


class ListenedPool(corelink.EventPool, core.AsyncAdaptedQueuePool):
    """The pool of an async engine's `sync_engine`: holds listeners and options, lends nothing."""

    lending: AsyncPool | None = None

    def connect(self) -> Any:
        """Refuse: connections are lent by the async engine."""
        raise errors.BlockingCall

    def dispose(self) -> None:
        """Leave closing to the async engine."""

    def recreate(self) -> ListenedPool:
        """Stay: the async engine's pool is never replaced."""
        return self

    def _front(self) -> AsyncPool:
        assert self.lending is not None
        return self.lending

    def size(self) -> int:
        """Return how many connections are kept."""
        return self._front().size()

    def timeout(self) -> float:
        """Return how long a caller waits."""
        return self._front().timeout()  # type: ignore[return-value]

    def checkedin(self) -> int:
        """Return how many connections are idle."""
        return self._front().checkedin()

    def checkedout(self) -> int:
        """Return how many connections are lent or being opened."""
        return self._front().checkedout()

    def overflow(self) -> int:
        """Return how many connections there are beyond the size."""
        return self._front().overflow()

    def status(self) -> str:
        """Describe the pool in a line."""
        return self._front().status()

    def __repr__(self) -> str:
        return f"<ListenedPool of {self.lending!r}>"


class AsyncRecord(Entry, Notes, ConnectionPoolEntry):
    """One pooled connection of an async driver; `connection` is its `Native`."""

    def __init__(self, events: Listeners, native: Native | None, notes: dict[Any, Any] | None = None) -> None:
        super().__init__(native)
        self.events = events
        self.starttime = time.time()
        self.fd: int | None = None
        self.lane: Any = None  # a weak reference to the lane that has it
        self.finalize_callback: deque[Callable[[Any], object]] = deque()
        self.notes = notes

    @property
    def dbapi_connection(self) -> Any:  # type: ignore[override]
        """The connection as blocking code uses it, None once it is closed."""
        native = self.connection
        return None if native is None else native.bridge

    @property
    def driver_connection(self) -> Any:  # type: ignore[override]
        """The driver's own connection."""
        native = self.connection
        return None if native is None else native.raw

    @property
    def number(self) -> int | None:
        """How the server numbers the session."""
        native = self.connection
        return None if native is None else native.number

    @property
    def in_use(self) -> bool:
        """Whether the connection is lent."""
        return self.lent

    @property
    def last_connect_time(self) -> float:
        """When the connection was opened, by the wall clock."""
        return self.starttime

    def close(self) -> None:
        """Refuse: closing is awaited."""
        raise InvalidRequestError(ELSEWHERE)

    def invalidate(self, e: BaseException | None = None, soft: bool = False) -> None:
        """Throw the connection away; if *soft*, when it comes back."""
        lane = None if self.lane is None else self.lane()
        if soft:
            self.events.tell_now("soft_invalidate", self.dbapi_connection, self, e)
            self.doomed = self.doomed or "soft"
        elif lane is not None:
            lane.invalidate(e)
        else:
            self.doomed = self.doomed or "broken"

    def __repr__(self) -> str:
        state = "closed" if self.connection is None else "lent" if self.lent else "idle"
        return f"<AsyncRecord {state}: {self.connection!r}>"


class AsyncProxy(PoolProxiedConnection):
    """Core's view of a lent connection, which its lane will give back."""

    dbapi_connection: Any

    def __init__(self, pool: Any, bridge: Any, record: AsyncRecord) -> None:
        self._pool = pool
        self._connection_record: Any = record  # the name that Core's dialects use
        self.dbapi_connection = bridge

    def serve(self, record: AsyncRecord) -> None:
        """Stand for *record* from now on; it has taken the bridge along."""
        self._connection_record = record

    @property
    def driver_connection(self) -> Any:  # type: ignore[override]
        """The driver's own connection."""
        record = self._connection_record
        return None if record is None else self.dbapi_connection.driver_connection

    @property
    def is_valid(self) -> bool:
        """Whether there is a connection."""
        return self.dbapi_connection is not None

    @property
    def is_detached(self) -> bool:
        """Whether the pool has let it go."""
        return self._connection_record is None

    @property
    def info(self) -> dict[Any, Any]:
        """Notes that are forgotten with the connection."""
        return self._connection_record.info  # type: ignore[no-any-return]

    @property
    def record_info(self) -> dict[Any, Any] | None:
        """Notes that stay when the connection is replaced."""
        return self._connection_record.record_info  # type: ignore[no-any-return]

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        """Make a cursor."""
        return self.dbapi_connection.cursor(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        """Read anything else from the connection."""
        return getattr(self.dbapi_connection, name)

    def see(self, text: str) -> None:
        """Leave the looking at statements to the bridge, which sees all of them."""

    def close(self) -> None:
        """Leave the return to the lane."""

    def _close_special(self, transaction_reset: bool = False) -> None:
        """Leave the return to the lane."""

    def detach(self) -> None:
        """Refuse: it is lent."""
        raise InvalidRequestError(ELSEWHERE)

    def invalidate(self, e: BaseException | None = None, soft: bool = False) -> None:
        """Throw the connection away; if *soft*, when it comes back."""
        self._connection_record.invalidate(e, soft)
        if not soft:
            self.dbapi_connection = None

    def __repr__(self) -> str:
        return f"<AsyncProxy of {self._connection_record!r}>"


class Listeners:
    """Call the listeners of *pool*, in the event loop or in a thread, and write its log."""

    def __init__(self, pool: ListenedPool) -> None:
        self.pool = pool
        self._use: dict[Any, bool] = {}  # listener -> whether it uses the connection

    def hear(self, name: str) -> bool:
        """Tell whether somebody listens to the event *name*."""
        return bool(getattr(self.pool.dispatch, name))

    @property
    def watches_leases(self) -> bool:
        """Whether somebody wants to know of each lease."""
        return bool(self.pool.dispatch.checkout) or self.pool.logs_leases()

    @property
    def watches_returns(self) -> bool:
        """Whether somebody wants to know of each return."""
        dispatch = self.pool.dispatch
        return bool(dispatch.reset or dispatch.checkin) or self.pool.logs_leases()

    async def tell(self, name: str, native: Native, *args: Any) -> None:
        """Call the listeners of an event, each where it belongs; what one raises ends the matter."""
        for listener in getattr(self.pool.dispatch, name):
            if self._use.get(listener) is False:
                try:
                    listener(*args)
                except errors.BlockingCall:
                    pass
                else:
                    continue
            asked = native.bridge.asked
            await native.block(listener, *args)
            self._use[listener] = native.bridge.asked != asked

    def tell_now(self, name: str, *args: Any) -> None:
        """Call the listeners of an event where nobody can wait for a thread; what one raises is logged."""
        for listener in getattr(self.pool.dispatch, name):
            try:
                listener(*args)
            except Exception:
                self.pool.logger.exception("A listener of %r failed", name)

    def debug(self, text: str, *args: Any) -> None:
        """Write a line on request (echo_pool="debug", or the logger's level)."""
        if self.pool.logs_leases():
            self.pool.logger.debug(text, *args)

    def note(self, text: str, *args: Any) -> None:
        """Write a line about something that does not happen at each lease (echo_pool=True)."""
        self.pool.logger.info(text, *args)
