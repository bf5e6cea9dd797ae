"""The keeper: what is due is done in time, and what takes too long is cut off."""

from __future__ import annotations

import gc
import threading
import time

import pytest

from sojourn.pooling.keeper import Keeper, keeper, limit
from tests.pooling.threads import Call, make, wait_until


class Diary:
    """Notes when it is called."""

    def __init__(self, *again):
        self.again = list(again)
        self.calls = []

    def note(self, now):
        self.calls.append(now)
        return self.again.pop(0) if self.again else None


# -- plans and limits, without a thread: time is an argument ----------------------------------------


def quiet():
    """Return a keeper whose thread will not start."""
    quiet = Keeper()
    quiet._starting.acquire()
    return quiet


def test_a_plan_is_called_when_it_is_due_and_as_often_as_it_asks():
    """It says itself when it is due next."""
    keeper, diary = quiet(), Diary(20.0)
    keeper.plan(diary.note, 10.0)

    for now in (9.0, 10.0, 15.0, 21.0, 99.0):
        keeper.run_due(now)

    assert diary.calls == [10.0, 21.0]


def test_plans_are_called_in_the_order_of_their_times():
    """Whenever they were made."""
    keeper, late, early = quiet(), Diary(), Diary()
    keeper.plan(late.note, 3.0)
    keeper.plan(early.note, 1.0)

    keeper.run_due(2.0)
    assert (early.calls, late.calls) == ([2.0], [])
    keeper.run_due(3.0)

    assert (early.calls, late.calls) == ([2.0], [3.0])


def test_a_cancelled_plan_and_one_whose_object_is_gone_are_not_called():
    """The keeper keeps nothing alive."""
    keeper, kept, gone = quiet(), Diary(), Diary()
    calls = gone.calls
    keeper.plan(kept.note, 1.0).cancel()
    keeper.plan(gone.note, 1.0)
    del gone
    gc.collect()

    keeper.run_due(2.0)

    assert (kept.calls, calls) == ([], [])


def test_a_plan_that_fails_does_not_stop_the_others(caplog):
    """It is logged, and not called again."""
    keeper, diary = quiet(), Diary()
    Broken = type("Broken", (), {"note": lambda self, now: 1 / 0})
    broken = Broken()
    keeper.plan(broken.note, 1.0)
    keeper.plan(diary.note, 2.0)

    keeper.run_due(3.0)

    assert len(diary.calls) == 1
    assert "ZeroDivisionError" in caplog.text


def test_a_plan_that_is_always_due_does_not_keep_the_thread_busy():
    """It is called a hundred times a second at most."""
    keeper, diary = quiet(), Diary(0.0, 0.0)
    keeper.plan(diary.note, 0.0)

    for now in (1.0, 1.005, 1.02):
        keeper.run_due(now)

    assert diary.calls == [1.0, 1.02]


def test_a_block_that_is_over_in_time_is_not_cut():
    """Also not later, when somebody else has the connection."""
    cuts = []
    with limit(lambda: cuts.append(1), 60) as bound:
        pass

    bound.run(100.0)  # as the keeper does when the time is up

    assert (cuts, bound.reached) == ([], False)


def test_a_block_that_takes_too_long_is_cut_and_raises():
    """TimeoutError, whatever the cutting made of what was blocked."""
    cut = threading.Event()

    with pytest.raises(TimeoutError, match=r"not over in 0\.01 s"), limit(cut.set, 0.01):
        assert cut.wait(20)

    def fail():
        with limit(cut.set, 0.01):
            wait_until(cut.is_set)
            raise OSError("reset")

    cut.clear()
    with pytest.raises(TimeoutError) as caught:
        fail()
    assert isinstance(caught.value.__cause__, OSError)


def test_no_limit_is_no_limit():
    """None starts nothing."""
    with limit(lambda: None, None) as bound:
        pass

    assert not bound.reached


