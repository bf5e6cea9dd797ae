"""What a pool tells about itself: frozen copies of its numbers, by OpenTelemetry's names where it has some.

A snapshot is taken under the front's lock, so its numbers belong together: `idle + used + connecting`
is what counted against the limit at that moment, and `opened` less everything in `closed` is what
`idle + used` was (what a fork left behind counts as closed by the fork).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sojourn.pooling.histogram import BUCKETS, Histogram

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sojourn.pooling.core import PoolCore

    #: A metric is a number, or numbers by one attribute's value.
    Metric = float | Histogram | Mapping[str, float]


@dataclass(frozen=True, slots=True)
class LeaseInfo:
    """One connection that is lent: since when, to whom, from where."""

    age: float  # seconds since it was lent
    holder: str  # the thread's or the task's name
    place: str  # file:line in function
    statement: str | None = None  # the last one it ran in this lease, without its values
    connection_id: int | None = None  # how the pool or the server numbers it

    def __str__(self) -> str:
        text = f"{self.age:.1f} s, {self.holder}, {self.place}"
        return text if self.statement is None else f"{text}, last: {self.statement}"


@dataclass(frozen=True, slots=True)
class PoolStats:
    """The numbers of one pool at one moment; durations are in seconds."""

    name: str = ""
    # now
    idle: int = 0
    used: int = 0
    connecting: int = 0
    waiting: int = 0
    # limits
    size: int = 0
    overflow: int = 0
    max: int | None = None  # None: no limit
    min_idle: int = 0
    # since the pool was made
    opened: int = 0
    closed: Mapping[str, int] = field(default_factory=dict)  # by reason
    connect_errors: int = 0
    timeouts: int = 0
    cancelled: int = 0
    handoffs: int = 0
    leaks: int = 0
    gc_returns: int = 0
    pings: int = 0
    pings_failed: int = 0
    resets: Mapping[str, int] = field(default_factory=dict)  # by kind
    wait_time: Histogram = field(default_factory=Histogram)
    use_time: Histogram = field(default_factory=Histogram)
    create_time: Histogram = field(default_factory=Histogram)

    @property
    def pending_requests(self) -> int:
        """Return how many callers wait, by OpenTelemetry's word for it."""
        return self.waiting

    @property
    def total(self) -> int:
        """Return how many connections count against the limit."""
        return self.idle + self.used + self.connecting

    def as_otel(self) -> dict[str, Metric]:
        """Return every number by the name of its metric.

        OpenTelemetry's own are `db.client.connection.*`; what it has no name for is `sojourn.pool.*`.
        A metric with an attribute (state, reason, kind, result) is a dict by that attribute's value; a
        duration is a `Histogram`, see `bounds` for its buckets. The attribute
        `db.client.connection.pool.name` of all of them is `name`.
        """
        connection: dict[str, Metric] = {
            "count": {"idle": self.idle, "used": self.used},
            "idle.max": self.size if self.max is None else self.max,
            "idle.min": self.min_idle,
            "pending_requests": self.waiting,
            "timeouts": self.timeouts,
            "create_time": self.create_time,
            "wait_time": self.wait_time,
            "use_time": self.use_time,
        }
        if self.max is not None:
            connection["max"] = self.max
        pool: dict[str, Metric] = {
            "connecting": self.connecting,
            "created": self.opened,
            "closed": dict(self.closed),
            "create_errors": self.connect_errors,
            "handoffs": self.handoffs,
            "cancelled": self.cancelled,
            "leaks": self.leaks,
            "gc_returns": self.gc_returns,
            "pings": {"ok": self.pings - self.pings_failed, "failed": self.pings_failed},
            "resets": dict(self.resets),
        }
        return {
            **{f"db.client.connection.{name}": value for name, value in connection.items()},
            **{f"sojourn.pool.{name}": value for name, value in pool.items()},
        }


def snapshot(core: PoolCore, name: str = "", **more: Any) -> PoolStats:
    """Copy the core's numbers, and *more* that only its front knows; the caller holds the lock."""
    counts = core.counts
    return PoolStats(
        name=name,
        idle=len(core.idle),
        used=len(core.lent),
        connecting=core.connecting,
        waiting=len(core.waiting),
        size=core.size,
        overflow=core.overflow,
        max=core.limit,
        min_idle=core.min_idle,
        opened=counts["opened"],
        closed=dict(core.closed_by),
        connect_errors=counts["connect_errors"],
        timeouts=counts["timeouts"],
        cancelled=counts["cancelled"],
        handoffs=counts["handoffs"],
        leaks=counts["leaks"],
        wait_time=core.wait_time.copy(),
        use_time=core.use_time.copy(),
        create_time=core.create_time.copy(),
        **more,
    )


def bounds() -> list[float]:
    """Return the upper bounds of a histogram's buckets in seconds, for exporters; the last has none."""
    return [2.0**n / 1e6 for n in range(BUCKETS - 1)]
