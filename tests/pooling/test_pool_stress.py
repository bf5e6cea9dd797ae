"""The thread front under everything at once: nothing is lost or shared, never more than the limit."""

from __future__ import annotations

import random
import signal
import sys
import threading

import pytest

from sojourn.errors import PoolTimeout
from sojourn.pooling import pool as front
from tests.pooling.threads import Call, at_rest, make, wait_until

COMPILED = not front.__file__.endswith(".py")


@pytest.fixture
def often():
    """Let threads take turns every 10 us instead of 5 ms."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


class Users:
    """Callers that use a connection, and notice if somebody else does."""

    def __init__(self, pool, server):
        self.pool = pool
        self.server = server
        self.in_use = set()
        self.shared = []
        self.acquired = self.refused = 0
        self._count = threading.Lock()

    def run(self, seed, rounds):
        """Acquire *rounds* times, with random patience, holds and ways to give back."""
        dice = random.Random(seed)
        acquired = 0
        pause = threading.Event()
        for _ in range(rounds):
            try:
                entry = self.pool.acquire(dice.choice((None, None, None, 0, 0.001)))
            except (OSError, PoolTimeout):
                continue
            acquired += 1
            with self._count:
                if entry.connection in self.in_use:
                    self.shared.append(entry.connection)
                self.in_use.add(entry.connection)
            if dice.random() < 0.01:
                pause.wait(0.0002)
            with self._count:
                self.in_use.discard(entry.connection)
            self.pool.release(entry, "broken" if dice.random() < 0.01 else None)
        with self._count:
            self.acquired += acquired
            self.refused += rounds - acquired


def fail_at_random(server, dice):
    """Let connecting fail now and then: for good, for a while, or for everybody."""
    connect = server.connect

    def perhaps():
        if dice.random() < 0.05:
            raise OSError("refused")
        return connect()

    server.connect = perhaps
    server.is_transient = lambda _: dice.random() < 0.5
    server.is_hopeless = lambda _: dice.random() < 0.2
    server.serves = lambda _: dice.random() < 0.8


def settle(pool):
    """Wait until the creators that are still about have finished."""
    wait_until(lambda: at_rest(pool))


@pytest.mark.slow
def test_a_hundred_thousand_acquires_lose_and_share_nothing(often):
    """Random holds, failures, time-outs, dead connections, disposals; opened less closed is what is there."""
    pool, server = make(4, 4, timeout=0.02, ping_after=0.002, connect_retry=0.01)
    dice = random.Random(1)
    fail_at_random(server, dice)
    users = Users(pool, server)

    calls = [Call(users.run, seed, 9_000) for seed in range(12)]
    pause = threading.Event()
    while any(call.is_alive() for call in calls):
        pause.wait(0.05)
        dice.choice((pool.dispose, pool.doom, pool.stats, pool.leases))()
    for call in calls:
        call.result()
    settle(pool)

    stats = pool.stats()
    assert users.shared == []
    assert users.acquired + users.refused == 108_000
    assert users.acquired >= 100_000
    assert server.peak <= 8
    assert stats.opened - sum(stats.closed.values()) == stats.idle == server.live
    del server.connect
    assert len([pool.acquire() for _ in range(4)]) == 4


@pytest.mark.slow
def test_a_thousand_resizes_under_load_never_exceed_the_maximum(often):
    """F4: whatever is configured at a moment, nothing is opened beyond the most that ever was."""
    pool, server = make(5, 5, timeout=0.05)
    users = Users(pool, server)
    dice = random.Random(2)

    calls = [Call(users.run, seed, 6_000) for seed in range(10)]
    for _ in range(1000):
        size = dice.randint(1, 6)
        pool.resize(size, dice.randint(0, 10 - size))
        assert server.live <= 10
    for call in calls:
        call.result()
    pool.resize(2, 0)
    settle(pool)

    assert users.shared == []
    assert server.peak <= 10
    assert server.live == len(pool.core.idle) <= 2


@pytest.mark.slow
def test_the_order_of_service_is_the_order_of_arrival_for_all_who_ever_waited(often):
    """Starvation, as an invariant: of each pair of waiters, the one that came first was served first."""
    pool, _ = make(3)
    line = []
    core = pool.core
    wrong = []

    def caller():
        for _ in range(2_000):
            entry = pool.acquire()
            with pool.guard:
                line[:] = list(core.waiting)
                since = [ticket.since for ticket in line]
                if since != sorted(since):
                    wrong.append(since)
            pool.release(entry)

    calls = [Call(caller) for _ in range(10)]
    for call in calls:
        call.result()

    assert wrong == []
    assert pool.stats().wait_time.count == 20_000


class Interrupted(BaseException):
    """Arrives at any moment, like KeyboardInterrupt."""


@pytest.fixture
def interrupts():
    """Return a list; while it holds something, a timer takes that and interrupts the main thread."""
    armed = []

    def interrupt(_number, _frame):
        if armed:
            armed.clear()
            raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
    yield armed
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.slow
@pytest.mark.skipif(not COMPILED, reason="not applicable: compiled code alone cannot be interrupted anywhere")
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="not applicable: there are no timers here")
def test_interrupts_at_any_moment_lose_nothing(often, interrupts):
    """Waiting, connecting or giving back: afterwards every place is free."""
    pool, server = make(2, 1, timeout=0.01)
    fail_at_random(server, random.Random(4))
    stop = threading.Event()

    def disturb():
        while not stop.is_set():
            Users(pool, server).run(5, 100)

    calls = [Call(disturb) for _ in range(4)]
    me, count, pause = threading.current_thread(), 0, threading.Event()

    def mine():
        return [entry for entry in pool.leases() if entry.holder == me.name]

    while count < 150:
        try:
            interrupts.append(True)
            entry = pool.acquire()
            pool.release(entry, "broken" if entry.uses > 20 else None)
        except Interrupted:
            count += 1
        except (OSError, PoolTimeout):
            pass
        finally:
            interrupts.clear()
        for _ in range(20):  # a return that was put aside is about to be taken along
            if not mine():
                break
            pause.wait(0.001)
        for entry in [entry for entry in pool.core.lent if entry.by is me]:
            pool.release(entry)  # the interrupt came before its name was bound, or before the return began
    stop.set()
    for call in calls:
        call.result()
    settle(pool)

    del server.connect
    assert len([pool.acquire() for _ in range(3)]) == 3
    assert pool.core.total == 3
