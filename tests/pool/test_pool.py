"""The thread front: waits, wakes, closes; nothing is lost between threads."""

from __future__ import annotations

import random
import threading

import pytest

from sojourn.errors import PoolTimeout
from sojourn.pool import Pool


class Numbers:
    """Opens and closes numbers, and remembers which."""

    def __init__(self):
        self.opened = 0
        self.closed = []
        self.refuse = 0

    def connect(self):
        if self.refuse:
            self.refuse -= 1
            raise OSError("refused")
        self.opened += 1
        return self.opened


def make(size=1, overflow=0, **options):
    numbers = Numbers()
    return Pool(numbers.connect, numbers.closed.append, size=size, overflow=overflow, **options), numbers


def wait_until_queued(pool, count):
    """Wait until *count* callers wait in line."""
    ready = threading.Event()
    while len(pool.core.waiting) < count:
        ready.wait(0.001)


def test_a_connection_is_opened_once_and_lent_again():
    """Nothing is opened at creation."""
    pool, numbers = make()
    assert numbers.opened == 0

    for _ in range(3):
        entry = pool.acquire()
        assert entry.connection == 1
        pool.release(entry)


def test_a_waiter_that_runs_out_of_time_is_told_the_numbers():
    """E3: the error is also the built-in TimeoutError, and says who holds what."""
    pool, _ = make(timeout=0.01)
    pool.acquire()

    with pytest.raises(TimeoutError) as caught:
        pool.acquire()

    assert isinstance(caught.value, PoolTimeout)
    assert "size 1 and overflow 0 has 1 lent, 0 idle, 0 connecting, and 1 waiting" in str(caught.value)
    assert not pool.core.waiting


def test_waiting_threads_are_served_in_their_order():
    """First come, first served, by direct hand-over."""
    pool, _ = make()
    entry = pool.acquire()
    served = []

    def caller(number):
        mine = pool.acquire()
        served.append(number)
        pool.release(mine)

    threads = []
    for number in range(4):
        threads.append(threading.Thread(target=caller, args=(number,)))
        threads[-1].start()
        wait_until_queued(pool, number + 1)
    pool.release(entry)
    for thread in threads:
        thread.join()

    assert served == [0, 1, 2, 3]


def test_a_waiter_goes_on_when_another_callers_connect_fails():
    """The permit of a failed connect is handed on at once."""
    pool, numbers = make()
    entry = pool.acquire()
    numbers.refuse = 1
    got = []
    failed = []

    def caller():
        try:
            got.append(pool.acquire())
        except OSError as error:
            failed.append(error)

    threads = [threading.Thread(target=caller) for _ in range(2)]
    for number, thread in enumerate(threads):
        thread.start()
        wait_until_queued(pool, number + 1)
    pool.release(entry, healthy=False)
    for thread in threads:
        thread.join()

    assert (len(got), len(failed)) == (1, 1)
    assert numbers.closed == [1]


def test_a_return_from_the_garbage_collector_never_blocks():
    """The collector may run in the thread that holds the lock; the return is taken along afterwards."""
    pool, _ = make()
    entry = pool.acquire()

    with pool._lock:  # what a thread inside the pool holds while the collector runs
        pool.release(entry)
        assert pool.core.leased == 1

    assert pool.acquire() is entry


def test_dispose_closes_lent_connections_when_they_come_back():
    """And the next caller gets a new one."""
    pool, numbers = make(size=2)
    lent, idle = pool.acquire(), pool.acquire()
    pool.release(idle)

    pool.dispose()
    assert numbers.closed == [2]
    pool.release(lent)

    assert numbers.closed == [2, 1]
    assert pool.acquire().connection == 3


def test_old_connections_are_replaced_by_the_clock_that_is_passed_in():
    """E4: age counts from opening."""
    now = [0.0]
    pool, numbers = make(max_age=60, clock=lambda: now[0])
    pool.release(pool.acquire())
    now[0] = 61.0

    assert pool.acquire().connection == 2
    assert numbers.closed == [1]


def test_many_threads_lose_and_share_nothing():
    """Random holds, failures and time-outs: at most three at once, and all places free at the end."""
    pool, numbers = make(size=2, overflow=1, timeout=0.002)
    in_use = set()
    worst = []
    guard = threading.Lock()
    dice = random.Random(7)

    def worker(seed):
        dice = random.Random(seed)
        for _ in range(300):
            if dice.random() < 0.02:
                numbers.refuse = 1
            try:
                entry = pool.acquire()
            except (OSError, PoolTimeout):
                continue
            with guard:
                assert entry.connection not in in_use
                in_use.add(entry.connection)
                worst.append(len(in_use))
            if dice.random() < 0.3:
                threading.Event().wait(0.0005)
            with guard:
                in_use.discard(entry.connection)
            pool.release(entry, healthy=dice.random() > 0.05)

    threads = [threading.Thread(target=worker, args=(dice.random(),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    core = pool.core
    assert max(worst) <= 3
    assert (core.leased, core.connecting, len(core.waiting)) == (0, 0, 0)
    assert len(core.idle) <= 2
