# cython: language_level=3, annotation_typing=False, nonecheck=True
# mypy: disable-error-code="untyped-decorator"
"""`Pool`: the pool core behind a lock, its waiters on thread locks.

The lock is held for one call of the core, never across I/O. Giving back never blocks: a return may come from
the garbage collector, which can run in the very thread that holds the lock. Such a return is put aside, and
whoever holds the lock takes it along after letting go, so none is lost.

The short ways of the core, `take` and `give`, run no Python code when they are compiled, so that no other
thread can come between; they need no lock then, but nobody else must hold it. (Compiled modules of this kind
keep the global interpreter lock switched on, also where Python could do without.)

Nothing is lost to an exception either, be it KeyboardInterrupt: a ticket that ends in one gives up whatever
it was served, by the same way as a return that is put aside.

A place counts as taken until its connection is closed, so that the server never sees more than the limit.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

try:
    import cython
except ImportError:
    from sojourn import _cython as cython

from sojourn.pooling import connecting, forking, refusals, reports, tending
from sojourn.pooling.answers import (
    Action,
    Close,
    CloseLate,
    Connect,
    Leak,
    Open,
    Reclaim,
    Ticket,
    Vacate,
    Wait,
    Wake,
)
from sojourn.pooling.places import describe
from sojourn.pooling.thread_handling import Handling as Handling  # noqa: TC001 - re-exported

if cython.compiled:
    from cython.cimports.sojourn.pooling.core import Entry, PoolCore
    from cython.cimports.sojourn.pooling.guard import Guard
    from cython.cimports.sojourn.pooling.places import here
else:
    from sojourn.pooling.core import Entry, PoolCore
    from sojourn.pooling.guard import Guard
    from sojourn.pooling.places import here

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from sojourn.pooling.stats import LeaseInfo, PoolStats

DEAF = frozenset({"fork", "reclaimed"})  # a return after these says nothing new, and is no mistake


@cython.cclass
class Pool:
    """Lend connections to threads, first come, first served.

    Limits and ages are those of `PoolCore`. *timeout* is how long a caller waits; None: for ever. With
    *inline* nobody but the caller connects. Transient connect errors are tried again for *connect_retry*
    seconds, but not past the caller's time. A connection that was idle for *ping_after* seconds is asked
    before it is lent; None: never. *max_waiting* is how many may wait. *self_wait* is what a thread that
    holds everything gets for asking for more: "raise" tells it, "wait" lets it wait, for somebody else to
    give one back.
    """

    if not cython.compiled:
        __slots__ = (
            "__weakref__", "_late", "_who", "changes", "clock", "connect_error", "connect_retry", "core",
            "failed_at", "gc_returns", "guard", "handling", "luck", "max_waiting", "name", "new_lock",
            "new_thread", "pauses", "ping_after", "pings", "pings_failed", "plan", "resets", "self_wait",
            "timeout",
        )  # fmt: skip

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
        inline: bool = False,
        connect_retry: float = 5.0,
        ping_after: float | None = 30.0,
        leak_after: float | None = None,
        reclaim_after: float | None = None,
        self_wait: str = "raise",
        max_waiting: int | None = None,
        name: str = "",
        clock: Callable[[], float] = time.monotonic,
        luck: Callable[[], float] = random.random,
    ) -> None:
        self.core = PoolCore(
            size,
            overflow,
            max_age=max_age,
            idle_limit=idle_limit,
            max_idle=max_idle,
            min_idle=min_idle,
            lifo=lifo,
            racing=not inline,
            leak_after=leak_after,
            reclaim_after=reclaim_after,
        )
        self.handling = handling
        self.name = name
        self.timeout = timeout
        self.max_waiting = max_waiting
        self.self_wait = self_wait
        self.connect_retry = connect_retry
        self.ping_after = float("inf") if ping_after is None else ping_after
        self.clock = clock
        self.luck = luck
        self.pings = self.pings_failed = 0
        self.gc_returns = 0  # counted by the engine, as are the resets by kind
        self.resets: dict[str, int] = {}
        self.connect_error: BaseException | None = None  # the last one, until connecting succeeds
        self.failed_at = 0.0
        self.plan: Any = None  # when the keeper calls next
        self.pauses = connecting.Bells()  # of those who will try to connect again
        self.changes = connecting.Bells()  # of those who wait for the pool to be empty
        self._late: deque[Any] = deque()  # (entry, reason) given back and tickets given up
        self._settle()
        forking.look_after(self)
        if min_idle and not inline:
            self.plan_ahead()

    def _settle(self) -> None:
        """Take the locks and threads of now: gevent may have replaced them after this file was imported."""
        self.new_lock = threading.Lock
        self.new_thread = threading.Thread
        self._who = threading.current_thread
        self.guard = Guard()

    # -- acquire ------------------------------------------------------------------------------

    @cython.locals(entry=Entry, now=cython.double)
    def acquire(self, timeout: float | None = None) -> Entry:
        """Lend a connection; raise PoolTimeout after *timeout* seconds, or what connecting raised.

        PoolDeadlock where the caller waits for itself, PoolClosed after `close`.
        """
        who = self._who()  # runs Python code, where an interrupt may arrive: so before anything is lent
        site = here()
        now = self.clock()
        if cython.compiled and not self.guard.held:
            entry = self.core.take(now)
            if entry is not None:
                entry.by = who
                entry.site = site
        else:
            entry = self._take(now, who, site)
        if entry is None:
            return self._acquire(timeout, who, site)
        if now - entry.idle_since < self.ping_after and entry.poll is None:
            return entry
        return self._check(entry, timeout, now - entry.idle_since)

    def _take(self, now: float, who: Any, site: Any) -> Entry | None:
        with self.guard:
            entry = self.core.take(now)
            if entry is not None:
                entry.by = who
                entry.site = site
        try:
            self.take_late()
        except BaseException:
            if entry is not None:
                self.release(entry)
            raise
        return entry

    @cython.cfunc
    @cython.locals(entry=Entry, idle=cython.double)
    def _check(self, entry: Entry, timeout: float | None, idle: float) -> Entry:
        """Return a lent connection if it serves, else another."""
        try:
            if idle < self.ping_after and not entry.poll(0):
                return entry
            if self.serves(entry, idle):
                return entry
        except BaseException:
            self.release(entry, "broken")
            raise
        return self.exchange(entry, timeout, entry.lent_at)

    @cython.locals(entry=Entry)
    def exchange(self, entry: Entry, timeout: float | None = None, since: float | None = None) -> Entry:
        """Return another connection for a lent one that is dead; its place is not lost to those who wait."""
        ticket = self._make_ticket(timeout, entry.by, self.clock() if since is None else since)
        ticket.entry = entry
        site = entry.site
        try:
            self._replace(ticket)
            return self._finish(ticket, site, None, False)
        except BaseException:
            self._abandon(ticket)
            raise

    @cython.locals(entry=Entry, idle=cython.double)
    def serves(self, entry: Entry, idle: float) -> bool:
        """Tell whether a lent connection is alive: ask the socket, and if in doubt the server."""
        if idle < self.ping_after and (entry.poll is None or not entry.poll(0)):
            return True
        self.pings += 1
        if self.handling.serves(entry):
            return True
        self.pings_failed += 1
        return False

    def _make_ticket(self, timeout: float | None, who: Any, now: float) -> Ticket:
        seconds = self.timeout if timeout is None else timeout
        wake = self.new_lock()
        wake.acquire()
        ticket = Ticket(wake, by=who, deadline=None if seconds is None else now + max(seconds, 0))
        ticket.since = now
        return ticket

    def _acquire(self, timeout: float | None, who: Any, site: Any) -> Entry:
        """Lend a connection by the long way: connect, or wait in line."""
        core = self.core
        ticket = self._make_ticket(timeout, who, self.clock())
        decision: Any = None
        retired = None
        refuses: Any = None
        try:
            with self.guard:  # nothing here runs Python code, where an interrupt could lose what was decided
                if core.closed:
                    refuses = reports.refuse_closed
                else:
                    ticket.since = self.clock()
                    ticket.races = self._has_helpers(ticket)
                    decision = core.acquire(ticket, ticket.since)
                    if isinstance(decision, Wait):
                        refuses = self._refuses(ticket)
                    elif isinstance(decision, Connect):
                        ticket.may_connect = True
                        retired = decision.retired
                    else:
                        ticket.entry = decision
            waits = isinstance(decision, Wait)
            self.carry_out(decision.actions if waits else ())
            if refuses is not None:
                raise self._look(refuses, self, ticket)  # noqa: TRY301 - what follows is for every exception
            if waits:
                self._wait(ticket)
            return self._finish(ticket, site, retired, waits)
        except BaseException:
            self._abandon(ticket)
            raise

    def _refuses(self, ticket: Ticket) -> Callable[..., BaseException] | None:
        """Return what words why the caller, who is in line, must not be; the caller holds the lock."""
        core = self.core
        refuses = None
        if self.self_wait == "raise" and core.is_stuck(ticket.by):
            refuses = reports.refuse_self_wait
        elif self.max_waiting is not None and len(core.waiting) > self.max_waiting:
            refuses = reports.refuse_crowd
        if refuses is not None:
            core.give_up(ticket, ticket.since)
        return refuses

    def _has_helpers(self, ticket: Ticket) -> bool:
        """Tell whether others may serve the caller: it has time, and does not hold everything itself.

        A program with one thread therefore connects in it, and never has another.
        """
        if ticket.deadline is not None and ticket.deadline <= ticket.since:
            return False
        return any(entry.by is not ticket.by for entry in self.core.lent)

    def _wait(self, ticket: Ticket) -> None:
        """Wait until *ticket* is served, or its time is up."""
        if ticket.deadline is None:
            ticket.wake.acquire()
        else:
            left = min(max(ticket.deadline - self.clock(), 0.0), threading.TIMEOUT_MAX)
            ticket.wake.acquire(True, left)
        if not ticket.served:
            with self.guard:
                late = not ticket.served  # it could have been in the last moment
                refusal = reports.refuse_late(self, ticket) if late else None
                if late:
                    self.core.give_up(ticket, self.clock())
            self.take_late()
            if refusal is not None:
                raise refusal from (self.connect_error if self.failed_at >= ticket.since else None)

    def _finish(self, ticket: Ticket, site: Any, retired: Entry | None, handed: bool) -> Entry:
        """Make a checked connection of what *ticket* was served; *handed*: it was in use a moment ago."""
        if ticket.error is not None:
            raise ticket.error
        while True:
            if ticket.may_connect:
                if connecting.use_permit(self, ticket, retired):
                    break
                retired = None
            entry: Any = ticket.entry
            if self.serves(entry, 0.0 if handed else entry.lent_at - entry.idle_since):
                break
            handed = False
            self._replace(ticket)
        lent: Any = ticket.entry
        lent.by = ticket.by
        lent.site = site
        return lent

    def _replace(self, ticket: Ticket) -> None:
        """Close the dead connection of *ticket*, whose caller gets an idle one or the permit to connect."""
        with self.guard:
            close = self.core.replace(ticket.entry, "server")
            ticket.entry = None
            ticket.may_connect = True
        self.handling.close(close.entry, close.reason)
        with self.guard:
            now = self.clock()
            ticket.entry = self.core.take(now)
            actions = () if ticket.entry is None else self.give_permit_up(ticket, now)
        self.carry_out(actions)
        if self.ran_out(ticket):
            raise self.refuse_late(ticket)

    def give_permit_up(self, ticket: Ticket, now: float) -> Sequence[Action]:
        """Let another have the permit of *ticket*, which has an entry instead; the caller holds the lock."""
        entry, ticket.entry = ticket.entry, None
        actions: Sequence[Action] = self.core.give_up(ticket, now)
        ticket.entry, ticket.gone = entry, False
        return actions

    def ran_out(self, ticket: Ticket) -> bool:
        """Tell whether the caller had time, and has none left."""
        deadline = ticket.deadline
        return deadline is not None and deadline > ticket.since and self.clock() >= deadline

    def refuse_late(self, ticket: Ticket) -> BaseException:
        """Return the error of a caller whose time went by with attempts."""
        return self._look(reports.refuse_late, self, ticket)

    def _abandon(self, ticket: Ticket) -> None:
        """Leave no trace of a ticket that ended in an exception; never waits."""
        if ticket.entry is not None or ticket.may_connect or ticket in self.core.waiting:
            self._late.append(ticket)
            self.take_late()

    # -- release ------------------------------------------------------------------------------

    @cython.locals(entry=Entry, now=cython.double)
    def release(self, entry: Entry, reason: str | None = None) -> None:
        """Take a lent connection back, or close it for *reason*.

        Never blocks: a finalizer may call this, in any thread at any time.
        """
        if reason is None:
            now = self.clock()
            if cython.compiled:
                if not self.guard.held and self.core.give(entry, now):
                    return
            elif self.guard.attempt():
                try:
                    if self.core.give(entry, now):
                        return
                finally:
                    self.guard.__exit__()
                    self.take_late()
        if not entry.lent and entry.doomed not in DEAF:
            msg = "this connection was given back to the pool already"
            raise ValueError(msg)
        self._late.append((entry, reason))
        self.take_late()

    def take_late(self) -> None:
        """Take what was put aside, unless whoever holds the lock does it anyway."""
        late = self._late
        while late and self.guard.attempt():
            actions: list[Action] = []
            try:
                now = self.clock()
                while late:
                    actions += self._take_back(late.popleft(), now)
                actions = [*self.keep_places(actions)]
            finally:
                self.guard.__exit__()
            self.carry_out(actions)

    def _take_back(self, thing: Any, now: float) -> Sequence[Action]:
        core = self.core
        actions: Sequence[Action] = ()
        if isinstance(thing, Ticket):
            if thing in core.waiting:
                core.counts["cancelled"] += 1
            actions = core.give_up(thing, now)
        else:
            entry, reason = thing
            if entry.lent:
                actions = core.release(entry, now, reason)
            elif entry.doomed == "reclaimed":
                actions = [CloseLate(entry, "reclaimed")]
        return actions

    def detach(self, entry: Entry) -> None:
        """Let a lent connection go: it no longer counts, and closing it is the caller's."""
        with self.guard:
            actions = self.core.detach(entry, self.clock())
        self.carry_out(actions)

    # -- actions ------------------------------------------------------------------------------

    def keep_places(self, actions: Sequence[Action]) -> Sequence[Action]:
        """Count the places of connections that are yet to be closed as taken; the caller holds the lock."""
        places = 0
        for action in actions:
            if isinstance(action, Close):
                places += not isinstance(action, CloseLate)
            elif places and (
                isinstance(action, Open) or (isinstance(action, Wake) and action.ticket.may_connect)
            ):
                places -= 1  # it goes to somebody who will come after that closing
        if not places:
            return actions
        self.core.connecting += places
        return [*actions, Vacate(places)]

    def carry_out(self, actions: Iterable[Action]) -> None:
        """Do what the core decided: what needs no place first, the rest in order."""
        rest: list[Action] = []
        for action in actions:
            if isinstance(action, Wake) and not action.ticket.may_connect:
                action.ticket.wake.release()
            else:
                rest.append(action)
        try:
            if rest:
                self._act(iter(rest))
            self.changes.ring()
        finally:
            self.take_late()

    def _act(self, actions: Iterator[Action]) -> None:
        try:
            for action in actions:
                if isinstance(action, Wake):
                    action.ticket.wake.release()
                elif isinstance(action, Close):
                    self.handling.close(action.entry, action.reason)
                elif isinstance(action, Open):
                    connecting.start_creator(self)
                elif isinstance(action, Vacate):
                    self._vacate(action.places)
                elif isinstance(action, Leak):
                    tending.tell_of_leak(self, action.entry)
                elif isinstance(action, Reclaim):
                    tending.reclaim(self, action.entry)
        except BaseException:
            self._act(actions)  # the others must not suffer
            raise

    def _vacate(self, places: int) -> None:
        for _ in range(places):
            permit = Ticket()
            permit.may_connect = True
            self._late.append(permit)
        self.take_late()

    # -- all at once --------------------------------------------------------------------------

    def doom(self, born: float | None = None, reason: str = "server") -> None:
        """Close what was opened until *born*, by default until now: idle ones now, lent ones on return."""
        with self.guard:
            now = self.clock()
            actions = self.keep_places(self.core.doom(now if born is None else born, reason, now))
        self.carry_out(actions)

    def dispose(self) -> None:
        """Close every idle connection now, and every lent one when it comes back; the limit stays true."""
        with self.guard:
            actions = self.keep_places(self.core.dispose(now=self.clock()))
        self.carry_out(actions)

    def resize(self, size: int, overflow: int) -> None:
        """Change the limits in place: surplus connections close, idle ones first; waiters get the room."""
        with self.guard:
            actions = self.keep_places(self.core.resize(size, overflow, self.clock()))
        self.carry_out(actions)
        self.plan_ahead()

    def warm(self, n: int) -> None:
        """Open connections until *n* are idle, or the limit is reached; raise what connecting raises."""
        connecting.warm(self, n)

    def close(self, timeout: float | None = None) -> None:
        """Lend nothing any more: waiters get PoolClosed, and what is lent is waited for, then cut off.

        *timeout* is in seconds; None: as long as a caller would wait. What the calling thread itself holds
        is not waited for: it could not come back.
        """
        core = self.core
        seconds = self.timeout if timeout is None else timeout
        deadline = None if seconds is None else self.clock() + seconds
        with self.guard:
            actions = self.keep_places(core.close(refusals.refuse_closed(self.name)))
        self.carry_out(actions)
        self.pauses.ring()
        who = self._who()
        while True:
            left = self._look(list, core.lent)
            busy = core.connecting or any(entry.by is not who for entry in left)
            now = self.clock()
            if not busy or (deadline is not None and now >= deadline):
                break
            # The bell may ring just before; a second look a moment later costs less than a missed one.
            self.changes.linger(self, 0.05 if deadline is None else min(deadline - now, 0.05))
        for entry in left:
            self.handling.cut(entry)

    # -- time ---------------------------------------------------------------------------------

    def plan_ahead(self) -> None:
        """Have the keeper call in time, if anything may fall due."""
        tending.plan_ahead(self)

    def keep(self, now: float) -> float | None:
        """Do what is due; the keeper calls this."""
        return tending.keep(self)

    def begin_anew(self) -> list[Entry]:
        """Forget everything, in a forked child, and return the parent's connections."""
        left: list[Entry] = self.core.forget()
        self._late.clear()
        self.pauses.clear()
        self.changes.clear()
        self.plan = None
        self._settle()
        for entry in left:
            try:
                self.handling.close(entry, "fork")
            except Exception:  # noqa: BLE001, S110 - a child must come to life whatever a driver thinks
                pass
        self.plan_ahead()
        return left

    # -- what there is ------------------------------------------------------------------------

    def stats(self) -> PoolStats:
        """Return the numbers of the moment."""
        return self._look(reports.take_stats, self)

    def leases(self) -> list[LeaseInfo]:
        """Say who holds a connection, since when and from where; the oldest first."""
        return self._look(reports.list_leases, self.core, self.clock())

    def _look(self, look: Callable[..., Any], *arguments: Any) -> Any:
        """Return what *look* finds while nothing moves."""
        try:
            with self.guard:
                return look(*arguments)
        finally:
            self.take_late()

    def place(self, entry: Entry) -> str:
        """Say where a lent connection was acquired."""
        return describe(entry.site)

    def is_expired(self, entry: Entry) -> bool:
        """Tell whether a connection is older than it may get."""
        return bool(entry.expires) and self.clock() >= entry.expires

    def __repr__(self) -> str:
        state = repr(self.core).partition(" ")[2][:-1]
        return f"<Pool {f'{self.name}: ' if self.name else ''}{state}>"
