# cython: language_level=3, annotation_typing=False
"""Connect for a pool of threads: in the caller's thread or a creator's, again while that may help.

A *creator* is a short-lived thread that opens one connection for whoever is first in line by then. Where an
attempt failed for a reason that may pass, the next follows after a pause, sooner if somebody else succeeds.

Compiled, because an interrupt cannot arrive within compiled code: not between opening and counting.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from sojourn.pooling import refusals

if TYPE_CHECKING:
    from collections.abc import Callable

    from sojourn.pooling.core import Entry, Ticket
    from sojourn.pooling.front import Front

FIRST_PAUSE = 0.01  # seconds between two attempts: at first, growing by a factor, at most; each +-50 %
PAUSE_GROWS = 1.6
LONGEST_PAUSE = 0.5


class Bells:
    """Wake those who linger, before their time."""

    __slots__ = ("_bells",)

    def __init__(self) -> None:
        self._bells: set[Any] = set()  # locks; their waiting can be bounded, and needs no other lock

    def linger(self, pool: Front, seconds: float) -> None:
        """Wait for at most *seconds*."""
        bell = pool.new_lock()
        bell.acquire()
        self._bells.add(bell)
        try:
            bell.acquire(True, seconds)  # by position: gevent's locks know no `blocking=`
        finally:
            self._bells.discard(bell)

    def ring(self) -> None:
        """Wake all of them."""
        for bell in list(self._bells):
            try:
                bell.release()
            except (RuntimeError, ValueError):  # it rang already; gevent's lock says ValueError
                pass

    def clear(self) -> None:
        """Forget those who lingered, in a forked child."""
        self._bells.clear()


def use_permit(pool: Front, ticket: Ticket, retired: Entry | None) -> bool:
    """Connect for *ticket*; return False if it got a connection that became idle between two attempts."""
    if retired is not None:
        pool.handling.close(retired, retired.doomed or "expired")
    core = pool.core
    pause = FIRST_PAUSE
    began = pool.clock()
    while True:
        start = pool.clock()
        try:
            entry = pool.handling.connect()
        except Exception as error:
            if _gives_up(pool, error, began, ticket.deadline):
                hopeless = pool.handling.is_hopeless(error)
                with pool.guard:
                    ticket.may_connect = False
                    actions = core.connect_failed(error, hopeless=hopeless, now=pool.clock())
                pool.carry_out(actions)
                if pool.ran_out(ticket) and pool.handling.is_transient(error):
                    raise pool.refuse_late(ticket) from error
                raise
            _note(pool, error)
        else:
            _register(pool, ticket, entry, start)
            return True
        _pause(pool, pause, ticket.deadline)
        pause = min(pause * PAUSE_GROWS, LONGEST_PAUSE)
        with pool.guard:
            now = pool.clock()
            ticket.entry = core.take(now)
            actions = () if ticket.entry is None else pool.give_permit_up(ticket, now)
        pool.carry_out(actions)
        if ticket.entry is not None:
            return False


def start_creator(pool: Front) -> None:
    """Start a creator; where there can be none, those in line connect themselves."""
    permit = [True]  # whoever takes it out answers for it: starting a thread can be interrupted half-way
    started = False
    try:
        started = start_thread(pool, "connects", create, pool, permit)
    finally:
        if not started and permit:
            permit.clear()
            with pool.guard:
                racing, pool.core.racing = pool.core.racing, False
                actions = pool.core.open_failed(now=pool.clock())
                pool.core.racing = racing
            pool.carry_out(actions)


def start_thread(pool: Front, does: str, function: Callable[..., object], *arguments: Any) -> bool:
    """Run *function* in a thread of its own; return False if there are no more threads to be had."""
    if sys.is_finalizing():  # it would never run, and start() waits until it does
        return False
    try:
        name = f"{pool.name or 'sojourn'}-{does}"
        pool.new_thread(target=function, args=arguments, name=name, daemon=True).start()
    except RuntimeError:
        return False
    return True


def create(pool: Front, permit: list[bool]) -> None:
    """Be a creator: open one connection."""
    if not permit:
        return
    permit.clear()
    core = pool.core
    pause = FIRST_PAUSE
    began = pool.clock()
    while True:
        start = pool.clock()
        try:
            entry = pool.handling.connect()
        except BaseException as error:  # noqa: BLE001 - it is the caller's, who waits in another thread
            wanted = core.waiting or len(core.idle) < core.min_idle
            if not wanted or not isinstance(error, Exception) or _gives_up(pool, error, began, None):
                _fail(pool, error)
                return
            _note(pool, error)
        else:
            _register(pool, None, entry, start)
            return
        _pause(pool, pause, None)
        pause = min(pause * PAUSE_GROWS, LONGEST_PAUSE)


def warm(pool: Front, n: int) -> None:
    """Open connections until *n* are idle, or the limit is reached."""
    core = pool.core
    pause = FIRST_PAUSE
    began = pool.clock()
    while True:
        with pool.guard:
            wanted = not core.closed and len(core.idle) < n and core.has_room()
            if wanted:
                core.open_one()
        pool.take_late()
        if not wanted:
            return
        start = pool.clock()
        try:
            entry = pool.handling.connect()
        except BaseException as error:
            gives_up = not isinstance(error, Exception) or _gives_up(pool, error, began, None)
            with pool.guard:
                actions = core.open_failed(now=pool.clock())
            pool.carry_out(actions)
            if gives_up:
                raise
        else:
            _register(pool, None, entry, start)
            continue
        _pause(pool, pause, None)
        pause = min(pause * PAUSE_GROWS, LONGEST_PAUSE)


def _register(pool: Front, ticket: Ticket | None, entry: Entry, start: float) -> None:
    """Count a new connection in: it is lent to *ticket*, or goes to the first in line."""
    core = pool.core
    actions: Any = ()
    counted = False
    try:
        luck = pool.luck()
        with pool.guard:
            now = pool.clock()
            if ticket is None:
                actions = pool.keep_places(core.opened(entry, now, took=now - start, luck=luck))
            else:
                core.connected(entry, now, took=now - start, luck=luck, since=ticket.since)
                entry.by = ticket.by
                ticket.may_connect = False
                ticket.entry = entry
            counted = True
            pool.connect_error = None
    except BaseException:
        if not counted:
            pool.handling.close(entry, "broken")
        raise
    pool.carry_out(actions)
    pool.pauses.ring()
    pool.plan_ahead()
    if core.closed and ticket is not None:
        raise refusals.refuse_closed(pool.name)


def _fail(pool: Front, error: BaseException) -> None:
    """Tell those in line that a creator failed: the first of them, or all if nobody needs to try again."""
    hopeless = pool.handling.is_hopeless(error)
    with pool.guard:
        now = pool.clock()
        pool.connect_error, pool.failed_at = error, now
        actions = pool.core.open_failed(error, hopeless=hopeless, now=now)
    pool.carry_out(actions)
    pool.plan_ahead()


def _note(pool: Front, error: BaseException) -> None:
    with pool.guard:
        pool.core.counts["connect_errors"] += 1
        pool.connect_error, pool.failed_at = error, pool.clock()
    pool.take_late()


def _gives_up(pool: Front, error: BaseException, began: float, deadline: float | None) -> bool:
    now = pool.clock()
    return (
        pool.core.closed
        or (deadline is not None and now >= deadline)
        or now - began >= pool.connect_retry
        or not pool.handling.is_transient(error)
    )


def _pause(pool: Front, seconds: float, deadline: float | None) -> None:
    seconds *= 0.5 + pool.luck()
    if deadline is not None:
        seconds = max(min(seconds, deadline - pool.clock()), 0.0)
    pool.pauses.linger(pool, seconds)
