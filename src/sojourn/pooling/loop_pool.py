# cython: language_level=3, annotation_typing=False
"""`LoopPool`: the pool core of one event loop, with futures for those who wait and tasks that connect.

Between two awaits nobody else runs, hence no lock. Four things keep a cancelled task from costing a
connection or a place: a waiter that is cancelled gives its ticket up, and with it whatever it was served
meanwhile; a failed or cancelled connect passes its permit on; a creator belongs to the pool and not to the
task that made it necessary; giving back never awaits.

A connection that the server closes is noticed without asking: all sockets stand in one epoll of their
own, which tells the event loop of hang-ups and of nothing else. What happened since the loop looked last is
seen by the poll of the socket that precedes each lease.

Only what has to be cut off in time is handed to `Handling`: nothing here knows drivers.
"""

from __future__ import annotations

import asyncio
import select
import sys
import weakref
from typing import TYPE_CHECKING, Any

try:
    import cython
except ImportError:
    from sojourn import _cython as cython

from sojourn.pooling.answers import Close, Connect, Leak, Open, Reclaim, Ticket, Wait, Wake
from sojourn.pooling.core import Entry, PoolCore
from sojourn.pooling.places import describe, describe_holder, here
from sojourn.pooling.refusals import count, refuse_closed, refuse_crowd, refuse_late, refuse_self_wait
from sojourn.pooling.stats import LeaseInfo

if cython.compiled:
    from cython.cimports.cpython.weakref import PyWeakref_NewRef

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from sojourn.pooling.answers import Actions
    from sojourn.pooling.handling import Handling, Manners

#: Closed without a word to the server: it is gone, or the state of the conversation is unknown.
ABRUPT = frozenset(("broken", "server", "reset", "reclaimed", "collected"))
#: Seconds that opening a connection may take in any case: a shorter time-out is meant for the wait.
LEAST_OPENING = 2.0
FIRST_PAUSE, LONGEST_PAUSE = 0.01, 0.5  # seconds between attempts to connect
#: Seconds; how often a pool looks whether a time limit has come into force.
LONGEST_REST, SHORTEST_REST = 60.0, 0.001

#: The task that runs in a loop. Before Python 3.12 current_task() is not C and costs as much as a lease.
_running: Any = asyncio.current_task
if sys.version_info < (3, 12):
    _running = asyncio.tasks._current_tasks.get  # type: ignore[attr-defined]  # noqa: SLF001


