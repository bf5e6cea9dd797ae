"""What a pool tells about itself."""

from __future__ import annotations

import dataclasses
import random

import pytest

from sojourn.pooling.core import Entry, PoolCore, Ticket
from sojourn.pooling.histogram import Histogram
from sojourn.pooling.stats import LeaseInfo, PoolStats, bounds, snapshot


def counted(*seconds):
    histogram = Histogram()
    for each in seconds:
        histogram.add(each)
    return histogram


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [
        (0.0, 0),
        (-1.0, 0),  # a clock that was set back
        (0.9e-6, 0),
        (1.1e-6, 1),
        (2.1e-6, 2),
        (0.001, 10),  # 1,000 us are below 2**10
        (1.0, 20),
        (200.0, 28),
        (300.0, 29),
        (1e6, 29),  # the last bucket has no end
    ],
)
def test_a_duration_falls_into_its_power_of_two(seconds, bucket):
    """Bucket n is below 2**n microseconds, and not below the half of that."""
    histogram = counted(seconds)

    assert [index for index, count in enumerate(histogram.buckets) if count] == [bucket]
    assert (histogram.count, histogram.total) == (1, seconds)


def test_quantiles_are_right_within_a_factor_of_two():
    """Whatever was counted, the estimate is in the same bucket as the true value."""
    luck = random.Random(1)
    for _ in range(50):
        durations = sorted(luck.lognormvariate(-7, 3) for _ in range(luck.randrange(1, 200)))
        histogram = counted(*durations)
        for q in (0.1, 0.5, 0.9, 0.99, 1.0):
            true = durations[min(int(q * len(durations)), len(durations) - 1)]
            neighbour = durations[max(int(q * len(durations)) - 1, 0)]
            assert neighbour / 2 <= histogram.quantile(q) <= max(true, 0.5e-6) * 2


def test_a_quantile_of_nothing_is_zero():
    """There is nobody to wait."""
    assert Histogram().quantile(0.99) == 0.0
    assert repr(Histogram()) == "<Histogram of nothing>"


def test_a_histogram_says_in_numbers_what_was_counted():
    """A status line: how many, how long on average, how long at worst."""
    assert repr(counted(0.001, 0.003)) == "<Histogram of 2: mean 0.002000 s, p99 0.004055 s>"


def test_a_copy_stays_and_what_came_since_can_be_told():
    """A snapshot does not move; the difference of two is what happened between them."""
    histogram = counted(0.001, 0.1)
    before = histogram.copy()
    histogram.add(0.1)
    histogram.add(7.0)

    since = histogram.since(before)

    assert (before.count, since.count) == (2, 2)
    assert since.buckets == counted(0.1, 7.0).buckets
    assert since.total == pytest.approx(7.1)


def test_the_bounds_are_those_of_the_buckets():
    """An exporter needs them; a duration just below a bound is in its bucket."""
    assert len(bounds()) == len(Histogram().buckets) - 1
    for bucket, bound in enumerate(bounds()):
        assert counted(bound * 0.999).buckets[bucket] == 1


def make_core():
    """A pool with one connection lent, one idle and one closed."""
    core = PoolCore(2, 1, min_idle=1)
    entries = []
    for _ in range(3):
        core.acquire(Ticket(), 0.0)
        entry = Entry()
        core.connected(entry, 0.5, took=0.5)
        entries.append(entry)
    core.release(entries[0], 2.5)
    core.release(entries[1], 2.5, "broken")
    return core


def test_a_snapshot_has_every_number():
    """K1: in use, idle, overflow, waiting, opened, closed, time-outs and durations have public names."""
    stats = snapshot(make_core(), "shop", gc_returns=4, resets={"skipped": 2})

    assert (stats.name, stats.idle, stats.used, stats.connecting, stats.waiting) == ("shop", 1, 1, 0, 0)
    assert (stats.size, stats.overflow, stats.max, stats.min_idle, stats.total) == (2, 1, 3, 1, 2)
    assert (stats.opened, stats.closed, stats.gc_returns, stats.resets) == (
        3,
        {"broken": 1},
        4,
        {"skipped": 2},
    )
    assert (stats.use_time.count, stats.create_time.total, stats.pending_requests) == (2, 1.5, 0)


def test_opened_less_closed_is_what_there_is():
    """K2: also when somebody looks for the first time late."""
    stats = snapshot(make_core())

    assert stats.opened - sum(stats.closed.values()) == stats.idle + stats.used


def test_a_snapshot_does_not_change():
    """It is frozen, and its parts are copies."""
    core = make_core()
    stats = snapshot(core)
    core.release(core.lent[0], 9.0, "broken")

    assert (stats.used, stats.closed, stats.use_time.count) == (1, {"broken": 1}, 2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        stats.used = 5


def test_the_metrics_have_opentelemetrys_names():
    """Those that it knows are under its prefix, the others under ours."""
    stats = snapshot(make_core(), pings=5, pings_failed=2)
    metrics = stats.as_otel()

    assert metrics["db.client.connection.count"] == {"idle": 1, "used": 1}
    assert metrics["db.client.connection.max"] == 3
    assert metrics["db.client.connection.use_time"] is stats.use_time
    assert metrics["sojourn.pool.closed"] == {"broken": 1}
    assert metrics["sojourn.pool.pings"] == {"ok": 3, "failed": 2}
    assert sorted(metrics) == [
        "db.client.connection.count",
        "db.client.connection.create_time",
        "db.client.connection.idle.max",
        "db.client.connection.idle.min",
        "db.client.connection.max",
        "db.client.connection.pending_requests",
        "db.client.connection.timeouts",
        "db.client.connection.use_time",
        "db.client.connection.wait_time",
        "sojourn.pool.cancelled",
        "sojourn.pool.closed",
        "sojourn.pool.connecting",
        "sojourn.pool.create_errors",
        "sojourn.pool.created",
        "sojourn.pool.gc_returns",
        "sojourn.pool.handoffs",
        "sojourn.pool.leaks",
        "sojourn.pool.pings",
        "sojourn.pool.resets",
    ]


def test_a_pool_without_a_limit_names_none():
    """A number that does not exist is left out instead of invented."""
    assert "db.client.connection.max" not in snapshot(PoolCore(5, -1)).as_otel()
    assert "db.client.connection.max" not in PoolStats().as_otel()


def test_a_lease_is_one_line():
    """As it stands in the text of a time-out (E3)."""
    lease = LeaseInfo(12.345, "Thread-3", "app.py:12 in buy", "SELECT 1")

    assert str(lease) == "12.3 s, Thread-3, app.py:12 in buy, last: SELECT 1"
    assert str(dataclasses.replace(lease, statement=None)) == "12.3 s, Thread-3, app.py:12 in buy"
