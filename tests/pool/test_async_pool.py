"""The asyncio front: waits, wakes, closes; no cancelled task costs a connection or a place."""

from __future__ import annotations

import asyncio
import gc
import random
import threading

import pytest

from sojourn.errors import PoolTimeout
from sojourn.pool.async_pool import AsyncPool, Handling


class Numbers:
    """Opens and closes numbers, taking its time, and remembers which."""

    def __init__(self):
        self.opened = 0
        self.open = set()
        self.dead = set()
        self.refuse = 0
        self.pinged = []

    async def connect(self):
        await asyncio.sleep(0)
        if self.refuse:
            self.refuse -= 1
            raise OSError("refused")
        self.opened += 1
        self.open.add(self.opened)
        return self.opened

    async def close(self, number):
        await asyncio.sleep(0)
        self.open.discard(number)

    def terminate(self, number):
        self.open.discard(number)

    def alive(self, number):
        return number not in self.dead

    async def ping(self, number):
        self.pinged.append(number)
        await asyncio.sleep(0)
        return number not in self.dead


def make(size=1, overflow=0, *, ping=False, **options):
    numbers = Numbers()
    handling = Handling(
        numbers.connect,
        numbers.close,
        numbers.terminate,
        alive=None if ping else numbers.alive,
        ping=numbers.ping if ping else None,
    )
    return AsyncPool(handling, size=size, overflow=overflow, **options), numbers


async def until_queued(pool, count):
    """Let other tasks run until *count* of them wait in line."""
    while len(pool.core.waiting) < count:  # noqa: ASYNC110 - the pool tells nobody who waits
        await asyncio.sleep(0)


async def test_a_connection_is_opened_once_and_lent_again():
    """Nothing is opened at creation."""
    pool, numbers = make()
    here = pool.here()
    assert numbers.opened == 0

    for _ in range(3):
        entry = await here.acquire()
        assert entry.connection == 1
        here.release(entry)


async def test_waiters_are_served_in_their_order():
    """First come, first served, though a newcomer asks at the moment of each return."""
    pool, _ = make(size=2)
    here = pool.here()
    first, second = await here.acquire(), await here.acquire()
    served = []

    async def caller(name):
        entry = await here.acquire()
        served.append(name)
        await asyncio.sleep(0)
        here.release(entry)

    tasks = []
    for name in range(5):
        tasks.append(asyncio.create_task(caller(name)))
        await until_queued(here, name + 1)
    here.release(first)
    tasks.append(asyncio.create_task(caller("late")))
    here.release(second)
    await asyncio.gather(*tasks)

    assert served == [0, 1, 2, 3, 4, "late"]


async def test_a_wait_in_vain_tells_the_numbers():
    """The error says how many are lent, and the waiter leaves no trace."""
    pool, _ = make(size=2, timeout=0.01)
    here = pool.here()
    entries = [await here.acquire(), await here.acquire()]

    with pytest.raises(PoolTimeout, match=r"size 2 and overflow 0 has 2 lent, 0 idle"):
        await here.acquire()

    assert not here.core.waiting
    for entry in entries:
        here.release(entry)


async def test_a_task_that_would_wait_for_itself_is_told_at_once():
    """With a single connection, holding it and asking for another is an error and no wait."""
    pool, _ = make(timeout=30)
    here = pool.here()
    entry = await here.acquire()

    with pytest.raises(PoolTimeout, match="held by the very task"):
        await here.acquire()

    waiting = asyncio.create_task(here.acquire())
    await until_queued(here, 1)
    here.release(entry)
    here.release(await waiting)


async def test_a_failed_connect_hands_its_place_on():
    """A waiter gets the right to connect when somebody else's connect fails."""
    pool, numbers = make()
    here = pool.here()
    numbers.refuse = 1
    failing = asyncio.create_task(here.acquire())
    await asyncio.sleep(0)
    waiting = asyncio.create_task(here.acquire())

    with pytest.raises(OSError, match="refused"):
        await failing
    entry = await waiting
    here.release(entry)

    assert here.core.connecting == 0


