"""The thread front: who waits is served in turn, and nothing is lost between threads."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest

from sojourn.errors import PoolClosed, PoolDeadlock, PoolTimeout
from tests.pooling.threads import Call, at_rest, make, queue, wait_until

# -- lending -----------------------------------------------------------------------------------


def test_a_connection_is_opened_when_asked_for_and_lent_again():
    """E1: nothing is opened at creation, and one caller after the other needs one connection."""
    pool, server = make(5, 10)
    assert server.opened == 0

    for _ in range(3):
        pool.release(pool.acquire())

    assert (server.opened, len(pool.core.idle)) == (1, 1)


def test_idle_connections_never_exceed_the_size_for_long_and_live_ones_never_the_limit():
    """E1: with `idle_limit=0` those beyond the size close on return, as in SQLAlchemy."""
    pool, server = make(2, 1, idle_limit=0)
    entries = [pool.acquire() for _ in range(3)]
    with pytest.raises(PoolTimeout):
        pool.acquire(0)

    for entry in entries:
        pool.release(entry)

    assert (len(pool.core.idle), server.live, server.peak) == (2, 2, 3)
    assert server.closed == [(3, "overflow")]


def test_overflow_churn_extra_connections_are_kept_and_used_again():
    """A load of 15 on 5 + 10 opens 15 connections once, not one per request beyond the fifth."""
    pool, server = make(5, 10)

    for _ in range(10):
        entries = [pool.acquire() for _ in range(15)]
        for entry in entries:
            pool.release(entry)

    assert (server.opened, server.closed) == (15, [])


def test_a_second_return_is_refused():
    """It would lend one connection to two callers."""
    pool, _ = make()
    entry = pool.acquire()
    pool.release(entry)

    with pytest.raises(ValueError, match="already"):
        pool.release(entry)
    with pytest.raises(ValueError, match="already"):
        pool.release(entry, "broken")


def test_a_detached_connection_leaves_its_place_to_others():
    """And is not closed: it is its holder's now."""
    pool, server = make()
    entry = pool.acquire()

    pool.detach(entry)

    assert pool.acquire().connection == 2
    assert server.closed == []


def test_old_connections_are_replaced_by_the_clock_that_is_passed_in():
    """E4: age counts from opening, and ends a connection at its next lease, never in use."""
    now = [0.0]
    pool, server = make(max_age=60, clock=lambda: now[0], luck=lambda: 0.0)
    pool.release(pool.acquire())
    now[0] = 59.0
    held = pool.acquire()
    now[0] = 61.0
    assert (held.connection, server.closed) == (1, [])

    pool.release(held)

    assert pool.acquire().connection == 2
    assert server.closed == [(1, "expired")]


# -- waiting -----------------------------------------------------------------------------------


def test_starvation_the_order_of_service_is_the_order_of_arrival():
    """First come, first served, for every one of twelve waiters."""
    pool, _ = make()
    entry = pool.acquire()
    served = []

    def caller(number):
        mine = pool.acquire()
        served.append(number)
        pool.release(mine)

    calls = []
    for number in range(12):
        calls.append(Call(caller, number))
        wait_until(lambda: len(pool.core.waiting) == len(calls))
    pool.release(entry)
    for call in calls:
        call.result()

    assert served == list(range(12))


def test_starvation_who_gives_back_cannot_take_past_those_who_wait():
    """The connection is handed over in the moment of its return, before the waiter even runs."""
    pool, _ = make()
    entry = pool.acquire()
    waiter = queue(pool)

    pool.release(entry)

    with pytest.raises(PoolTimeout):
        pool.acquire(0)
    assert waiter.result() is entry
    assert entry.by is waiter
    assert pool.stats().handoffs == 1


def test_a_waiter_that_runs_out_of_time_is_told_who_holds_what():
    """E3: the error is the built-in TimeoutError too; it lists the holders by thread, age and place."""
    pool, _ = make(timeout=0.01)
    Call(pool.acquire, name="greedy").result()

    with pytest.raises(TimeoutError) as caught:
        pool.acquire()

    error = caught.value
    assert isinstance(error, PoolTimeout)
    assert "of at most 1 there are 1 lent, 0 idle, 0 connecting; 1 wait" in str(error)
    assert "greedy (ended), " in str(error)
    assert f"{__file__.rpartition('/')[0]}/threads.py:" in str(error)
    assert 0.01 <= error.waited < 10
    assert [lease.holder for lease in error.leases] == ["greedy (ended)"]
    assert not pool.core.waiting
    assert pool.stats().timeouts == 1


