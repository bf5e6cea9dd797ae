"""`AsyncPool`: the pool core without a lock, one core per event loop, its waiters on futures.

A connection belongs to the event loop it was opened on, so each loop has a core of its own
(`LoopPool`). Between two awaits nobody else runs, hence no lock. Three things keep a cancelled task
from costing a connection: a waiter that is cancelled gives its ticket up, and with it whatever it was
served meanwhile; a failed or cancelled connect passes its permit on; giving back never awaits.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sojourn.errors import PoolTimeout
from sojourn.pool.core import Actions, Connect, Entry, Lease, PoolCore, Ticket, Wait, Wake

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

C = TypeVar("C")


class Handling(Generic[C]):
    """What a pool can do with a connection; the engine supplies it."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[C]],
        close: Callable[[C], Awaitable[None]],
        terminate: Callable[[C], asyncio.Future[Any] | None],
        *,
        alive: Callable[[C], bool] | None = None,
        ping: Callable[[C], Awaitable[bool]] | None = None,
    ) -> None:
        self.connect = connect
        self.close = close  # says goodbye; may take a while
        self.terminate = terminate  # at once, never awaits; returns what is done when all of it is over
        self.alive = alive  # asks the socket, before each lease
        self.ping = ping  # asks the server, before each lease


class LoopPool(Generic[C]):
    """Lend connections to the tasks of one event loop, first come, first served."""

    __slots__ = (
        "_clock",
        "_closing",
        "_handling",
        "_holder",
        "_lent",
        "_single",
        "core",
        "loop",
        "reuse",
        "timeout",
    )

    def __init__(
        self,
        handling: Handling[C],
        core: PoolCore[C],
        loop: asyncio.AbstractEventLoop,
        *,
        timeout: float | None = 30.0,
        reuse: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.core = core
        self.loop = loop
        self.timeout = timeout
        self.reuse = reuse
        self._handling = handling
        self._clock = clock
        self._closing: set[asyncio.Future[Any]] = set()
        self._lent: set[Entry[C]] = set()  # a forgotten lease must not take its connection along
        self._single = core.size + core.overflow == 1
        self._holder: asyncio.Task[object] | None = None  # kept where there is one connection only

    async def acquire(self, timeout: float | None = None) -> Entry[C]:
        """Lend a connection, opening one if allowed; raise PoolTimeout after *timeout* seconds."""
        core, handling = self.core, self._handling
        while True:
            entry = core.take(self._clock())
            if entry is None:
                entry, fresh = await self._acquire(self.timeout if timeout is None else timeout)
                if fresh:
                    break
            if handling.ping is None and (handling.alive is None or handling.alive(entry.connection)):
                break
            if handling.ping is not None and await self._serves(entry, handling.ping):
                break
            self.release(entry, healthy=False)
        self._lent.add(entry)
        if self._single:
            self._holder = asyncio.current_task()
        return entry

    def release(self, entry: Entry[C], *, healthy: bool = True) -> None:
        """Take a lent connection back; throw it away unless *healthy*. Never awaits."""
        self._lent.discard(entry)
        if not healthy:
            self._terminate(entry.connection)
        actions = self.core.release(entry, self._clock(), healthy=healthy and self.reuse)
        self._carry_out(actions, terminated=not healthy)

    def forget(self, entry: Entry[C]) -> None:
        """Take back a connection whose holder was collected, from whatever thread, at whatever moment."""
        try:
            self.loop.call_soon_threadsafe(self._forgotten, entry)
        except RuntimeError:  # the loop is closed and its core with it
            self._handling.terminate(entry.connection)

    async def dispose(self) -> None:
        """Close every idle connection now, and every lent one when it comes back."""
        self._carry_out(self.core.dispose(), terminated=False)
        while self._closing:
            await asyncio.wait(self._closing)

    def abandon(self) -> None:
        """Throw idle connections away: their event loop is closed."""
        for action in self.core.dispose():
            if not isinstance(action, Wake):
                self._handling.terminate(action.entry.connection)

    def _forgotten(self, entry: Entry[C]) -> None:
        if entry.lent:
            self.release(entry, healthy=False)

    async def _serves(self, entry: Entry[C], ping: Callable[[C], Awaitable[bool]]) -> bool:
        """Ask the socket, then the server; a cancelled question costs the connection, not the place."""
        alive = self._handling.alive
        if alive is not None and not alive(entry.connection):
            return False
        try:
            return await ping(entry.connection)
        except BaseException:
            self.release(entry, healthy=False)
            raise

    async def _acquire(self, timeout: float | None) -> tuple[Entry[C], bool]:
        """Connect or wait as the core decides; tell also whether the connection is a new one."""
        ticket: Ticket[C] = Ticket()
        decision = self.core.acquire(ticket, self._clock())
        if isinstance(decision, Lease):
            return decision.entry, False
        if isinstance(decision, Wait):
            await self._wait(ticket, timeout)
            if ticket.entry is not None:
                return ticket.entry, False
            decision = Connect()
        try:
            if decision.retired is not None:
                self._close(decision.retired)
            connection = await self._handling.connect()
        except BaseException:
            self._carry_out(self.core.connect_failed(), terminated=False)
            raise
        return self.core.connected(connection, self._clock()), True

    async def _wait(self, ticket: Ticket[C], timeout: float | None) -> None:
        """Wait until *ticket* is served; on failure leave no trace of it."""
        loop = asyncio.get_running_loop()
        started = self._clock()
        ticket.wake = loop.create_future()
        # Not asyncio.wait_for: before 3.12 it loses a cancellation that arrives together with the result.
        alarm = None if timeout is None else loop.call_later(max(timeout, 0), _finish, ticket.wake)
        try:
            if self._holder is not None and self._holder is asyncio.current_task():
                await asyncio.sleep(0)  # a lease forgotten by this task may be on its way back
                self._check_deadlock(ticket)
            await ticket.wake
        except BaseException:
            self._carry_out(self.core.give_up(ticket, self._clock()), terminated=False)
            raise
        finally:
            if alarm is not None:
                alarm.cancel()
        if ticket in self.core.waiting:  # the alarm woke it
            what = self._explain(self._clock() - started)
            self.core.give_up(ticket, self._clock())
            raise PoolTimeout(
                what,
                "Give connections back sooner (await session.close(), async with), or allow more: "
                "create_async_engine(..., pool_size=..., max_overflow=..., pool_timeout=...).",
            )

    def _check_deadlock(self, ticket: Ticket[C]) -> None:
        """Raise PoolTimeout at once where the calling task, which holds the connection, waits for itself."""
        if ticket not in self.core.waiting:
            return
        raise PoolTimeout(
            "The only connection of this pool is held by the very task that asks for another one.",
            "End the first use (await session.commit() or close()) before the second begins, or use a "
            "database file and more connections instead of an in-memory database.",
        )

    def _explain(self, waited: float) -> str:
        """Say in numbers why a caller waited in vain."""
        core = self.core
        return (
            f"No connection became free in {waited:.2f} s: the pool of size {core.size} and overflow "
            f"{core.overflow} has {core.leased} lent, {len(core.idle)} idle, {core.connecting} connecting, "
            f"and {len(core.waiting)} waiting."
        )

    def _carry_out(self, actions: Actions[C], *, terminated: bool) -> None:
        """Wake first: closing takes a while. The entry that was *terminated* needs no goodbye."""
        if self._single:
            self._holder = None
        for action in actions:
            if isinstance(action, Wake):
                _finish(action.ticket.wake)
        for action in actions:
            if not isinstance(action, Wake) and not terminated:
                self._close(action.entry)

    def _close(self, entry: Entry[C]) -> None:
        """Close in the background; the task is kept, or it could be collected half-way."""
        self._await_end(self.loop.create_task(self._closed(entry.connection)))

    def _terminate(self, connection: C) -> None:
        ending = self._handling.terminate(connection)
        if ending is not None:
            self._await_end(ending)

    def _await_end(self, ending: asyncio.Future[Any]) -> None:
        """Let `dispose` wait for it; the pool keeps it meanwhile, or it could be collected half-way."""
        self._closing.add(ending)
        ending.add_done_callback(self._closing.discard)

    async def _closed(self, connection: C) -> None:
        try:
            await self._handling.close(connection)
        except Exception:  # noqa: BLE001 - a connection that cannot say goodbye is thrown away
            self._terminate(connection)
        except BaseException:
            self._terminate(connection)
            raise

    def __repr__(self) -> str:
        return f"<LoopPool {repr(self.core)[10:]}"


class AsyncPool(Generic[C]):
    """One `LoopPool` per event loop; *shared* keeps a single one, as an in-memory database needs."""

    def __init__(
        self,
        handling: Handling[C],
        *,
        size: int = 5,
        overflow: int = 10,
        timeout: float | None = 30.0,
        max_age: float | None = None,
        lifo: bool = False,
        reuse: bool = True,
        shared: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.size = size
        self.overflow = overflow
        self.timeout = timeout
        self._handling = handling
        self._max_age = max_age
        self._lifo = lifo
        self._reuse = reuse
        self._shared = shared
        self._clock = clock
        self._pools: dict[asyncio.AbstractEventLoop, LoopPool[C]] = {}
        self._last: LoopPool[C] | None = None

    def here(self) -> LoopPool[C]:
        """Return the pool of the running event loop."""
        loop = asyncio.get_running_loop()
        last = self._last
        if last is not None:
            if last.loop is loop:
                return last
            if self._shared:
                last.loop = loop
                return last
        pool = self._pools.get(loop)
        if pool is None:
            self._leave_closed()
            core: PoolCore[C] = PoolCore(self.size, self.overflow, max_age=self._max_age, lifo=self._lifo)
            pool = LoopPool(
                self._handling, core, loop, timeout=self.timeout, reuse=self._reuse, clock=self._clock
            )
            self._pools[loop] = pool
        self._last = pool
        return pool

    async def dispose(self) -> None:
        """Close the connections of the running loop, and abandon those of closed loops."""
        self._leave_closed()
        await self.here().dispose()

    def _leave_closed(self) -> None:
        for loop, pool in list(self._pools.items()):
            if loop.is_closed() and not self._shared:
                del self._pools[loop]
                pool.abandon()

    def __repr__(self) -> str:
        pools = [repr(pool) for pool in self._pools.values()]
        return f"<AsyncPool {', '.join(pools) or 'not used yet'}>"


def _finish(future: asyncio.Future[None]) -> None:
    """Let whoever awaits *future* go on; one that is done (served, cancelled) stays as it is."""
    if not future.done():
        future.set_result(None)