async def test_a_dead_connection_is_replaced_before_it_is_lent():
    """The socket is asked before each lease."""
    pool, numbers = make()
    here = pool.here()
    entry = await here.acquire()
    here.release(entry)
    numbers.dead.add(entry.connection)

    again = await here.acquire()
    assert again.connection == 2
    here.release(again)
    assert numbers.open == {2}


async def test_pre_ping_asks_the_server():
    """With a ping, only a connection that answers is lent; a new one is not asked."""
    pool, numbers = make(ping=True)
    here = pool.here()
    here.release(await here.acquire())
    numbers.dead.add(1)

    entry = await here.acquire()
    assert entry.connection == 2
    assert numbers.pinged == [1]
    here.release(entry)


async def test_a_cancelled_waiter_passes_on_what_it_was_served():
    """Cancelled in the very moment in which it is handed a connection, a waiter gives it back."""
    pool, _ = make()
    here = pool.here()
    entry = await here.acquire()
    waiting = asyncio.create_task(here.acquire())
    await until_queued(here, 1)

    here.release(entry)  # served now, but not awake yet
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert here.core.leased == 0
    assert len(here.core.idle) == 1


async def test_disposal_closes_idle_connections_now_and_lent_ones_later():
    """The limit stays true: a lent connection counts until it is back."""
    pool, numbers = make(size=2)
    here = pool.here()
    lent, idle = await here.acquire(), await here.acquire()
    here.release(idle)

    await pool.dispose()
    assert numbers.open == {lent.connection}
    here.release(lent)
    await pool.dispose()
    assert numbers.open == set()


async def test_no_reuse_closes_each_connection_at_its_return():
    """What SQLAlchemy calls NullPool."""
    pool, numbers = make(size=0, reuse=False)
    here = pool.here()
    here.release(await here.acquire())
    here.release(await here.acquire())
    await pool.dispose()

    assert numbers.opened == 2
    assert numbers.open == set()


async def test_a_forgotten_lease_comes_back_from_any_thread():
    """What the garbage collector finds in another thread is thrown away on the event loop."""
    pool, numbers = make()
    here = pool.here()
    entry = await here.acquire()
    thread = threading.Thread(target=here.forget, args=(entry,))
    thread.start()
    thread.join()

    again = await here.acquire()
    assert again.connection == 2
    assert numbers.open == {2}
    here.release(again)


def test_each_event_loop_has_connections_of_its_own():
    """A connection belongs to the loop that opened it; a closed loop's are thrown away."""
    pool, numbers = make(size=5)

    async def use():
        here = pool.here()
        entry = await here.acquire()
        here.release(entry)
        return entry.connection

    assert [asyncio.run(use()), asyncio.run(use())] == [1, 2]
    assert numbers.open == {2}


def test_a_shared_pool_keeps_its_connection_from_loop_to_loop():
    """An in-memory database is its connection."""
    pool, _ = make(shared=True)

    async def use():
        here = pool.here()
        entry = await here.acquire()
        here.release(entry)
        return entry.connection

    assert [asyncio.run(use()), asyncio.run(use())] == [1, 1]


@pytest.mark.parametrize("seed", range(8))
async def test_random_cancellation_loses_nothing(seed):
    """Tasks are cancelled, time out, fail to connect and return broken connections: every place survives."""
    chance = random.Random(seed)
    pool, numbers = make(size=2, overflow=1, timeout=0.005)
    here = pool.here()
    most = 0

    async def worker():
        nonlocal most
        for _ in range(40):
            numbers.refuse += chance.random() < 0.1
            try:
                entry = await here.acquire()
            except OSError:
                continue
            most = max(most, here.core.leased)
            try:
                for _ in range(chance.randrange(4)):
                    await asyncio.sleep(0)
            finally:
                here.release(entry, healthy=chance.random() > 0.1)

    tasks = [asyncio.create_task(worker()) for _ in range(20)]
    while not all(task.done() for task in tasks):
        for _ in range(chance.randrange(60)):
            await asyncio.sleep(0)
        if chance.random() < 0.5:
            chance.choice(tasks).cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    core = here.core
    assert (core.leased, core.connecting, len(core.waiting)) == (0, 0, 0)
    assert most <= 3
    await pool.dispose()
    assert numbers.open == set()
    gc.collect()