def test_a_leak_has_a_name():
    """`leases()` says since when, by which thread and from where, the oldest first."""
    now = [100.0]
    pool, _ = make(2, clock=lambda: now[0])
    entry = pool.acquire()
    entry.statement = "SELECT 1"
    now[0] = 130.0
    Call(pool.acquire, name="second").result()

    first, second = pool.leases()

    assert (first.age, first.holder, first.statement) == (30.0, "MainThread", "SELECT 1")
    assert first.place.endswith("in test_a_leak_has_a_name")
    assert f"{__file__}:" in first.place
    assert (second.age, second.holder) == (0.0, "second (ended)")


def test_self_wait_a_thread_that_holds_everything_is_told_at_once():
    """E8: with 30 seconds of patience, the error comes without waiting."""
    pool, _ = make(2, 0, timeout=30)
    entries = [pool.acquire(), pool.acquire()]

    with pytest.raises(PoolDeadlock, match="MainThread holds every connection"):
        pool.acquire()

    pool.release(entries[0])
    assert pool.acquire() is entries[0]


def test_self_wait_can_be_allowed():
    """`self_wait="wait"`: another thread may give one back."""
    pool, _ = make(self_wait="wait")
    entry = pool.acquire()
    helper = threading.Timer(0, lambda: (wait_until(lambda: pool.core.waiting), pool.release(entry)))
    helper.start()

    assert pool.acquire() is entry
    helper.join()


def test_a_new_thread_is_not_mistaken_for_an_ended_one():
    """Thread numbers are used again; a lease that outlived its thread is not the next thread's."""
    pool, _ = make()
    entry = Call(pool.acquire).result()

    waiter = queue(pool)  # most likely under the same number
    pool.release(entry)

    assert waiter.result() is entry


def test_a_line_that_is_long_enough_refuses_more():
    """`max_waiting` counts those who wait now; who gave up does not count."""
    pool, _ = make(max_waiting=1, self_wait="wait")
    entry = pool.acquire()
    for _ in range(3):
        with pytest.raises(PoolTimeout):
            pool.acquire(0)
    waiter = queue(pool)

    with pytest.raises(PoolTimeout, match="1 callers wait already"):
        pool.acquire()

    pool.release(entry)
    assert waiter.result() is entry


def test_a_return_from_the_garbage_collector_never_blocks():
    """The collector may run in the very thread that holds the lock; the return is taken along afterwards."""
    inside = []  # the pool reads its clock while it holds the lock
    pool, _ = make(clock=lambda: (inside and gc.collect(), 1.0)[1])
    entry = pool.acquire()

    class Holder:
        pass

    holder = Holder()
    holder.itself = holder
    weakref.finalize(holder, pool.release, entry)
    del holder
    inside.append(True)
    pool.resize(1, 0)
    inside.clear()

    assert pool.core.leased == 0
    assert pool.acquire(0) is entry


def test_a_lost_interrupt_nothing_stays_taken_when_a_wait_is_interrupted(interrupt_main):
    """KeyboardInterrupt while waiting: the place in line is given up, and the next return serves the next."""
    pool, _ = make()
    entry = Call(pool.acquire).result()

    with pytest.raises(KeyboardInterrupt), interrupt_main(lambda: pool.core.waiting):
        pool.acquire()

    assert not pool.core.waiting
    pool.release(entry)
    assert pool.acquire() is entry
    assert pool.stats().cancelled == 1


def test_a_lost_interrupt_nothing_stays_taken_when_connecting_is_interrupted():
    """Whatever connecting raises, its place goes to the next in line."""
    for error in (KeyboardInterrupt(), SystemExit(), GeneratorExit()):
        pool, server = make()
        server.errors = [error]
        with pytest.raises(type(error)):
            pool.acquire()

        assert at_rest(pool)
        assert pool.acquire().connection == 1


# -- sizes, and the end ------------------------------------------------------------------------


def test_enlarging_serves_those_who_wait_at_once():
    """F1: in place, and no return is needed."""
    pool, _ = make(timeout=None)
    entry = pool.acquire()
    waiters = [queue(pool), queue(pool)]

    pool.resize(3, 0)

    assert sorted(waiter.result().connection for waiter in waiters) == [2, 3]
    assert entry.lent


