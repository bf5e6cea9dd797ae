"""The pools of engines: SQLAlchemy's classes by name, each a policy over one core.

A policy says how many connections there are and who shares one. Each class is also a subclass of SQLAlchemy's
of that name, so that `isinstance` and listeners on the class go on working.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import sqlalchemy.pool as core

from sojourn.engine.lending import LendingPool
from sojourn.engine.proxies import Proxy
from sojourn.pooling.scaling import Autoscaler

if TYPE_CHECKING:
    from sojourn.engine.records import Record
    from sojourn.pooling.stats import PoolStats


class QueuePool(LendingPool, core.QueuePool):
    """Up to *pool_size* + *max_overflow* connections; who finds none free waits in line.

    Connections beyond *pool_size* are kept until they were idle for *pool_idle* seconds; 0 closes them on
    return. *min_idle* connections are kept open in advance, the others closed when idle for *max_idle*
    seconds. Who holds one for *leak_after* seconds is named in the log; after *reclaim_after* it is cut off.
    Transient connect errors are tried again for *connect_retry* seconds. *connect_inline* lets nobody but
    the caller connect. *max_waiting* is how many may wait. `self_wait="wait"` lets a thread wait although it
    holds everything itself.
    """

    exclusive = True

    def __init__(
        self,
        creator: Any,
        pool_size: int = 5,
        max_overflow: int = 10,
        timeout: float | None = 30.0,
        use_lifo: bool = True,
        pool_idle: float | None = 60.0,
        min_idle: int = 0,
        max_idle: float | None = None,
        leak_after: float | None = None,
        reclaim_after: float | None = None,
        connect_retry: float = 5.0,
        connect_inline: bool | None = None,
        max_waiting: int | None = None,
        self_wait: str = "raise",
        **options: Any,
    ) -> None:
        super().__init__(creator, **options)
        given = {
            "pool_size": pool_size,
            "max_overflow": max_overflow,
            "timeout": timeout,
            "use_lifo": use_lifo,
            "pool_idle": pool_idle,
            "min_idle": min_idle,
            "max_idle": max_idle,
            "leak_after": leak_after,
            "reclaim_after": reclaim_after,
            "connect_retry": connect_retry,
            "connect_inline": connect_inline,
            "max_waiting": max_waiting,
            "self_wait": self_wait,
        }
        self._start(
            given,
            size=pool_size,
            overflow=max_overflow,
            timeout=timeout,
            lifo=use_lifo,
            idle_limit=pool_idle,
            min_idle=min_idle,
            max_idle=max_idle,
            leak_after=leak_after,
            reclaim_after=reclaim_after,
            connect_retry=connect_retry,
            inline=connect_inline,
            max_waiting=max_waiting,
            self_wait=self_wait,
        )

    def resize(self, size: int, overflow: int | None = None) -> None:
        """Change the limits in place: surplus connections close, idle ones first; waiters get the room."""
        overflow = self._front.core.overflow if overflow is None else overflow
        self._front.resize(size, overflow)
        self._given = {**self._given, "pool_size": size, "max_overflow": overflow}

    def warm(self, n: int) -> None:
        """Open connections until *n* are idle."""
        self._front.warm(n)

    def autoscale(self, min: int, max: int, **options: Any) -> Autoscaler:  # noqa: A002 - reads well
        """Let the size follow the load, between *min* and *max*; see `Autoscaler` for the options."""
        self._stop_scaler()
        scaler = self._scaler = Autoscaler(self, min, max, **options)
        return scaler

    def dispose(self) -> None:
        """Close the idle connections now, the lent ones when they come back. The limit stays true."""
        self._stop_scaler()
        super().dispose()

    def size(self) -> int:
        """Return how many connections are kept."""
        return self._front.core.size  # type: ignore[no-any-return]

    def timeout(self) -> float:
        """Return how long a caller waits."""
        return self._front.timeout  # type: ignore[no-any-return]

    def checkedin(self) -> int:
        """Return how many connections are idle."""
        return len(self._front.core.idle)

    def checkedout(self) -> int:
        """Return how many connections are lent or being opened."""
        return self._front.core.leased + self._front.core.connecting  # type: ignore[no-any-return]

    def overflow(self) -> int:
        """Return how many connections there are beyond the size; negative while there are fewer."""
        core = self._front.core
        return core.total - core.size if core.size else 0

    def waiting(self) -> int:
        """Return how many callers wait for a connection."""
        return len(self._front.core.waiting)

    def status(self) -> str:
        """Describe the pool in a line."""
        return (
            f"Pool size: {self.size()}  Connections in pool: {self.checkedin()} "
            f"Current Overflow: {self.overflow()} Current Checked out connections: {self.checkedout()}"
        )


class AsyncAdaptedQueuePool(QueuePool, core.AsyncAdaptedQueuePool):
    """The name by which async engines ask for a queue; theirs wait in the event loop, see `AsyncPool`."""


class NullPool(LendingPool, core.NullPool):
    """No pool: a connection is opened for each lease, and closed after it."""

    exclusive = True
    after = "unpooled"

    def __init__(self, creator: Any, **options: Any) -> None:
        super().__init__(creator, **options)
        self._start({}, size=0, overflow=-1, inline=True)


class AssertionPool(LendingPool, core.AssertionPool):
    """One connection, and an AssertionError for whoever asks for a second one meanwhile."""

    exclusive = True

    def __init__(self, creator: Any, store_traceback: bool = True, **options: Any) -> None:
        super().__init__(creator, **options)
        self._start({"store_traceback": store_traceback}, size=1, overflow=0, inline=True)

    def connect(self) -> Any:
        """Lend the connection."""
        self._assert_idle()
        return super().connect()

    def lease(self) -> Any:
        """Lend the record."""
        self._assert_idle()
        return super().lease()

    def _assert_idle(self) -> None:
        if self._front.core.leased:
            where = "".join(f" at {lease.place}" for lease in self.leases())
            msg = f"connection is already checked out{where if self._given['store_traceback'] else ''}"
            raise AssertionError(msg)


class SharingPool(LendingPool):
    """Several users hold one record; the last of them resets it.

    To the front such a record stays lent, whether it has users or not.
    """

    shares = True
    _asks = False  # whether the server is asked before each first use

    def __init__(self, creator: Any, **options: Any) -> None:
        super().__init__(creator, **options)
        self.spares = deque(maxlen=0)  # a caller may still know a record whose connection is gone
        self._asks = bool(self.checks)

    def _current(self) -> Record | None:
        """Return the record for this caller, if there is one."""
        raise NotImplementedError

    def _keep(self, record: Record) -> None:
        """Make *record* the one for this caller."""
        raise NotImplementedError

    def _join(self) -> Record:
        """Return the record for this caller, open, with one more user."""
        record = self._current()
        if record is None or record.connection is None or record.doomed is not None or self._is_old(record):
            record = self._renew(record)
        elif self._asks and not record.users and not self.ping(record.connection):
            record.doomed = "server"
            record = self._renew(record)
        record.users += 1
        return record

    def _renew(self, record: Record | None) -> Record:
        if record is not None:
            if record.users:  # the others go on with it
                record.get_connection()
                return record
            self._drop(record, record.doomed or ("broken" if record.connection is None else "expired"))
        fresh: Record = self._front.acquire()
        if record is not None:
            fresh.keep_notes_of(record)
        self._keep(fresh)
        return fresh

    def _is_old(self, record: Record) -> bool:
        return bool(record.expires) and self._front.is_expired(record)

    def _drop(self, record: Record, reason: str) -> None:
        if record.lent:
            self._front.release(record, reason)

    def _leave(self, record: Record) -> bool:
        """Count one user less, and tell whether it was the last."""
        record.users -= 1
        return record.users == 0

    def connect(self) -> Any:
        """Lend the connection once more."""
        record = self._join()
        proxy = Proxy(self, record)
        if self._watch.sees_lease():
            self._announce(record, proxy)
        return proxy

    def lease(self) -> Any:
        """Lend the record once more."""
        record = self._join()
        if self._watch.sees_lease():
            self._announce(record, None)
        return record

    def take_back(self, proxy: Proxy, was_reset: bool = False) -> None:
        """End the lease of *proxy*; the last user resets the connection."""
        record, connection = proxy.record, proxy.dbapi_connection
        proxy.record = proxy.dbapi_connection = None
        if record is None or self._leave(record):
            self._end(record, connection, was_reset and not record.soiled if record else was_reset)
        else:
            record.soiled = True

    def end_lease(self, record: Any, dirty: bool = False) -> None:
        """End the lease of a record; the last user resets the connection."""
        if self._leave(record):
            super().end_lease(record, dirty or record.soiled)
        elif dirty:
            record.soiled = True

    def _let_go(self, record: Record) -> None:
        if self._leave(record):
            super()._let_go(record)
        else:
            record.dbapi_connection = record.holder = None  # the others hold the connection itself

    def give_back(self, record: Any) -> None:
        """Let the record rest until somebody joins again."""
        record.soiled = False
        record.holder = None
        if record.finalize_callback or self._watch.sees_return():
            record.end()
        if record.doomed is not None or record.connection is None:
            self._drop(record, record.doomed or "broken")

    def dispose(self) -> None:
        """Close what nobody uses, and the rest after its last use."""
        self._front.dispose()
        for record in [*self._front.core.lent]:
            if record.users:
                record.doomed = "dispose"
            else:
                self._drop(record, "dispose")
        self.logger.info("Pool disposed. %s", self.status())

    def stats(self) -> PoolStats:
        """Return the numbers of the moment; used are the connections that have users."""
        stats = super().stats()
        used = sum(record.users > 0 for record in [*self._front.core.lent])
        return replace(stats, used=used, idle=stats.used + stats.idle - used)


class StaticPool(SharingPool, core.StaticPool):
    """One connection for everybody, at the same time."""

    _record: Any = None
    _lock: Any = None

    def __init__(self, creator: Any, **options: Any) -> None:
        super().__init__(creator, **options)
        self._start({}, size=0, overflow=-1, inline=True)
        self._lock = threading.RLock()  # a proxy may be collected, and come back, while it is held

    @property
    def connection(self) -> Any:
        """The record of the one connection, opened if there is none."""
        with self._lock:
            return self._current() or self._renew(None)

    def _current(self) -> Record | None:
        return self._record  # type: ignore[no-any-return]

    def _keep(self, record: Record) -> None:
        self._record = record

    def _join(self) -> Record:
        with self._lock:
            return super()._join()

    def _leave(self, record: Record) -> bool:
        with self._lock:
            return super()._leave(record)


class SingletonThreadPool(SharingPool, core.SingletonThreadPool):
    """One connection per thread, as SQLite's memory databases need it.

    Of more than *pool_size* threads, some find their connection replaced when they come back.
    """

    _mine: Any = None
    _all_conns: Any = None  # the name that SQLAlchemy's has

    def __init__(self, creator: Any, pool_size: int = 5, **options: Any) -> None:
        super().__init__(creator, **options)
        self.size = pool_size
        self._mine = threading.local()
        self._all_conns = set()
        self._start({"pool_size": pool_size}, size=0, overflow=-1, inline=True)

    def _current(self) -> Record | None:
        return getattr(self._mine, "record", None)

    def _keep(self, record: Record) -> None:
        for other in [*self._all_conns]:
            if len(self._all_conns) < self.size:
                break
            if not other.users:
                other.doomed = "overflow"  # its thread closes it: SQLite's connections belong to one
                self._all_conns.discard(other)
        self._all_conns.add(record)
        self._mine.record = record
        self._mine.end = ThreadEnd(self, record)

    def _drop(self, record: Record, reason: str) -> None:
        self._all_conns.discard(record)
        super()._drop(record, reason)

    def forget(self, record: Record) -> None:
        """Let go of the connection of a thread that has ended; it closes when it is collected."""
        self._all_conns.discard(record)
        self._front.detach(record)

    def connect(self) -> Any:
        """Lend the connection once more: the same proxy as long as there is one."""
        try:
            record = self._mine.record
        except AttributeError:
            record = None
        if (
            record is None
            or record.connection is None
            or record.doomed is not None
            or record.expires
            or self._asks
        ):
            record = self._join()
        else:
            record.users += 1
        holder = record.holder
        if holder is not None:
            proxy = holder()
            if proxy is not None and proxy.dbapi_connection is not None:
                record.users -= 1
                proxy.closes += 1
                return proxy
        proxy = Proxy(self, record)
        record.holder = weakref.ref(proxy)
        if self._watch.sees_lease():
            self._announce(record, proxy)
        return proxy

    def take_back(self, proxy: Proxy, was_reset: bool = False) -> None:
        """End the lease of *proxy*; the last user resets the connection."""
        record = proxy.record
        if (
            record is not None
            and record.users == 1
            and record.doomed is None
            and record.rollback is not None
            and proxy.dbapi_connection is record.connection
            and not (record.finalize_callback or record.tainted)
            and self._watch.is_quiet()
        ):
            try:
                if record.soiled or not was_reset:
                    record.rollback()
            except Exception:  # noqa: BLE001, S110 - below it is met again, and told
                pass
            else:
                proxy.record = proxy.dbapi_connection = record.holder = None
                record.users = 0
                record.soiled = False
                return
        super().take_back(proxy, was_reset)

    def status(self) -> str:
        """Describe the pool in a line."""
        return f"SingletonThreadPool id:{id(self)} size: {len(self._all_conns)}"


class ThreadEnd:
    """What is collected with its thread, and takes the thread's connection out of the pool."""

    def __init__(self, pool: SingletonThreadPool, record: Record) -> None:
        self._pool = weakref.ref(pool)
        self._record = record

    def __del__(self) -> None:
        pool, record = self._pool(), self._record
        if pool is not None and record.lent and not record.users:
            pool.forget(record)


#: SQLAlchemy's class -> ours.
OURS: dict[type[core.Pool], type[core.Pool]] = {
    core.QueuePool: QueuePool,
    core.AsyncAdaptedQueuePool: AsyncAdaptedQueuePool,
    core.NullPool: NullPool,
    core.AssertionPool: AssertionPool,
    core.StaticPool: StaticPool,
    core.SingletonThreadPool: SingletonThreadPool,
}
