"""Say what a pool of threads is doing: its numbers, its leases, and why it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sojourn.pooling import refusals
from sojourn.pooling.places import describe, describe_holder
from sojourn.pooling.stats import LeaseInfo, PoolStats, snapshot

if TYPE_CHECKING:
    from sojourn.pooling.core import Entry, PoolCore, Ticket
    from sojourn.pooling.front import Front


def take_stats(pool: Front) -> PoolStats:
    """Return the numbers of the moment; the caller holds the lock."""
    return snapshot(
        pool.core,
        pool.name,
        gc_returns=pool.gc_returns,
        pings=pool.pings,
        pings_failed=pool.pings_failed,
        resets=dict(pool.resets),
    )


def list_leases(core: PoolCore, now: float) -> list[LeaseInfo]:
    """Say who holds a connection, the oldest lease first; the caller holds the lock."""
    return [describe_lease(entry, now) for entry in sorted(core.lent, key=_lent_at)]


def describe_lease(entry: Entry, now: float) -> LeaseInfo:
    """Say who holds *entry*, since when and from where."""
    return LeaseInfo(
        age=now - entry.lent_at,
        holder=describe_holder(entry.by),
        place=describe(entry.site),
        statement=entry.statement,
        connection_id=getattr(entry, "number", None),
    )


def refuse_late(pool: Front, ticket: Ticket) -> BaseException:
    """Return the error of a caller whose time is up; the caller holds the lock."""
    now = pool.clock()
    pool.core.counts["timeouts"] += 1
    return refusals.refuse_late(
        pool.name, now - ticket.since, refusals.count(pool.core), list_leases(pool.core, now)
    )


def refuse_self_wait(pool: Front, ticket: Ticket) -> BaseException:
    """Return the error of a caller who would wait for itself; the caller holds the lock."""
    leases = list_leases(pool.core, ticket.since)
    return refusals.refuse_self_wait(pool.name, describe_holder(ticket.by), leases)


def refuse_crowd(pool: Front, ticket: Ticket) -> BaseException:
    """Return the error of a caller who finds the line too long already; the caller holds the lock."""
    core = pool.core
    leases = list_leases(core, ticket.since)
    return refusals.refuse_crowd(pool.name, len(core.waiting), refusals.count(core), leases)


def refuse_closed(pool: Front, ticket: Ticket) -> BaseException:
    """Return the error of a caller who comes too late."""
    return refusals.refuse_closed(pool.name)


def _lent_at(entry: Entry) -> float:
    return entry.lent_at