def test_shrinking_closes_idle_connections_now_and_those_in_use_on_return():
    """F2: never one in use."""
    pool, server = make(3)
    entries = [pool.acquire() for _ in range(3)]
    pool.release(entries[0])

    pool.resize(1, 0)
    assert server.closed == [(1, "resize")]
    pool.release(entries[1])
    pool.release(entries[2])

    assert server.closed == [(1, "resize"), (2, "resize")]
    assert len(pool.core.idle) == 1


def test_warming_opens_until_so_many_are_idle():
    """Not beyond the limit."""
    pool, server = make(2, 1)
    pool.warm(2)
    assert (len(pool.core.idle), server.opened) == (2, 2)

    pool.warm(9)

    assert (len(pool.core.idle), server.opened) == (3, 3)


def test_warming_raises_what_connecting_raises():
    """And leaves nothing behind."""
    pool, server = make(2)
    server.errors = [OSError("refused")]

    with pytest.raises(OSError, match="refused"):
        pool.warm(1)
    assert at_rest(pool)


def test_a_place_is_taken_until_its_connection_is_closed():
    """The server never sees more than the limit, however long saying goodbye takes."""
    pool, server = make(timeout=None)
    entry = pool.acquire()
    closing, go_on = threading.Event(), threading.Event()
    close = server.close
    server.close = lambda *told: (closing.set(), go_on.wait(20), close(*told))
    release = Call(pool.release, entry, "broken")
    assert closing.wait(20)
    with pytest.raises(PoolTimeout):
        pool.acquire(0)
    waiter = queue(pool)
    assert server.opened == 1

    go_on.set()

    release.result()
    assert waiter.result().connection == 2
    assert server.peak == 1


def test_closing_waits_for_what_is_lent():
    """Waiters fail at once, and the last return ends it; nothing is lent any more."""
    pool, server = make(timeout=None)
    entry = Call(pool.acquire).result()
    waiter = queue(pool)

    closing = Call(pool.close, 20)
    with pytest.raises(PoolClosed):
        waiter.result()
    pool.release(entry)
    closing.result()

    assert (server.closed, server.cuts) == ([(1, "closed")], [])
    with pytest.raises(PoolClosed):
        pool.acquire()


def test_closing_cuts_off_what_does_not_come_back_in_time():
    """Whoever holds it fails at its next statement; its late return is welcome."""
    pool, server = make(2)
    entry = Call(pool.acquire).result()
    own = pool.acquire()

    pool.close(0.01)

    assert sorted(server.cuts) == [1, 2]
    pool.release(entry)
    pool.release(own)
    assert server.live == 0


def test_closing_does_not_wait_for_what_its_own_thread_holds():
    """It could not come back."""
    pool, server = make(timeout=None)
    pool.acquire()

    pool.close()

    assert server.cuts == [1]


def test_a_connection_opened_while_the_pool_closes_is_not_lent():
    """Its caller is told that the pool is closed."""
    pool, server = make()
    server.gate = threading.Event()
    connecting = Call(pool.acquire)
    wait_until(lambda: server.attempts == 1)

    closing = Call(pool.close, 20)
    wait_until(lambda: pool.core.closed)
    server.gate.set()

    with pytest.raises(PoolClosed):
        connecting.result()
    closing.result()
    assert server.live == 0


# -- numbers -----------------------------------------------------------------------------------


def test_the_numbers_can_be_read_and_agree_at_rest():
    """K1, K2: opened less closed is what is idle and in use; waits are counted."""
    pool, server = make(2, 1, name="orders")
    entries = [pool.acquire() for _ in range(3)]
    pool.release(entries[0])
    pool.release(entries[1], "broken")

    stats = pool.stats()

    assert (stats.name, stats.idle, stats.used, stats.waiting, stats.max) == ("orders", 1, 1, 0, 3)
    assert (stats.opened, dict(stats.closed)) == (3, {"broken": 1})
    assert stats.opened - sum(stats.closed.values()) == stats.idle + stats.used == server.live
    assert (stats.wait_time.count, stats.use_time.count, stats.create_time.count) == (3, 2, 3)
    assert repr(pool) == "<Pool orders: limit 3: 1 lent, 1 idle, 0 connecting, 0 waiting>"