def test_the_keeper_is_one_thread_whatever_it_keeps():
    """One for all pools and limits of the process."""
    diary = Diary()
    for _ in range(20):
        keeper().plan(diary.note, 0.0)
    wait_until(lambda: len(diary.calls) == 20)

    assert [thread.name for thread in threading.enumerate()].count("sojourn-keeper") == 1


def test_many_limits_at_a_time_are_each_enforced():
    """From many threads, shorter ones after longer ones."""

    def block(seconds):
        cut = threading.Event()
        started = time.monotonic()
        with pytest.raises(TimeoutError), limit(cut.set, seconds):
            assert cut.wait(20)
        return time.monotonic() - started

    calls = [Call(block, seconds) for seconds in (0.2, 0.1, 0.05, 0.02, 0.01)]

    assert all(call.result() < 10 for call in calls)


# -- what it does for a pool ------------------------------------------------------------------------


@pytest.mark.slow
def test_so_many_connections_are_idle_from_the_start_and_after_kills():
    """E2: `min_idle=3` are opened without being asked for, and again when the server killed them."""
    pool, server = make(5, 0, min_idle=3)
    wait_until(lambda: len(pool.core.idle) == 3)
    assert server.opened == 3

    victims = list(pool.core.idle)[:2]
    server.dead = {entry.connection for entry in victims}
    for entry in victims:
        entry.poll = lambda _: [True]

    wait_until(lambda: server.opened == 5 and len(pool.core.idle) == 3)
    assert sorted(server.closed) == sorted((entry.connection, "server") for entry in victims)


def test_without_a_minimum_nothing_is_opened_in_advance_and_nothing_planned():
    """E2: a pool that never grows beyond its size needs no keeper."""
    pool, server = make(5, 10)
    pool.release(pool.acquire())

    assert (server.opened, pool.plan) == (1, None)


@pytest.mark.slow
def test_a_minimum_that_cannot_be_kept_is_tried_again_later():
    """The server is down at first; nobody waits, so there is no hurry, and no storm of attempts."""
    pool, server = make(2, 0)
    server.errors = [OSError("refused")]
    pool.core.min_idle = 1
    pool.plan_ahead()

    wait_until(lambda: len(pool.core.idle) == 1)

    assert server.attempts == 2


def test_connections_beyond_the_size_close_after_a_time_without_use():
    """`idle_limit` counts idleness only; those within the size stay."""
    pool, server = make(1, 2, idle_limit=0.05)
    entries = [pool.acquire() for _ in range(3)]
    for entry in entries:
        pool.release(entry)

    wait_until(lambda: server.live == 1)

    assert {reason for _, reason in server.closed} == {"idle"}


@pytest.mark.parametrize(("option", "reason"), [("max_idle", "idle"), ("max_age", "expired")])
def test_idle_connections_are_retired_by_the_clock(option, reason):
    """E4: `max_idle` looks at idle time, `max_age` at age; neither needs a caller."""
    pool, server = make(1, 0, inline=True, **{option: 0.05})
    pool.release(pool.acquire())

    wait_until(lambda: server.live == 0)

    assert server.closed == [(1, reason)]


def test_a_lease_that_lasts_too_long_is_told_of_once():
    """With its thread and place; its connection stays its own."""
    pool, server = make(leak_after=0.02)
    Call(pool.acquire, name="leaky").result()

    wait_until(lambda: server.leaks)

    (lease,) = server.leaks
    assert lease.holder == "leaky (ended)"
    assert lease.age >= 0.02
    assert (pool.stats().leaks, server.cuts) == (1, [])


def test_a_lease_that_lasts_far_too_long_is_cut_off_and_its_place_freed():
    """Whoever waits goes on; the late return closes the connection, which nobody else has touched."""
    pool, server = make(reclaim_after=0.02, timeout=None)
    entry = Call(pool.acquire).result()

    assert pool.acquire().connection == 2
    assert (server.cuts, server.closed) == ([1], [])
    pool.release(entry)

    assert server.closed == [(1, "reclaimed")]
    assert dict(pool.stats().closed) == {"reclaimed": 1}
