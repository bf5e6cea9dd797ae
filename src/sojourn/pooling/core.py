# cython: language_level=3, annotation_typing=False, nonecheck=True
"""`PoolCore`: who gets which connection; decisions only.

The core holds no lock, no clock and no thread, and never waits: a *front* (`Pool` for threads,
`LoopPool` for asyncio) asks it what to do, passes `now` in, and carries out the answer outside any
lock. Connections are opaque to it.

A *ticket* is one waiting caller, in exactly one of these places: in line, leased (it holds an entry),
may-connect (it holds the right to open a connection), failed, gone. What travels to a waiter is
therefore an entry, a *permit* or an error; every path that frees capacity hands the permit on, so
nobody sleeps beside a free place. Waiters are served first come, first served; nobody takes an idle
entry past them, because an idle entry and a live waiter never exist together; and whoever's deadline
has passed is served nothing any more.

Where the front has creators (threads or tasks that do nothing but connect), a caller that finds
connections lent does not connect itself: it waits, a creator connects meanwhile, and whichever comes
first serves it, the new connection or one that is given back (`racing`). Freed places then go to
creators instead of waiters, and a connection that grows old is replaced before it is closed.

Counted are connections, each in one of three: idle, lent, being opened. Their sum never exceeds the
limit, also after it was lowered, but for those that were lent or being opened already: these are
closed on return.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

try:
    import cython
except ImportError:
    from sojourn import _cython as cython

from sojourn.pooling import upkeep
from sojourn.pooling.answers import Action, Close, Connect, Leak, Open, Reclaim, Ticket, Wait, Wake
from sojourn.pooling.histogram import Histogram

if TYPE_CHECKING:
    from sojourn.pooling.answers import Actions

__all__ = [
    "Action", "Close", "Connect", "Entry", "Leak", "Open", "PoolCore", "Reclaim", "Ticket", "Wait", "Wake",
]  # fmt: skip

#: Most connections that creators open at a time. Beyond four, a burst gained less than it cost the server.
CREATORS = 4
#: Seconds after a creator's failure until `min_idle` is tried again: nobody waits for those connections.
REFILL = 1.0
INFINITE = float("inf")


@cython.cclass
class Entry:
    """One pooled connection."""

    if not cython.compiled:
        __slots__ = (
            "born", "by", "connection", "cut", "doomed", "expires", "generation", "idle_since", "leaking",
            "lent", "lent_at", "poll", "site", "slot", "statement", "uses",
        )  # fmt: skip

    def __init__(self, connection: Any = None) -> None:
        self.connection = connection
        self.poll: Any = None  # poll(0) is true once the socket has something to say; None: nobody can tell
        self.born = 0.0
        self.expires = 0.0  # from then on it is not lent any more; 0: never
        self.idle_since = 0.0
        self.lent_at = 0.0
        self.generation = 0
        self.uses = 0
        self.slot = 0  # where it stands in `PoolCore.lent`
        self.lent = False
        self.leaking = False  # somebody was told that it is out for too long
        self.cut = False  # it was reclaimed
        self.doomed: str | None = None  # why it must be closed when it comes back, or None
        self.by: Any = None  # who holds it: a thread's ident or a task
        self.site: Any = None  # where it was acquired: whatever the front can tell a place from
        self.statement: Any = None  # the last one that ran on it in this lease


@cython.final
@cython.cclass
class PoolCore:
    """Decide about *size* kept connections and up to *overflow* more.

    `size=0` or `overflow=-1` set no limit, as in SQLAlchemy. Seconds are those of the front's clock:

    *max_age* retires a connection that long after it was opened (less up to a tenth, by chance, so that
    connections opened together do not retire together): it is not lent any more. With creators it is
    replaced before, in time that no two are replaced within `max_age / size`.
    *idle_limit* closes connections beyond *size* that were idle that long; 0 closes them on return.
    *max_idle* does so for every connection but the last *min_idle*; None keeps *size* of them for ever.
    *min_idle* is how many idle connections creators open in advance, as far as the limit allows; without
    creators nobody opens in advance, see `fill`.
    *lifo* lends the hottest idle connection, so that the coldest ones age; else they are lent in turn.
    *racing* says that the front has creators. *leak_after*, *reclaim_after*: see `Leak` and `Reclaim`.

    `take` and `give`, compiled, run no Python code and let no other thread in.
    """

    if not cython.compiled:
        __slots__ = (
            "closed", "closed_by", "connecting", "counts", "create_time", "creators", "failure", "generation",
            "idle", "idle_limit", "leak_after", "lent", "lifo", "max_age", "max_creators", "max_idle",
            "min_idle", "now", "overflow", "racing", "reclaim_after", "refill_at", "retired_at", "retiring",
            "size", "use_time", "wait_time", "waiting",
        )  # fmt: skip

    def __init__(
        self,
        size: int = 5,
        overflow: int = 10,
        *,
        max_age: float | None = None,
        idle_limit: float | None = 60.0,
        max_idle: float | None = None,
        min_idle: int = 0,
        lifo: bool = True,
        racing: bool = False,
        max_creators: int = CREATORS,
        leak_after: float | None = None,
        reclaim_after: float | None = None,
    ) -> None:
        self.size = size
        self.overflow = -1 if size == 0 else overflow
        self.max_age = max_age
        self.idle_limit = idle_limit
        self.max_idle = max_idle
        self.min_idle = min_idle
        self.lifo = lifo
        self.racing = racing
        self.max_creators = max_creators
        self.leak_after = leak_after
        self.reclaim_after = reclaim_after
        self.now = 0.0  # the newest time that somebody told
        self.generation = 0
        self.connecting = 0  # permits out: connections being opened, by callers and creators
        self.creators = 0  # those of them that creators open
        self.closed = False
        self.failure: BaseException | None = None  # what a caller gets once the pool is closed
        self.retiring: Entry | None = None  # is closed as soon as a creator has opened another
        self.retired_at = float("-inf")
        self.refill_at = -INFINITE
        self.idle: list[Entry] = []  # the hottest last
        self.lent: list[Entry] = []  # in no order; an entry knows its slot
        self.waiting: OrderedDict[Ticket, None] = OrderedDict()
        self.counts: dict[str, int] = dict.fromkeys(
            ("opened", "connect_errors", "handoffs", "timeouts", "cancelled", "leaks"), 0
        )
        self.closed_by: dict[str, int] = {}
        self.wait_time = Histogram()
        self.use_time = Histogram()
        self.create_time = Histogram()

    # -- what there is ------------------------------------------------------------------------

    @property
    def leased(self) -> int:
        """How many connections are lent."""
        return len(self.lent)

    @property
    def total(self) -> int:
        """How many connections exist or are being opened."""
        return len(self.idle) + len(self.lent) + self.connecting

    @property
    def limit(self) -> int | None:
        """How many connections there may be; None where nothing limits them."""
        return None if self.overflow == -1 else self.size + self.overflow

    @cython.ccall
    def has_room(self) -> bool:
        """Tell whether one more connection may be opened."""
        return self.overflow == -1 or (
            len(self.idle) + len(self.lent) + self.connecting < self.size + self.overflow
        )

    def is_stuck(self, who: Any) -> bool:
        """Tell whether *who* holds everything there may be, so that waiting is waiting for itself."""
        if self.connecting or not self.lent or self.has_room():
            return False
        return all(entry.by == who for entry in self.lent)

    # -- acquire ------------------------------------------------------------------------------

    @cython.ccall
    @cython.locals(entry=Entry, now=cython.double)
    def take(self, now: float) -> Entry | None:
        """Lend an idle entry if that needs nothing else, or return None; the short way of `acquire`.

        While entries are idle nobody waits (see the module's text), so this overtakes no one.
        """
        if not self.idle:
            return None
        entry = cython.cast(Entry, self.idle[-1] if self.lifo else self.idle[0])
        if entry.doomed is not None or (entry.expires != 0 and now >= entry.expires):
            return None
        if self.lifo:
            self.idle.pop()
        else:
            self.idle.pop(0)
        self._lend(entry, now)
        self.wait_time.add(0.0)
        return entry

    def acquire(self, ticket: Ticket, now: float) -> Entry | Connect | Wait:
        """Decide what the caller of *ticket* does: use an entry, connect, or wait.

        A closed pool wakes the ticket at once, with the error that `close` was told.
        """
        self.now = ticket.since = now
        if self.closed:
            ticket.error = self.failure
            return Wait([Wake(ticket)])
        self.refill_at = now if self.refill_at == INFINITE else self.refill_at
        if self.idle:
            entry = self.take(now) or self._take_other(now)
            if entry is not None:
                entry.by = ticket.by
                return entry
            entry = self.idle.pop() if self.lifo else self.idle.pop(0)
            self.connecting += 1
            self._count_close(entry.doomed or "expired")
            return Connect(entry)
        races = self.racing and ticket.races and self.lent
        if self.has_room() and not self.waiting and not races:
            self.connecting += 1
            return Connect()
        self.waiting[ticket] = None
        return Wait(self._grow())

    def _take_other(self, now: float) -> Entry | None:
        """Lend the next idle entry that is not over its time, as `take` could not lend the first."""
        for entry in reversed(self.idle) if self.lifo else self.idle:
            if entry.doomed is None and not (entry.expires and now >= entry.expires):
                self.idle.remove(entry)
                self._lend(entry, now)
                self.wait_time.add(0.0)
                return entry
        return None

    def borrow(self, entry: Entry, now: float) -> None:
        """Lend this idle entry, out of turn: the front has doubts about it."""
        self.idle.remove(entry)
        self._lend(entry, now)

    def _grow(self) -> list[Action]:
        """Let creators open connections for those who wait, if there are creators and room."""
        actions: list[Action] = []
        if self.racing:
            while self.creators < self.max_creators and self.creators < len(self.waiting) and self.has_room():
                actions.append(self.open_one())
        return actions

    def open_one(self) -> Open:
        """Give a creator a permit; the caller has seen that there is room."""
        self.creators += 1
        self.connecting += 1
        return Open()

    # -- connecting ---------------------------------------------------------------------------

    def connected(
        self, entry: Entry, now: float, *, took: float = 0.0, luck: float = 0.0, since: float | None = None
    ) -> None:
        """Register the connection that a permit was used for, and lend it to whoever used it.

        *luck*, from 0 to 1, decides how much earlier than `max_age` it will retire. *since* is when the
        caller began to wait, if that was before the *took* seconds that connecting took.
        """
        self.now = now
        self.connecting -= 1
        self._register(entry, now, took, luck)
        self.wait_time.add(took if since is None else now - since)
        self._lend(entry, now)

    def connect_failed(
        self, error: BaseException | None = None, *, hopeless: bool = False, now: float | None = None
    ) -> Actions:
        """Pass on the permit of a connection that could not be opened; a *hopeless* error goes to all."""
        self.connecting -= 1
        self.counts["connect_errors"] += 1
        return self._fail_all(error) if hopeless and error is not None else self._hand_out(now)

    def opened(self, entry: Entry, now: float, *, took: float = 0.0, luck: float = 0.0) -> Actions:
        """Register a connection that a creator opened: it goes to the first waiter, or becomes idle."""
        self.now = now
        self.connecting -= 1
        self.creators -= 1
        self._register(entry, now, took, luck)
        return [*upkeep.end_retirement(self), *self._settle(entry, now, None), *self._grow()]

    def open_failed(
        self, error: BaseException | None = None, *, hopeless: bool = False, now: float | None = None
    ) -> Actions:
        """Pass on the permit of a creator; the first in line gets *error*, or everybody a *hopeless* one."""
        self.connecting -= 1
        self.creators -= 1
        self.counts["connect_errors"] += 1
        self.retiring = None
        self.now = self.now if now is None else now
        self.refill_at = self.now + REFILL
        if hopeless and error is not None:
            return self._fail_all(error)
        first = None if error is None else self._next(self.now)
        if first is None:
            return self._hand_out(now)
        first.error = error
        return [Wake(first), *self._hand_out(now)]

    def _register(self, entry: Entry, now: float, took: float, luck: float) -> None:
        entry.born = entry.idle_since = now
        entry.generation = self.generation
        entry.expires = 0.0 if self.max_age is None else now + max(self.max_age * (1 - 0.1 * luck), 1e-9)
        entry.doomed = "closed" if self.closed else None
        entry.uses = 0  # a front may use one entry for one connection after another
        self.counts["opened"] += 1
        self.create_time.add(took)

    def _fail_all(self, error: BaseException) -> list[Action]:
        failed = list(self.waiting)
        self.waiting.clear()
        for ticket in failed:
            ticket.error = error
        return [Wake(ticket) for ticket in failed]

    # -- release ------------------------------------------------------------------------------

    @cython.ccall
    @cython.locals(entry=Entry, now=cython.double)
    def give(self, entry: Entry, now: float) -> bool:
        """Take *entry* back if it simply becomes idle, or return False; the short way of `release`."""
        if (
            not entry.lent
            or entry.doomed is not None
            or entry.generation != self.generation
            or self.waiting
            or self.closed
            or (entry.expires != 0 and now >= entry.expires)
        ):
            return False
        if len(self.idle) + len(self.lent) + self.connecting > self.size and (
            self._is_beyond(1) or self._is_surplus()
        ):
            return False
        # Whom it was lent to is let go of last: that may run code that gives back another entry.
        _held = self._end_lease(entry)
        self.use_time.add(now - entry.lent_at)
        entry.idle_since = now
        self.idle.append(entry)
        return True

    def release(self, entry: Entry, now: float, reason: str | None = None) -> Actions:
        """Take *entry* back: hand it to the first waiter, keep it, or close it, for *reason* if given."""
        self._must_be_lent(entry)
        self.now = now
        _held = self._end_lease(entry)
        self.use_time.add(now - entry.lent_at)
        return self._settle(entry, now, reason)

    def replace(self, entry: Entry, reason: str) -> Close:
        """Close a lent entry that is of no use; whoever has it keeps its place, as a permit."""
        self._must_be_lent(entry)
        _held = self._end_lease(entry)
        self.connecting += 1
        return self.close_one(entry, reason)

    def detach(self, entry: Entry, now: float) -> Actions:
        """Let a lent entry go without closing it: it no longer counts."""
        self._must_be_lent(entry)
        _held = self._end_lease(entry)
        self.use_time.add(now - entry.lent_at)
        self._count_close("detached")
        return self._hand_out(now)

    def _must_be_lent(self, entry: Entry) -> None:
        if not entry.lent:
            raise ValueError("this connection was given back to the pool already")

    @cython.cfunc
    @cython.locals(entry=Entry, last=Entry)
    def _end_lease(self, entry: Entry) -> Any:
        """Take *entry* out of the lent ones, and return who held it, for the caller to let go of."""
        last = cython.cast(Entry, self.lent.pop())
        if last is not entry:
            self.lent[entry.slot] = last
            last.slot = entry.slot
        entry.lent = entry.leaking = entry.cut = False
        by = entry.by
        entry.by = entry.site = entry.statement = None
        return by

    def _why_close(self, entry: Entry, now: float) -> str | None:
        """Return why an entry that came back, or just came to be, may neither be lent nor kept, or None."""
        if entry.doomed is not None:
            return entry.doomed
        if self.closed:
            return "closed"
        if entry.generation != self.generation:
            return "dispose"
        if entry.expires and now >= entry.expires:
            return "expired"
        return "resize" if self._is_beyond(0) else None

    @cython.cfunc
    @cython.locals(own=cython.long)
    def _is_beyond(self, own: int) -> bool:
        """Tell whether the limit is reached without an entry; *own* is 1 if it is counted as lent."""
        return self.overflow != -1 and (
            len(self.idle) + len(self.lent) - own + self.connecting >= self.size + self.overflow
        )

    @cython.cfunc
    def _is_surplus(self) -> bool:
        """Tell whether an entry for which nobody waits is not to be kept."""
        return self.size != 0 and len(self.idle) >= self.size and self.idle_limit == 0

    def _settle(self, entry: Entry, now: float, reason: str | None) -> Actions:
        """Close an entry that nobody holds, give it to the first waiter in time, or keep it idle."""
        reason = entry.doomed or reason or self._why_close(entry, now)
        if reason is None:
            ticket = self._next(now)
            if ticket is not None:
                self._lend(entry, now)
                entry.by = ticket.by
                ticket.entry = entry
                self.wait_time.add(now - ticket.since)
                self.counts["handoffs"] += 1
                return [Wake(ticket)]
            if not self._is_surplus():
                entry.idle_since = now
                self.idle.append(entry)
                return ()
            reason = "overflow"
        return [self.close_one(entry, reason), *self._hand_out(now)]

    def give_up(self, ticket: Ticket, now: float) -> Actions:
        """End the wait of *ticket*; what it was served meanwhile goes to the next in line."""
        self.now = now
        if ticket in self.waiting:
            del self.waiting[ticket]
            ticket.gone = True
            return ()
        if ticket.entry is not None:
            entry, ticket.entry, ticket.gone = ticket.entry, None, True
            self._must_be_lent(entry)
            _held = self._end_lease(entry)
            return self._settle(entry, now, None)
        if ticket.may_connect:
            ticket.may_connect, ticket.gone = False, True
            self.connecting -= 1
            return self._hand_out(now)
        return ()

    # -- all at once --------------------------------------------------------------------------

    def doom(self, born: float, reason: str, now: float | None = None) -> Actions:
        """Close every connection opened until *born*: idle ones now, lent ones when they come back."""
        for entry in self.lent:
            if entry.born <= born and entry.doomed is None:
                entry.doomed = reason
        return self.close_idle([entry for entry in self.idle if entry.born <= born], reason, now)

    def dispose(self, reason: str = "dispose", now: float | None = None) -> Actions:
        """Close idle connections now, the lent on return; `min_idle` rests until somebody asks again."""
        self.refill_at = INFINITE
        self.generation += 1
        return self.close_idle(list(self.idle), reason, now)

    def close(self, error: BaseException) -> Actions:
        """Lend nothing any more: who waits gets *error*, idle connections close, lent ones on return."""
        self.closed = True
        self.failure = error
        return [*self._fail_all(error), *self.dispose("closed")]

    def forget(self) -> list[Entry]:
        """Count nothing any more, as in a forked child, and return what there was: not ours to close."""
        left = [*self.idle, *self.lent]
        for entry in left:
            entry.doomed = "fork"
            entry.lent = False
        for ticket in self.waiting:
            ticket.gone = True
        self.generation += 1
        self.connecting = self.creators = 0
        self.retiring = None
        self.idle.clear()
        self.lent.clear()
        self.waiting.clear()
        if left:
            self.closed_by["fork"] = self.closed_by.get("fork", 0) + len(left)
        return left

    def resize(self, size: int, overflow: int, now: float | None = None) -> Actions:
        """Set the limits anew: surplus idle connections close, the coldest first; waiters get the room."""
        self.size = size
        self.overflow = -1 if size == 0 else overflow
        surplus: list[Entry] = []
        if self.overflow != -1:
            count = min(self.total - (self.size + self.overflow), len(self.idle))
            surplus = self.coldest()[: max(count, 0)]
        return self.close_idle(surplus, "resize", now)

    def fill(self, idle: int) -> list[Action]:
        """Let connections be opened until *idle* are idle, as far as the limits allow.

        A front without creators may open them itself: each `Open` ends with `opened` or `open_failed`.
        """
        actions: list[Action] = []
        while self.lacks(idle):
            actions.append(self.open_one())
        return actions

    def lacks(self, idle: int) -> bool:
        """Tell whether fewer than *idle* connections are idle or on their way, and one more may come."""
        coming = len(self.idle) + self.creators - (1 if self.retiring is not None else 0)
        return coming < idle and self.creators < self.max_creators and self.has_room()

    # -- time ---------------------------------------------------------------------------------

    def tick(self, now: float) -> Actions:
        """Do what is due: retire the old and the long idle, open what `min_idle` asks for, tell of leaks."""
        self.now = now
        return () if self.closed else upkeep.tick(self, now)

    def due(self, now: float) -> float | None:
        """Return when `tick` has something to do next, or None if nothing is foreseeable."""
        return None if self.closed else upkeep.due(self, now)

    # -- parts --------------------------------------------------------------------------------

    @cython.cfunc
    @cython.locals(entry=Entry, now=cython.double)
    def _lend(self, entry: Entry, now: float) -> None:
        entry.slot = len(self.lent)
        self.lent.append(entry)
        entry.lent = True
        entry.lent_at = now
        entry.uses += 1

    def is_above(self) -> bool:
        """Tell whether there are more connections than are kept for ever."""
        kept = len(self.idle) if self.idle_limit == 0 else self.total - (self.retiring is not None)
        return self.size != 0 and kept > self.size

    def coldest(self) -> list[Entry]:
        """Return the idle entries, those that were idle longest first."""
        return sorted(self.idle, key=upkeep.idle_since)

    def close_idle(self, entries: list[Entry], reason: str, now: float | None) -> list[Action]:
        """Close these idle entries, and hand the room on."""
        actions: list[Action] = []
        for entry in entries:
            self.idle.remove(entry)
            actions.append(self.close_one(entry, reason))
        return [*actions, *self._hand_out(now)]

    def close_one(self, entry: Entry, reason: str) -> Close:
        """Have an entry closed that stands nowhere any more."""
        self._count_close(reason)
        return Close(entry, reason)

    def _count_close(self, reason: str) -> None:
        self.closed_by[reason] = self.closed_by.get(reason, 0) + 1

    def _next(self, now: float) -> Ticket | None:
        """Take the first in line whose time is not up out of it; those before are gone."""
        while self.waiting:
            ticket, _ = self.waiting.popitem(last=False)
            if ticket.deadline is None or ticket.deadline > now:
                return ticket
            ticket.gone = True
        return None

    def _hand_out(self, now: float | None) -> list[Action]:
        """Give free capacity to waiters, in their order: as permits, or through creators."""
        if now is not None:
            self.now = now
        if self.racing:
            return self._grow()
        actions: list[Action] = []
        while self.waiting and self.has_room():
            ticket = self._next(self.now)
            if ticket is not None:
                self.connecting += 1
                ticket.may_connect = True
                actions.append(Wake(ticket))
        return actions

    def __repr__(self) -> str:
        limit = "no limit" if self.overflow == -1 else f"limit {self.size + self.overflow}"
        state = ", closed" if self.closed else ""
        return (
            f"<PoolCore {limit}: {len(self.lent)} lent, {len(self.idle)} idle, "
            f"{self.connecting} connecting, {len(self.waiting)} waiting{state}>"
        )
