# cython: language_level=3, annotation_typing=False
"""What the pool's core decides as time passes: `PoolCore.tick` and `PoolCore.due`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sojourn.pooling.answers import Leak, Reclaim

NEVER = float("inf")

if TYPE_CHECKING:
    from sojourn.pooling.answers import Action

    PoolCore = Any  # the core, whose file imports this one
    Entry = Any  # the same


def tick(core: PoolCore, now: float) -> list[Action]:
    """Do what is due by *now*."""
    return [
        *_begin_retirement(core, now),
        *core.close_idle([entry for entry in core.idle if _is_over(core, entry, now)], "expired", now),
        *_close_long_idle(core, now),
        *(core.fill(core.min_idle) if core.racing and now >= core.refill_at else ()),
        *_watch_leases(core, now),
    ]


def due(core: PoolCore, now: float) -> float | None:
    """Return when `tick` has something to do next."""
    times = [entry.expires for entry in core.idle if entry.expires and entry is not core.retiring]
    retirement = _next_retirement(core)
    if retirement is not None:
        times.append(retirement[0])
    until = _idle_until(core)
    if until is not None:
        times.append(until)
    for entry in core.lent:
        if core.leak_after is not None and not entry.leaking:
            times.append(entry.lent_at + core.leak_after)
        if core.reclaim_after is not None and not entry.cut:
            times.append(entry.lent_at + core.reclaim_after)
    if core.racing and core.refill_at < NEVER and core.lacks(core.min_idle):
        times.append(max(now, core.refill_at))
    return min(times, default=None)


# -- age ---------------------------------------------------------------------------------------


def _is_over(core: PoolCore, entry: Entry, now: float) -> bool:
    return bool(entry.expires) and now >= entry.expires and entry is not core.retiring


def _next_retirement(core: PoolCore) -> tuple[float, Entry] | None:
    """Return when creators replace which idle entry next; None where they replace none.

    That is early enough that each of the others can follow an interval later and still be in time.
    """
    if not core.racing or core.max_age is None or core.retiring is not None:
        return None
    ageing = sorted([entry for entry in core.idle if entry.expires], key=_expires)
    if not ageing:
        return None
    interval = core.max_age / max(core.size, len(core.idle) + len(core.lent))
    in_time = min([entry.expires - nth * interval for nth, entry in enumerate(ageing)])
    return max(in_time, core.retired_at + interval), ageing[0]


def _begin_retirement(core: PoolCore, now: float) -> list[Action]:
    """Have the connection replaced whose turn it is, or only closed if fewer will do."""
    turn = _next_retirement(core)
    if turn is None or now < turn[0]:
        return []
    core.retired_at = now
    entry = turn[1]
    if core.is_above():
        return [*core.close_idle([entry], "expired", now)]
    if core.has_room():
        core.retiring = entry
        return [core.open_one()]
    return [*core.close_idle([entry], "expired", now), core.open_one()]


def end_retirement(core: PoolCore) -> list[Action]:
    """Close the entry that was to be replaced, now that another is open; a lent one at its return."""
    old, core.retiring = core.retiring, None
    if old is None:
        return []
    if old.lent:
        old.doomed = old.doomed or "expired"
    elif old in core.idle:
        core.idle.remove(old)
        return [core.close_one(old, "expired")]
    return []


# -- idleness and leases -----------------------------------------------------------------------


def idle_since(entry: Entry) -> float:
    """Sort the coldest first."""
    return float(entry.idle_since)


def _expires(entry: Entry) -> float:
    return float(entry.expires)


def _idle_until(core: PoolCore) -> float | None:
    """Return when the coldest connection has been idle for too long, or None if it may stay."""
    if len(core.idle) <= core.min_idle:
        return None
    limits: list[float] = [] if core.max_idle is None else [core.max_idle]
    if core.idle_limit is not None and core.is_above():
        limits.append(core.idle_limit)
    if not limits:
        return None
    return min(map(idle_since, core.idle)) + min(limits)


def _close_long_idle(core: PoolCore, now: float) -> list[Action]:
    actions: list[Action] = []
    while (until := _idle_until(core)) is not None and now >= until:
        actions += core.close_idle(core.coldest()[:1], "idle", now)
    return actions


def _watch_leases(core: PoolCore, now: float) -> list[Action]:
    """Tell of each leak once, and cut each lease off once."""
    actions: list[Action] = []
    if core.leak_after is None and core.reclaim_after is None:
        return actions
    for entry in core.lent:
        if core.leak_after is not None and now >= entry.lent_at + core.leak_after and not entry.leaking:
            entry.leaking = True
            core.counts["leaks"] += 1
            actions.append(Leak(entry))
        if core.reclaim_after is not None and now >= entry.lent_at + core.reclaim_after and not entry.cut:
            entry.cut = True
            entry.doomed = entry.doomed or "reclaimed"
            actions.append(Reclaim(entry))
    return actions
