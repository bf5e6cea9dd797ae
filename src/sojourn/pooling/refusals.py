"""Word the errors with which a pool refuses: the numbers that explain them, and who holds what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sojourn.errors import PoolClosed, PoolDeadlock, PoolTimeout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sojourn.pooling.core import PoolCore
    from sojourn.pooling.stats import LeaseInfo

SHOWN = 5  # of the oldest leases: the culprit is among them, and the text stays readable


def count(core: PoolCore) -> str:
    """Return the state of *core* in words; the caller holds the lock."""
    most = "without a limit" if core.limit is None else f"of at most {core.limit}"
    return (
        f"{most} there are {core.leased} lent, {len(core.idle)} idle, {core.connecting} connecting; "
        f"{len(core.waiting)} wait"
    )


def refuse_late(name: str, waited: float, counted: str, leases: Sequence[LeaseInfo]) -> PoolTimeout:
    """Return the error of a caller whose time is up."""
    return PoolTimeout(
        f"No connection{_of(name)} became free in {waited:.2f} s: {counted}.{_list(leases)}",
        "Give connections back sooner (session.close(), with-blocks), or allow more: "
        "create_engine(..., pool_size=..., max_overflow=..., pool_timeout=...).",
        waited=waited,
        leases=leases,
    )


def refuse_crowd(name: str, allowed: int, counted: str, leases: Sequence[LeaseInfo]) -> PoolTimeout:
    """Return the error of a caller who finds the line too long already."""
    return PoolTimeout(
        f"{allowed} callers wait already for a connection{_of(name)}: {counted}.{_list(leases)}",
        "Try again later, or let more wait: create_engine(..., max_waiting=...).",
        leases=leases,
    )


def refuse_self_wait(name: str, who: str, leases: Sequence[LeaseInfo]) -> PoolDeadlock:
    """Return the error of a caller who would wait for itself."""
    return PoolDeadlock(
        f"{who} holds every connection{_of(name)} that there may be and asks for another: "
        f"nobody else can give one back.{_list(leases)}",
        "Give one back first, or let both pieces of work share one session or connection. If another thread "
        'will give one back: create_engine(..., self_wait="wait").',
        leases=leases,
    )


def refuse_closed(name: str) -> PoolClosed:
    """Return the error of a caller who comes to a closed pool."""
    return PoolClosed(
        f"The pool{_of(name)} is closed and lends no more connections.",
        "Create another engine, or close this one later: engine.dispose() keeps it usable.",
    )


def _of(name: str) -> str:
    return f" of {name!r}" if name else ""


def _list(leases: Sequence[LeaseInfo]) -> str:
    if not leases:
        return ""
    return "".join(["\n  The oldest leases:", *(f"\n    {lease}" for lease in leases[:SHOWN])])
