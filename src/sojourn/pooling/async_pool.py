"""`AsyncPool`: the asyncio front of the pool, one core per event loop.

A connection belongs to the event loop it was opened on, so each loop has a pool of its own (`LoopPool`) with
the same limits. Those of closed loops are abandoned, and a forked child leaves all of them behind.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
import weakref
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from sojourn.pooling.core import PoolCore
from sojourn.pooling.handling import Handling as Handling
from sojourn.pooling.handling import Manners
from sojourn.pooling.histogram import Histogram
from sojourn.pooling.loop_pool import LoopPool
from sojourn.pooling.scaling import Autoscaler, LoopDriver
from sojourn.pooling.stats import PoolStats

if TYPE_CHECKING:
    from collections.abc import Callable

    from sojourn.pooling.stats import LeaseInfo


class AsyncPool:
    """Lend connections to tasks, first come, first served.

    Limits, ages and *min_idle* are those of `PoolCore`. *timeout* is how many seconds a caller waits, None
    without end. A connect error that may pass is tried again for up to *connect_retry* seconds. A connection
    that was idle for *ping_after* seconds is asked for a sign of life before it is lent; None: never.
    *self_wait* "raise" tells a task at once that it would wait for itself, "wait" lets it wait for help.
    *max_waiting* is how long the line may grow. *reuse* off closes each connection after its lease. *shared*
    keeps one pool for all loops, as an in-memory database needs.
    """

    def __init__(
        self,
        handling: Handling,
        *,
        size: int = 5,
        overflow: int = 10,
        timeout: float | None = 30.0,
        max_age: float | None = None,
        idle_limit: float | None = 60.0,
        max_idle: float | None = None,
        min_idle: int = 0,
        lifo: bool = True,
        leak_after: float | None = None,
        reclaim_after: float | None = None,
        connect_retry: float = 5.0,
        ping_after: float | None = 30.0,
        self_wait: str = "raise",
        max_waiting: int | None = None,
        reuse: bool = True,
        shared: bool = False,
        name: str = "",
        clock: Callable[[], float] = time.monotonic,
        luck: Callable[[], float] = random.random,
    ) -> None:
        self._handling = handling
        self._limits = (size, overflow)
        self._times: dict[str, Any] = {  # Any: numbers, None, a bool
            "max_age": max_age,
            "idle_limit": idle_limit,
            "max_idle": max_idle,
            "min_idle": min_idle,
            "lifo": lifo,
            "leak_after": leak_after,
            "reclaim_after": reclaim_after,
        }
        self._manners = Manners(
            timeout=timeout,
            connect_retry=connect_retry,
            ping_after=ping_after,
            self_wait=self_wait,
            max_waiting=max_waiting,
            reuse=reuse,
            name=name,
            clock=clock,
            luck=luck,
        )
        self._shared = shared
        self._pools: dict[asyncio.AbstractEventLoop, LoopPool] = {}
        self._last: LoopPool | None = None
        self._scaler: Autoscaler | None = None
        _all.add(self)

    # -- loops --------------------------------------------------------------------------------

    def here(self) -> LoopPool:
        """Return the pool of the running event loop."""
        loop = asyncio.get_running_loop()
        last = self._last
        if last is not None and last.loop is loop:
            return last
        if last is not None and self._shared:
            last.loop = loop
            return last
        pool = self._pools.get(loop)
        if pool is None:
            self._leave_closed()
            core = PoolCore(*self._limits, racing=not self._shared, **self._times)
            pool = self._pools[loop] = LoopPool(self._handling, core, loop, self._manners)
            if core.min_idle:
                pool.look_after()
        self._last = pool
        return pool

    def _leave_closed(self) -> None:
        for loop, pool in list(self._pools.items()):
            if loop.is_closed() and not self._shared:
                del self._pools[loop]
                pool.abandon()

    def leave_behind(self) -> None:
        """Begin anew in a forked child: what there is belongs to the parent."""
        pools, self._pools, self._last = self._pools, {}, None
        for pool in pools.values():
            pool.leave_behind()
            _parents.append(pool)

    def _cores(self) -> list[PoolCore]:
        return [pool.core for pool in list(self._pools.values())]

    # -- all at once --------------------------------------------------------------------------

    async def warm(self, n: int) -> None:
        """Open connections until *n* are idle, as far as the limits allow; raise the driver's error."""
        await self.here().warm(n)

    def resize(self, size: int, overflow: int | None = None) -> None:
        """Change the limits in place: surplus connections close, idle ones first; waiters get the room."""
        overflow = self._limits[1] if overflow is None else overflow
        self._limits = (size, overflow)
        running = asyncio._get_running_loop()  # noqa: SLF001 - documented, and raises nothing
        for loop, pool in list(self._pools.items()):
            if loop is running:
                pool.resize(size, overflow)
            elif not loop.is_closed():
                loop.call_soon_threadsafe(pool.resize, size, overflow)

    def autoscale(self, min: int, max: int, **options: Any) -> Autoscaler:  # noqa: A002 - the pair reads well
        """Let the size follow the load, between *min* and *max*; options: see `Autoscaler`."""
        self._stop_scaler()
        self._scaler = Autoscaler(self, min, max, driver=LoopDriver(asyncio.get_running_loop()), **options)
        return self._scaler

    def _stop_scaler(self) -> None:
        scaler, self._scaler = self._scaler, None
        if scaler is not None:
            scaler.stop()

    def doom(self, born: float, reason: str = "server") -> None:
        """Close the running loop's connections opened until *born*: idle ones now, others on return."""
        self.here().doom(born, reason)

    async def dispose(self) -> None:
        """Close the running loop's idle connections now, its lent ones when they come back.

        The limit stays true, and the pool usable. Closed loops' connections are abandoned.
        """
        self._stop_scaler()
        self._leave_closed()
        await self.here().dispose()

    async def close(self, timeout: float | None = None) -> None:
        """Lend nothing any more in this loop; wait *timeout* seconds for what is lent, then cut it off."""
        self._stop_scaler()
        self._leave_closed()
        await self.here().close(timeout)

    # -- what there is ------------------------------------------------------------------------

    def stats(self) -> PoolStats:
        """Return the numbers of the moment, over all event loops."""
        pools = list(self._pools.values())
        size, overflow = self._limits
        overflow = -1 if size == 0 else overflow
        cores = [pool.core for pool in pools]
        counted: dict[str, int] = {}
        closed: dict[str, int] = {}
        resets: dict[str, int] = {}
        for core in cores:
            _add(counted, core.counts)
            _add(closed, core.closed_by)
        for pool in pools:
            _add(resets, pool.resets)
        known = {field.name for field in fields(PoolStats)}
        return PoolStats(
            name=self._manners.name,
            idle=sum(len(core.idle) for core in cores),
            used=sum(core.leased for core in cores),
            connecting=sum(core.connecting for core in cores),
            waiting=sum(len(core.waiting) for core in cores),
            size=size,
            overflow=overflow,
            max=None if overflow == -1 else size + overflow,
            min_idle=self._times["min_idle"],
            closed=closed,
            gc_returns=sum(pool.gc_returns for pool in pools),
            pings=sum(pool.pings for pool in pools),
            pings_failed=sum(pool.pings_failed for pool in pools),
            resets=resets,
            wait_time=_sum([core.wait_time for core in cores]),
            use_time=_sum([core.use_time for core in cores]),
            create_time=_sum([core.create_time for core in cores]),
            **{name: number for name, number in counted.items() if name in known},
        )

    def leases(self) -> list[LeaseInfo]:
        """Say who holds a connection, since when and from where; the oldest first."""
        found = [lease for pool in list(self._pools.values()) for lease in pool.leases()]
        return sorted(found, key=lambda lease: -lease.age)

    def size(self) -> int:
        """Return how many connections are kept, per event loop."""
        return self._limits[0]

    def timeout(self) -> float | None:
        """Return how many seconds a caller waits."""
        return self._manners.timeout

    def checkedin(self) -> int:
        """Return how many connections are idle."""
        return sum(len(core.idle) for core in self._cores())

    def checkedout(self) -> int:
        """Return how many connections are lent or being opened."""
        return sum(core.leased + core.connecting for core in self._cores())

    def overflow(self) -> int:
        """Return how many connections there are beyond the size; negative while there are fewer."""
        return sum(core.total for core in self._cores()) - self._limits[0] if self._limits[0] else 0

    def waiting(self) -> int:
        """Return how many tasks wait for a connection."""
        return sum(len(core.waiting) for core in self._cores())

    def status(self) -> str:
        """Describe the pool in a line, as SQLAlchemy does."""
        return (
            f"Pool size: {self.size()}  Connections in pool: {self.checkedin()} "
            f"Current Overflow: {self.overflow()} Current Checked out connections: {self.checkedout()}"
        )

    def __repr__(self) -> str:
        pools = [repr(pool) for pool in self._pools.values()]
        return f"<AsyncPool {', '.join(pools) or 'not used yet'}>"


def _add(total: dict[str, int], more: dict[str, int]) -> None:
    for name, number in more.items():
        total[name] = total.get(name, 0) + number


def _sum(parts: list[Histogram]) -> Histogram:
    """Return the histogram of all durations that the *parts* counted."""
    total = Histogram()
    for part in parts:
        total = total.plus(part)
    return total


_all: weakref.WeakSet[AsyncPool] = weakref.WeakSet()
_parents: list[LoopPool] = []  # kept for ever in a child: their end would say goodbye to the parent's servers


def _after_fork() -> None:
    for pool in list(_all):
        pool.leave_behind()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
