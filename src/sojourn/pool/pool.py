"""`Pool`: the pool core behind a lock, its waiters on thread locks.

The lock is held for one call of the core, never across I/O. Giving back never blocks: a return may
come from the garbage collector, which can run in the very thread that holds the lock. Such a return
is put aside, and whoever holds the lock takes it along after letting go, so none is lost.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

from sojourn.errors import PoolTimeout
from sojourn.pool.core import Actions, Close, Connect, Entry, Lease, PoolCore, Ticket, Wait, Wake

if TYPE_CHECKING:
    from collections.abc import Callable

C = TypeVar("C")


class Pool(Generic[C]):
    """Lend connections made by *connect* to threads, first come, first served."""

    __slots__ = ("_clock", "_close", "_connect", "_late", "_lock", "core", "timeout")

    def __init__(
        self,
        connect: Callable[[], C],
        close: Callable[[C], None],
        *,
        size: int = 5,
        overflow: int = 10,
        timeout: float | None = 30.0,
        max_age: float | None = None,
        lifo: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.core: PoolCore[C] = PoolCore(size, overflow, max_age=max_age, lifo=lifo)
        self.timeout = timeout
        self._connect = connect
        self._close = close
        self._clock = clock
        self._lock = threading.Lock()
        self._late: deque[tuple[Entry[C], bool]] = deque()

    def acquire(self, timeout: float | None = None) -> Entry[C]:
        """Lend a connection, opening one if allowed; raise PoolTimeout after *timeout* seconds."""
        core = self.core
        with self._lock:
            entry = core.take(self._clock())
        if self._late:
            self._take_late()
        if entry is not None:
            return entry
        ticket: Ticket[C] = Ticket()
        with self._lock:
            decision = core.acquire(ticket, self._clock())
            if isinstance(decision, Wait):
                ticket.wake = threading.Lock()
                ticket.wake.acquire()
        if self._late:
            self._take_late()
        if isinstance(decision, Lease):
            return decision.entry
        if isinstance(decision, Wait):
            self._wait(ticket, self.timeout if timeout is None else timeout)
            if ticket.entry is not None:
                return ticket.entry
            decision = Connect()
        return self._open(decision.retired)

    def release(self, entry: Entry[C], *, healthy: bool = True) -> None:
        """Take a lent connection back; close it unless *healthy*. Never blocks."""
        lock = self._lock
        if not self._late and lock.acquire(False):
            try:
                actions = self.core.release(entry, self._clock(), healthy=healthy)
            finally:
                lock.release()
            if actions:
                self._carry_out(actions)
        else:
            self._late.append((entry, healthy))
        if self._late:
            self._take_late()

    def dispose(self) -> None:
        """Close every idle connection now, and every lent one when it comes back."""
        with self._lock:
            actions = self.core.dispose()
        self._carry_out(actions)
        self._take_late()

    def _open(self, retired: Entry[C] | None) -> Entry[C]:
        try:
            if retired is not None:
                self._close(retired.connection)
            connection = self._connect()
        except BaseException:
            with self._lock:
                actions = self.core.connect_failed()
            self._carry_out(actions)
            self._take_late()
            raise
        with self._lock:
            entry = self.core.connected(connection, self._clock())
        self._take_late()
        return entry

    def _wait(self, ticket: Ticket[C], timeout: float | None) -> None:
        """Wait until *ticket* is served; on failure leave no trace of it."""
        started = self._clock()
        try:
            if ticket.wake.acquire(timeout=-1 if timeout is None else max(timeout, 0)):
                return
        except BaseException:
            self._give_up(ticket)
            raise
        with self._lock:
            served = ticket not in self.core.waiting
            what = self._explain(self._clock() - started)
            if not served:
                self.core.give_up(ticket, self._clock())
        self._take_late()
        if not served:
            raise PoolTimeout(
                what,
                "Give connections back sooner (session.close(), with-blocks), or allow more: "
                "create_engine(..., pool_size=..., max_overflow=..., pool_timeout=...).",
            )

    def _give_up(self, ticket: Ticket[C]) -> None:
        with self._lock:
            actions = self.core.give_up(ticket, self._clock())
        self._carry_out(actions)
        self._take_late()

    def _explain(self, waited: float) -> str:
        """Say in numbers why a caller waited in vain; the caller holds the lock."""
        core = self.core
        return (
            f"No connection became free in {waited:.2f} s: the pool of size {core.size} and overflow "
            f"{core.overflow} has {core.leased} lent, {len(core.idle)} idle, {core.connecting} connecting, "
            f"and {len(core.waiting)} waiting."
        )

    def _take_late(self) -> None:
        """Take the returns that were put aside, unless the holder of the lock does it anyway."""
        late = self._late
        while late and self._lock.acquire(blocking=False):
            actions: list[Wake[C] | Close[C]] = []
            try:
                while late:
                    entry, healthy = late.popleft()
                    actions += self.core.release(entry, self._clock(), healthy=healthy)
            finally:
                self._lock.release()
            self._carry_out(actions)

    def _carry_out(self, actions: Actions[C]) -> None:
        """Wake first: closing may take a while, or fail."""
        for action in actions:
            if isinstance(action, Wake):
                action.ticket.wake.release()
        for action in actions:
            if isinstance(action, Close):
                self._close(action.entry.connection)

    def __repr__(self) -> str:
        return f"<Pool {repr(self.core)[10:]}"
