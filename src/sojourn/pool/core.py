"""`PoolCore`: who gets which connection; decisions only.

The core holds no lock, no clock and no thread, and never waits: a *front* (`Pool` for threads,
`AsyncPool` for asyncio) asks it what to do, passes `now` in, and carries out the answer outside any
lock. Connections are opaque to it.

A *ticket* is one waiting caller, in exactly one of four places: waiting, leased (it holds an entry),
may-connect (it holds the right to open a connection), gone. What travels to a waiter is therefore an
entry or a *permit*; every path that frees capacity hands the permit on, so nobody sleeps beside a
free place. Waiters are served first come, first served, and nobody takes an idle entry past them:
an idle entry and a waiter never exist together.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

C = TypeVar("C")


class Entry(Generic[C]):
    """One pooled connection."""

    __slots__ = ("born", "connection", "generation", "idle_since", "lent")

    def __init__(self, connection: C, born: float, generation: int) -> None:
        self.connection = connection
        self.born = born
        self.generation = generation
        self.idle_since = born
        self.lent = False


class Ticket(Generic[C]):
    """One caller's wait; the front attaches whatever wakes that caller."""

    __slots__ = ("entry", "may_connect", "wake")

    def __init__(self, wake: Any = None) -> None:  # Any: a lock, a future, whatever the front wakes with
        self.wake = wake
        self.entry: Entry[C] | None = None
        self.may_connect = False


@dataclass(frozen=True, slots=True)
class Lease(Generic[C]):
    """Use this entry."""

    entry: Entry[C]


@dataclass(frozen=True, slots=True)
class Connect(Generic[C]):
    """Open a connection, then say `connected` or `connect_failed`; close *retired* first, if any."""

    retired: Entry[C] | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait until the ticket is woken, or give up."""


@dataclass(frozen=True, slots=True)
class Wake(Generic[C]):
    """Wake the caller of this ticket: it now has an entry or may connect."""

    ticket: Ticket[C]


@dataclass(frozen=True, slots=True)
class Close(Generic[C]):
    """Close this entry's connection; it no longer belongs to the pool."""

    entry: Entry[C]


Decision: TypeAlias = "Lease[C] | Connect[C] | Wait"
Action: TypeAlias = "Wake[C] | Close[C]"
Actions: TypeAlias = "Sequence[Wake[C] | Close[C]]"

_WAIT = Wait()


class PoolCore(Generic[C]):
    """Decide about *size* kept connections and up to *overflow* more.

    `size=0` or `overflow=-1` set no limit, as in SQLAlchemy. *max_age* retires a connection that
    many seconds after it was opened, at its next lease or return. *lifo* lends the hottest idle
    connection, so that the coldest ones age; the default lends them in turn.
    """

    __slots__ = (
        "connecting",
        "generation",
        "idle",
        "leased",
        "lifo",
        "max_age",
        "overflow",
        "size",
        "waiting",
    )

    def __init__(
        self, size: int = 5, overflow: int = 10, *, max_age: float | None = None, lifo: bool = False
    ) -> None:
        self.size = size
        self.overflow = -1 if size == 0 else overflow
        self.max_age = max_age
        self.lifo = lifo
        self.generation = 0
        self.leased = 0
        self.connecting = 0
        self.idle: deque[Entry[C]] = deque()
        self.waiting: OrderedDict[Ticket[C], None] = OrderedDict()

    @property
    def total(self) -> int:
        """Connections that exist or are being opened."""
        return len(self.idle) + self.leased + self.connecting

    def has_room(self) -> bool:
        """Tell whether one more connection may be opened."""
        return self.overflow == -1 or self.total < self.size + self.overflow

    def take(self, now: float) -> Entry[C] | None:
        """Lend an idle entry if that needs nothing else; the short way of `acquire`.

        While entries are idle nobody waits (see the module's text), so this overtakes no one.
        """
        idle = self.idle
        if not idle or (self.max_age is not None and self._is_old(idle[-1 if self.lifo else 0], now)):
            return None
        entry = idle.pop() if self.lifo else idle.popleft()
        entry.lent = True
        self.leased += 1
        return entry

    def acquire(self, ticket: Ticket[C], now: float) -> Decision[C]:
        """Decide what the caller of *ticket* does: use an entry, connect, or wait."""
        if self.idle:
            entry = self.idle.pop() if self.lifo else self.idle.popleft()
            if self._is_old(entry, now):
                self.connecting += 1
                return Connect(entry)
            return Lease(self._lend(entry))
        if not self.waiting and self.has_room():
            self.connecting += 1
            return Connect()
        self.waiting[ticket] = None
        return _WAIT

    def connected(self, connection: C, now: float) -> Entry[C]:
        """Register and lend the connection that a permit was used for."""
        self.connecting -= 1
        return self._lend(Entry(connection, now, self.generation))

    def connect_failed(self) -> Actions[C]:
        """Pass on the permit of a connection that could not be opened."""
        self.connecting -= 1
        return self._hand_out()

    def release(self, entry: Entry[C], now: float, *, healthy: bool = True) -> Actions[C]:
        """Take *entry* back: hand it to the first waiter, keep it, or close it."""
        if not entry.lent:
            msg = "this connection was given back to the pool already"
            raise ValueError(msg)
        entry.lent = False
        self.leased -= 1
        if not healthy or entry.generation != self.generation:
            return [Close(entry), *self._hand_out()]
        if self.max_age is not None and self._is_old(entry, now):
            return [Close(entry), *self._hand_out()]
        if self.waiting:
            ticket, _ = self.waiting.popitem(last=False)
            ticket.entry = self._lend(entry)
            return [Wake(ticket)]
        if self.size and len(self.idle) >= self.size:
            return [Close(entry)]
        entry.idle_since = now
        self.idle.append(entry)
        return ()

    def give_up(self, ticket: Ticket[C], now: float) -> Actions[C]:
        """End the wait of *ticket*; what it was served meanwhile goes to the next in line."""
        if ticket in self.waiting:
            del self.waiting[ticket]
            return ()
        if ticket.entry is not None:
            entry, ticket.entry = ticket.entry, None
            return self.release(entry, now)
        if ticket.may_connect:
            ticket.may_connect = False
            return self.connect_failed()
        return ()

    def dispose(self) -> Actions[C]:
        """Start a new generation: idle connections close now, lent ones when they come back.

        Lent connections keep counting against the limit until then, so it stays true.
        """
        self.generation += 1
        closing: list[Action[C]] = [Close(entry) for entry in self.idle]
        self.idle.clear()
        return [*closing, *self._hand_out()]

    def _hand_out(self) -> Actions[C]:
        """Give free capacity to waiters, in their order, as permits to connect."""
        actions: list[Action[C]] = []
        while self.waiting and self.has_room():
            ticket, _ = self.waiting.popitem(last=False)
            self.connecting += 1
            ticket.may_connect = True
            actions.append(Wake(ticket))
        return actions

    def _lend(self, entry: Entry[C]) -> Entry[C]:
        entry.lent = True
        self.leased += 1
        return entry

    def _is_old(self, entry: Entry[C], now: float) -> bool:
        return self.max_age is not None and now - entry.born > self.max_age

    def __repr__(self) -> str:
        limit = "no limit" if self.overflow == -1 else f"limit {self.size + self.overflow}"
        return (
            f"<PoolCore {limit}: {self.leased} lent, {len(self.idle)} idle, "
            f"{self.connecting} connecting, {len(self.waiting)} waiting>"
        )
