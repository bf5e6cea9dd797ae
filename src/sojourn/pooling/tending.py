"""Do for a pool of threads what falls due: retire, refill, tell of leaks, cut off what is out for too long.

The keeper calls when it is time, but must not wait, so whatever talks to a server or a listener runs in a
short-lived thread.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from sojourn.pooling import reports
from sojourn.pooling.answers import Close
from sojourn.pooling.connecting import start_thread
from sojourn.pooling.keeper import keeper

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sojourn.pooling.core import Entry
    from sojourn.pooling.front import Front

SWEEP = 1.0  # seconds between two looks at the sockets of idle connections where `min_idle` is promised


def next_due(pool: Front, now: float) -> float | None:
    """Return when there may be something to do at the earliest; the caller holds the lock.

    What is lent can become idle at any time without anybody being told. A time that is counted from then is
    over no sooner than the same time counted from now.
    """
    core = pool.core
    if core.closed or not (core.total or core.min_idle):
        return None
    due = core.due(now)
    times = [] if due is None else [due]
    times += [now + span for span in (core.max_idle, core.leak_after, core.reclaim_after) if span]
    if core.idle_limit and core.is_above():
        times.append(now + core.idle_limit)
    if core.max_age is not None:  # an early replacement depends on how many there will be
        times.append(now + core.max_age / 10)
    if core.min_idle and core.racing:
        times.append(now + SWEEP)
    return min(times, default=None)


def plan_ahead(pool: Front) -> None:
    """Have the keeper call in time; needed whenever something new may fall due."""
    with pool.guard:
        now = pool.clock()
        due = next_due(pool, now)
        when = None if due is None else time.monotonic() + max(due - now, 0.0)
        plan = pool.plan
        if when is not None and (plan is None or when < plan.when):
            if plan is not None:
                plan.cancel()
            pool.plan = keeper().plan(pool.keep, when)
    pool.take_late()


def keep(pool: Front) -> float | None:
    """Decide what is due, let a thread do it, and return when the keeper shall call again."""
    with pool.guard:
        now = pool.clock()
        actions = pool.keep_places(pool.core.tick(now))
        suspects = _borrow_suspects(pool, now)
        due = next_due(pool, now)
        when = None if due is None else time.monotonic() + max(due - now, 0.0)
        if when is None:
            pool.plan = None
        elif pool.plan is not None:
            pool.plan.when = when  # for `plan_ahead`, which may come before the keeper reads what is returned
    pool.take_late()
    if (actions or suspects) and not start_thread(pool, "tends", _carry_out, pool, actions, suspects):
        _carry_out(pool, actions, suspects)
    return when


def _borrow_suspects(pool: Front, now: float) -> list[Entry]:
    """Borrow the idle connections whose sockets have something to say, where `min_idle` is promised."""
    core = pool.core
    if not core.min_idle:
        return []
    suspects = [entry for entry in core.idle if entry.poll is not None and entry.poll(0)]
    for entry in suspects:
        core.borrow(entry, now)
    return suspects


def _carry_out(pool: Front, actions: Sequence[Any], suspects: list[Entry]) -> None:
    pool.carry_out(actions)
    for entry in suspects:
        serves = False
        try:
            serves = pool.serves(entry, 0.0)
        finally:
            pool.release(entry, None if serves else "server")
    if suspects:
        plan_ahead(pool)


def tell_of_leak(pool: Front, entry: Entry) -> None:
    """Tell that *entry* is lent for too long, if it still is."""
    with pool.guard:
        lease = reports.describe_lease(entry, pool.clock()) if entry.lent else None
    pool.take_late()
    if lease is not None:
        pool.handling.leaked(lease)


def reclaim(pool: Front, entry: Entry) -> None:
    """Cut a lease off and free its place; its holder, who may be using it, has the connection closed."""
    pool.handling.cut(entry)
    with pool.guard:
        actions = pool.core.release(entry, pool.clock(), "reclaimed") if entry.lent else ()
    pool.carry_out([action for action in actions if not isinstance(action, Close)])