@cython.cclass
class LoopPool:
    """Lend connections to the tasks of one event loop, first come, first served."""

    if not cython.compiled:
        __slots__ = (
            "__weakref__", "_clock", "_drained", "_ending", "_fds", "_ping_after", "_timer", "_watch", "core",
            "creators", "failure", "gc_returns", "handling", "loop", "manners", "pings", "pings_failed",
            "resets",
        )  # fmt: skip

    def __init__(
        self, handling: Handling, core: PoolCore, loop: asyncio.AbstractEventLoop, manners: Manners
    ) -> None:
        self.core = core
        self.loop = loop
        self.handling = handling
        self.manners = manners
        self._clock = manners.clock
        self._ping_after = -1.0 if manners.ping_after is None else manners.ping_after
        self.creators: set[asyncio.Task[Exception | None]] = set()
        self.failure: Exception | None = None  # the newest connect error, until one succeeds
        self.gc_returns = self.pings = self.pings_failed = 0
        self.resets: dict[str, int] = {}
        self._ending: set[Any] = set()  # connections that are being closed
        self._fds: dict[Entry, int] = {}
        self._watch: Any = None  # an epoll
        self._timer: asyncio.TimerHandle | None = None
        self._drained: asyncio.Future[None] | None = None

    # -- lending ------------------------------------------------------------------------------

    async def acquire(self, timeout: float | None = None) -> Entry:
        """Lend a connection; raise PoolTimeout after *timeout* seconds, by default the pool's.

        PoolDeadlock: the task would wait for itself. PoolClosed. Or the driver's error of connecting.
        """
        now = self._clock()
        entry = self.core.take(now)
        if entry is None or self._is_doubtful(entry, now):
            return await self._acquire(entry, timeout, now)
        entry.by = self._me()
        entry.site = here()
        return entry

    @cython.cfunc
    @cython.locals(entry=Entry, now=cython.double)
    def _is_doubtful(self, entry: Entry, now: float) -> bool:
        """Tell whether the server must be asked before *entry* is used after a rest."""
        if entry.poll is not None and entry.poll(0):
            return True
        return self._ping_after >= 0 and now - entry.idle_since >= self._ping_after

    @cython.cfunc
    def _me(self) -> Any:
        """Refer to the running task; weakly, as an exception's frames keep alive what they have dropped."""
        if cython.compiled:
            return PyWeakref_NewRef(_running(self.loop), None)
        return weakref.ref(_running(self.loop))

    async def _acquire(self, entry: Entry | None, timeout: float | None, since: float) -> Entry:
        """Go the long way: wait, connect, ask the server."""
        if timeout is None:
            timeout = self.manners.timeout
        deadline = None if timeout is None else since + timeout
        by = self._me()
        while True:
            if entry is not None:
                if await self._serves(entry):
                    break
                self.release(entry, "server")
            entry, rested = await self._obtain(by, deadline, since)
            if rested:
                doubtful = self._is_doubtful(entry, self._clock())
            else:
                doubtful = entry.poll is not None and entry.poll(0)
            if not doubtful:
                break
        entry.by = by
        entry.site = here()
        return entry

    async def _serves(self, entry: Entry) -> bool:
        """Ask the server; a cancelled question costs the connection, not the place."""
        self.pings += 1
        try:
            found = await self.handling.serves(entry)
        except BaseException:
            self.release(entry, "broken")
            raise
        if not found:
            self.pings_failed += 1
        return found

    async def _obtain(self, by: Any, deadline: float | None, since: float) -> tuple[Entry, bool]:
        """Connect or wait as the core decides; tell also whether the connection has been idle."""
        ticket = Ticket(by=by, deadline=deadline)
        decision = self.core.acquire(ticket, self._clock())
        if isinstance(decision, Wait):
            await self._wait(ticket, decision.actions, since)
            if ticket.entry is not None:
                return ticket.entry, False
            decision = Connect()
        if isinstance(decision, Connect):
            return await self._connect(decision.retired, deadline, since), False
        return decision, True

    async def _wait(self, ticket: Ticket, actions: Actions, since: float) -> None:
        """Wait until *ticket* is served; on failure leave no trace of it."""
        core, loop = self.core, self.loop
        future = ticket.wake = loop.create_future()
        # Not asyncio.wait_for: before 3.12 it loses a cancellation that arrives together with the result.
        alarm = None
        if ticket.deadline is not None:
            alarm = loop.call_later(max(ticket.deadline - self._clock(), 0), _finish, future)
        try:
            self._carry_out(actions)
            if self.manners.self_wait == "raise" and core.is_stuck(ticket.by):
                await asyncio.sleep(0)  # a lease that this task has dropped may be on its way back
            self._check_wait(ticket)
            await future
        except BaseException as error:
            core.counts["cancelled"] += not isinstance(error, Exception)
            self._carry_out(core.give_up(ticket, self._clock()))
            raise
        finally:
            if alarm is not None:
                alarm.cancel()
        if ticket.error is not None:
            raise ticket.error
        if not ticket.served:
            late = self._refuse_late(since)
            self._carry_out(core.give_up(ticket, self._clock()))
            raise late from self.failure

    def _check_wait(self, ticket: Ticket) -> None:
        """Refuse a wait that cannot end, or a line that is long enough."""
        core, manners = self.core, self.manners
        if ticket not in core.waiting:
            return
        if manners.self_wait == "raise" and core.is_stuck(ticket.by):
            raise refuse_self_wait(manners.name, f"Task {_name(ticket.by)!r}", self.leases())
        crowd = manners.max_waiting
        if crowd is not None and len(core.waiting) - core.creators > crowd:
            raise refuse_crowd(manners.name, crowd, count(core), self.leases())

    def _refuse_late(self, since: float) -> BaseException:
        self.core.counts["timeouts"] += 1
        return refuse_late(self.manners.name, self._clock() - since, count(self.core), self.leases())

    # -- connecting ---------------------------------------------------------------------------

    async def _connect(self, retired: Entry | None, deadline: float | None, since: float) -> Entry:
        """Open a connection for the calling task, instead of a *retired* one if there is one."""
        core = self.core
        if retired is not None:
            self._close(retired, retired.doomed or "expired")
        try:
            entry, took = await self._open(deadline, since)
        except BaseException as error:
            hopeless = isinstance(error, Exception) and self.handling.is_hopeless(error)
            self._carry_out(core.connect_failed(error, hopeless=hopeless, now=self._clock()))
            raise
        self._join(entry)
        core.connected(entry, self._clock(), took=took, luck=self.manners.luck(), since=since)
        return entry

    async def _open(self, deadline: float | None, since: float) -> tuple[Entry, float]:
        """Open a connection; try again while that may help and time is left."""
        begun = self._clock()
        until = begun + self.manners.connect_retry
        bound = None if deadline is None else max(deadline, begun + LEAST_OPENING)
        pause = FIRST_PAUSE
        while True:
            start = self._clock()
            timer = asyncio.timeout(None if bound is None else bound - start)
            try:
                async with timer:
                    entry = await self.handling.connect()
            except Exception as error:
                late = timer.expired()
                if not late:
                    self.failure = error
                    now = self._clock()
                    if now + pause >= until or not self.handling.is_transient(error):
                        raise
                    late = bound is not None and now + pause >= bound
                if late:
                    raise self._refuse_late(since) from self.failure
            else:
                self.failure = None
                return entry, self._clock() - start
            await asyncio.sleep(pause * (0.5 + self.manners.luck()))
            pause = min(pause * 1.6, LONGEST_PAUSE)

    async def _create(self) -> Exception | None:
        """Open a connection for whoever is first in line by then; return the error, if any."""
        core = self.core
        try:
            entry, took = await self._open_for_others()
        except Exception as error:  # noqa: BLE001 - told to those who wait
            hopeless = self.handling.is_hopeless(error)
            self._carry_out(core.open_failed(error, hopeless=hopeless, now=self._clock()))
            return error
        except BaseException:
            self._carry_out(core.open_failed(None, now=self._clock()))
            raise
        if entry is None:
            self._carry_out(core.open_failed(None, now=self._clock()))
            return self.failure
        self._join(entry)
        self._carry_out(core.opened(entry, self._clock(), took=took, luck=self.manners.luck()))
        return None

    async def _open_for_others(self) -> tuple[Entry | None, float]:
        """Open a connection; try again while that may help and somebody waits for it."""
        core = self.core
        pause = FIRST_PAUSE
        while True:
            start = self._clock()
            try:
                entry = await self.handling.connect()
            except Exception as error:
                self.failure = error
                if not self.handling.is_transient(error):
                    raise
                self._fail_impatient(error)
                if core.closed or core.creators > len(core.waiting):
                    return None, 0.0
            else:
                self.failure = None
                return entry, self._clock() - start
            await asyncio.sleep(pause * (0.5 + self.manners.luck()))
            pause = min(pause * 1.6, LONGEST_PAUSE)

    def _fail_impatient(self, error: BaseException) -> None:
        """Give *error* to those who have waited for a connection as long as `connect_retry` says."""
        core, now = self.core, self._clock()
        for ticket in list(core.waiting):
            if now - ticket.since < self.manners.connect_retry:
                break
            ticket.error = error
            core.give_up(ticket, now)
            _finish(ticket.wake)

    # -- taking back --------------------------------------------------------------------------

    def release(self, entry: Entry, reason: str | None = None) -> None:
        """Take a lent connection back; close it for *reason*, if given. Never awaits."""
        now = self._clock()
        if reason is None:
            if not self.manners.reuse:
                reason = "unpooled"
            elif self.core.give(entry, now):
                return
        if entry.doomed == "fork":
            return  # inherited from another process, whose it still is
        self._carry_out(self.core.release(entry, now, reason))
        if self._drained is not None and not self.core.lent:
            _finish(self._drained)

    def detach(self, entry: Entry) -> None:
        """Forget a lent connection, whose holder keeps it; its place is free."""
        self._leave(entry)
        self._carry_out(self.core.detach(entry, self._clock()))

    def forget(self, entry: Entry) -> None:
        """Take back a connection whose holder was collected, from whatever thread, at whatever moment."""
        try:
            self.loop.call_soon_threadsafe(self._forgotten, entry)
        except RuntimeError:  # the loop is closed and its core with it
            self.handling.terminate(entry, "collected")

    def _forgotten(self, entry: Entry) -> None:
        if entry.lent:
            self.gc_returns += 1
            self.release(entry, "collected")

    # -- all at once --------------------------------------------------------------------------

    async def warm(self, idle: int) -> None:
        """Open connections until *idle* of them are idle, as far as the limits allow."""
        while True:
            self._carry_out(self.core.fill(idle))
            if not self.creators:
                return
            done, _ = await asyncio.wait(self.creators, return_when=asyncio.FIRST_COMPLETED)
            for creator in done:
                error = None if creator.cancelled() else creator.result()
                if error is not None:
                    raise error

    def doom(self, born: float, reason: str = "server") -> None:
        """Close every connection opened until *born*: idle ones now, lent ones when they come back."""
        self._carry_out(self.core.doom(born, reason, self._clock()))

    def resize(self, size: int, overflow: int) -> None:
        """Set the limits anew; waiters get the room at once."""
        self._carry_out(self.core.resize(size, overflow, self._clock()))
        self.look_after()

    async def dispose(self) -> None:
        """Close every idle connection now, and every lent one when it comes back."""
        self._carry_out(self.core.dispose(now=self._clock()))
        await self._ended()

    async def close(self, timeout: float | None = None) -> None:
        """Lend nothing any more; wait up to *timeout* seconds for what is lent, then cut it off."""
        core = self.core
        self._carry_out(core.close(refuse_closed(self.manners.name)))
        if self._timer is not None:
            self._timer.cancel()
        for creator in self.creators:
            creator.cancel()
        if core.lent:
            self._drained = self.loop.create_future()
            try:
                async with asyncio.timeout(timeout):
                    await self._drained
            except TimeoutError:
                for entry in [*core.lent]:
                    self.handling.cut(entry)
        await self._ended()

    async def _ended(self) -> None:
        while self._ending:
            await asyncio.wait(self._ending)

    def abandon(self) -> None:
        """Throw idle connections away: their event loop is closed."""
        for action in self.core.dispose():
            if isinstance(action, Close):
                self.handling.terminate(action.entry, "dispose")
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    def leave_behind(self) -> None:
        """Let go of everything in a forked child: it belongs to the parent."""
        for entry in self.core.forget():
            self.handling.abandon(entry)

    # -- doing what the core says -------------------------------------------------------------

    def _carry_out(self, actions: Actions) -> None:
        for action in actions:
            if isinstance(action, Wake):
                _finish(action.ticket.wake)
            elif isinstance(action, Close):
                self._close(action.entry, action.reason)
            elif isinstance(action, Open):
                self._keep(self._create(), self.creators)
            elif isinstance(action, Leak):
                self.handling.leaked(self._describe(action.entry))
            elif isinstance(action, Reclaim):
                self.handling.cut(action.entry)

    def _close(self, entry: Entry, reason: str) -> None:
        """Close in the background, or at once where no goodbye is due."""
        self._leave(entry)
        if reason in ABRUPT or self.loop.is_closed():
            ending: Any = self.handling.terminate(entry, reason)
            if ending is not None:
                self._ending.add(ending)
                ending.add_done_callback(self._ending.discard)
        else:
            self._keep(self._say_goodbye(entry, reason), self._ending)
        if self.core.min_idle and self.core.lacks(self.core.min_idle):
            self._rest(0)

    async def _say_goodbye(self, entry: Entry, reason: str) -> None:
        try:
            await self.handling.close(entry, reason)
        except Exception:  # noqa: BLE001 - a connection that cannot say goodbye is thrown away
            self.handling.terminate(entry, reason)
        except BaseException:
            self.handling.terminate(entry, reason)
            raise

    def _keep(self, work: Coroutine[Any, Any, Any], tasks: set[Any]) -> None:
        """Let *work* be done; its task is kept, or it could be collected half-way."""
        if self.loop.is_closed():
            work.close()
            return
        task = self.loop.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    # -- hang-ups -----------------------------------------------------------------------------

    def _join(self, entry: Entry) -> None:
        """Watch the socket of a new connection, and the time."""
        fd = self.handling.fileno(entry)
        if fd is not None and hasattr(select, "epoll"):
            if self._watch is None:
                self._watch = select.epoll()
                self.loop.add_reader(self._watch.fileno(), _look, weakref.ref(self))
            try:
                self._watch.register(fd, select.EPOLLRDHUP | select.EPOLLET)
            except OSError:  # closed meanwhile, or still known under this number
                pass
            else:
                self._fds[entry] = fd
        self.look_after()

    def _leave(self, entry: Entry) -> None:
        fd = self._fds.pop(entry, None)
        if fd is not None and self._watch is not None:
            try:
                self._watch.unregister(fd)
            except (OSError, ValueError):  # the descriptor was closed, and forgotten with that
                pass

    def notice(self) -> None:
        """Take out of the pool what the server has closed; a lent connection when it comes back."""
        if self._watch is None:
            return
        gone = {fd for fd, _ in self._watch.poll(0)}
        dead = [entry for entry, fd in self._fds.items() if fd in gone]
        for entry in dead:
            entry.doomed = entry.doomed or "server"
        self._carry_out(
            self.core.close_idle([entry for entry in dead if not entry.lent], "server", self._clock())
        )
        self.look_after()

    # -- time ---------------------------------------------------------------------------------

    def look_after(self) -> None:
        """Do what is due, and set the alarm for what is due next."""
        core, now = self.core, self._clock()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if core.closed or self.loop.is_closed():
            return
        self._carry_out(core.tick(now))
        rest = LONGEST_REST
        for limit in (core.max_idle, core.leak_after, core.reclaim_after, core.idle_limit):
            if limit:
                rest = min(rest, limit)
        due = core.due(now)
        if due is not None:
            rest = min(rest, due - now)
        self._rest(max(rest, SHORTEST_REST))

    def _rest(self, seconds: float) -> None:
        """Look after the pool again in so many seconds."""
        if self._timer is not None:
            self._timer.cancel()
        if not self.core.closed and not self.loop.is_closed():
            self._timer = self.loop.call_later(seconds, _tick, weakref.ref(self))

    # -- what there is ------------------------------------------------------------------------

    def leases(self) -> list[LeaseInfo]:
        """Say who holds a connection, since when and from where; the oldest first."""
        return [self._describe(entry) for entry in sorted(self.core.lent, key=_lent_at)]

    def _describe(self, entry: Entry) -> LeaseInfo:
        return LeaseInfo(
            age=self._clock() - entry.lent_at,
            holder=_name(entry.by),
            place=describe(entry.site),
            statement=self.handling.statement(entry),
            connection_id=getattr(entry, "number", None),
        )

    def __repr__(self) -> str:
        return f"<LoopPool {repr(self.core)[10:]}"


def _name(by: Any) -> str:
    """Return the name of the task that a weak reference leads to."""
    if by is None:
        return "unknown"
    task = by()
    return "a task that has ended" if task is None else describe_holder(task)


def _lent_at(entry: Entry) -> float:
    return entry.lent_at


def _tick(reference: Any) -> None:
    """Look after a pool that may be gone."""
    pool = reference()
    if pool is not None:
        pool.look_after()


def _look(reference: Any) -> None:
    """Let a pool that may be gone notice hang-ups."""
    pool = reference()
    if pool is not None:
        pool.notice()


def _finish(future: asyncio.Future[None]) -> None:
    """Let whoever awaits *future* go on; one that is done (served, cancelled) stays as it is."""
    if not future.done():
        try:
            future.set_result(None)
        except RuntimeError:  # its event loop is closed, and nobody waits any more
            return
