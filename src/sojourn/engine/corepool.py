"""Pools that Core's Connection uses like its own, and that lease records to sessions without a proxy.

A *record* is Core's keeper of one driver connection: it opens, ages and invalidates it, with Core's pool
events. `lease()` lends the record itself, which costs a third of Core's proxy; where listeners, a ping or a
log want to see each lease it returns None, and the caller takes `connect()`, as Core does.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.pool import Pool as CorePool
from sqlalchemy.pool import QueuePool, SingletonThreadPool, StaticPool

from sojourn import corelink
from sojourn.pool import Pool


class Leasing:
    """Lend records: the part that the three pools share."""

    exclusive = False  # whether a lent connection has one user, who may reset it

    def lease(self) -> Any:
        """Lend a record with an open connection, or return None where Core's proxy is needed."""
        if corelink.is_watched_pool(self):
            return None
        record = corelink.take_record(self)
        corelink.open_record(record)
        return record

    def end_lease(self, record: Any, dirty: bool = False) -> None:
        """Take a record back; a *dirty* one is reset as `pool_reset_on_return` says."""
        if dirty and record.dbapi_connection is not None:
            reset(self, record)
        corelink.give_record(record)


class LeasePool(Leasing, corelink.RecordPool):
    """The pool of every engine that would have a QueuePool: first come, first served.

    Disposing keeps the pool: idle connections close at once, lent ones when they come back, and the limit
    holds meanwhile.
    """

    exclusive = True

    def __init__(
        self,
        creator: Any,
        pool_size: int = 5,
        max_overflow: int = 10,
        timeout: float | None = 30.0,
        use_lifo: bool = False,
        **kw: Any,
    ) -> None:
        super().__init__(creator, pool_size, max_overflow, timeout or 0.0, use_lifo, **kw)
        self._front: Pool[Any] = Pool(
            self.new_record, _close, size=pool_size, overflow=max_overflow, timeout=timeout, lifo=use_lifo
        )
        self._watch = corelink.PoolWatch(self)

    def lease(self) -> Any:
        """Lend a record with an open connection; the short way of Leasing.lease."""
        if self._watch.sees_lease():
            return None
        entry = self._front.acquire()
        record = entry.connection
        record.entry = entry
        try:
            record.get_connection()
        except BaseException as error:
            corelink.fail_record(record, error)
            raise
        return record

    def take_record(self) -> Any:
        """Lend a record, waiting for one if need be."""
        entry = self._front.acquire()
        record = entry.connection
        record.entry = entry
        return record

    def give_record(self, record: Any) -> None:
        """Take a record back. Never blocks: the garbage collector may be calling."""
        self._front.release(record.entry)

    def end_lease(self, record: Any, dirty: bool = False) -> None:
        """Take a record back, by the short way if it has nothing to clean up."""
        if dirty and record.dbapi_connection is not None:
            reset(self, record)
        if record.finalize_callback or self._watch.sees_return():
            corelink.give_record(record)
        else:
            self._front.release(record.entry)

    def dispose(self) -> None:
        """Close the idle connections, and the lent ones as they come back."""
        self._front.dispose()
        self.logger.info("Pool disposed. %s", self.status())

    def recreate(self) -> LeasePool:
        """Make a new, empty pool like this one."""
        self.logger.info("Pool recreating")
        core = self._front.core
        return type(self)(
            **corelink.pool_arguments(self),
            pool_size=core.size,
            max_overflow=core.overflow,
            timeout=self._front.timeout,
            use_lifo=core.lifo,
        )

    def size(self) -> int:
        """Return how many connections are kept."""
        return self._front.core.size

    def timeout(self) -> float:
        """Return how long a caller waits."""
        return self._front.timeout  # type: ignore[return-value]

    def checkedin(self) -> int:
        """Return how many connections are idle."""
        return len(self._front.core.idle)

    def checkedout(self) -> int:
        """Return how many connections are lent or being opened."""
        return self._front.core.leased + self._front.core.connecting

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


class SharedPool(Leasing, StaticPool):
    """One connection for everybody; the last lease to end resets it."""

    def lease(self) -> Any:
        """Lend the record once more."""
        record = super().lease()
        if record is not None:
            record.leases = getattr(record, "leases", 0) + 1
        return record

    def end_lease(self, record: Any, dirty: bool = False) -> None:
        """End one lease."""
        record.leases -= 1
        if not record.leases:
            super().end_lease(record, dirty)


class ThreadPool(Leasing, SingletonThreadPool):
    """One connection per thread, as Core gives SQLite's memory databases; the last user resets it.

    Leases are counted on the record, Core's users by their common proxy. A proxy that comes to life while
    there are leases takes them over, so that neither side resets what the other works on.
    """

    def lease(self) -> Any:
        """Lend the record, unless Core's proxy holds it: then the caller takes part in that."""
        if corelink.is_watched_pool(self):
            return None
        record = corelink.take_record(self)
        if corelink.live_proxy(record) is not None:
            return None
        corelink.open_record(record)
        record.leases = getattr(record, "leases", 0) + 1
        return record

    def end_lease(self, record: Any, dirty: bool = False) -> None:
        """End one lease, on the record or on the proxy that took it over."""
        proxy = getattr(record, "heir", None)
        if proxy is None:
            record.leases -= 1
            if not record.leases:
                super().end_lease(record, dirty)
            return
        record.inherited -= 1
        if not record.inherited:
            record.heir = None
        proxy.close()

    def connect(self) -> Any:
        """Return Core's proxy, which takes over the leases there are."""
        proxy = super().connect()
        record = corelink.proxy_record(proxy)
        leases = getattr(record, "leases", 0)
        if leases:
            corelink.hold_proxy(proxy, leases)
            record.leases, record.inherited, record.heir = 0, leases, proxy
        return proxy


#: Core's class -> ours; any other class is used as it is, through Core's proxy.
OURS: dict[type[CorePool], type[CorePool]] = {
    QueuePool: LeasePool,
    SingletonThreadPool: ThreadPool,
    StaticPool: SharedPool,
}


def reset(pool: Any, record: Any) -> None:
    """Undo what the last user left in the connection; close it if that fails."""
    style = corelink.reset_style(pool)
    dialect = corelink.pool_dialect(pool)
    try:
        if style == "rollback":
            dialect.do_rollback(record.dbapi_connection)
        elif style == "commit":
            dialect.do_commit(record.dbapi_connection)
    except Exception as error:
        pool.logger.exception("Exception during reset or similar")
        record.invalidate(error)


def _close(record: Any) -> None:
    record.lane = None
    record.close()
