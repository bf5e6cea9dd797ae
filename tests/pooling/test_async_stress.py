"""The asyncio front in a storm: nothing is lost, shared or swallowed, whatever is cancelled or broken."""

from __future__ import annotations

import asyncio
import gc
import os
import random

import pytest

from sojourn.errors import PoolTimeout
from sojourn.pooling.async_pool import AsyncPool, Handling
from sojourn.pooling.core import Entry

ROUNDS = int(os.environ.get("SOJOURN_STRESS_ROUNDS", "1"))  # a nightly run asks for more


class Fickle(Handling):
    """Opens connections that may be refused, slow, dead or frozen, by chance."""

    def __init__(self, chance):
        self.chance = chance
        self.open = set()
        self.opened = 0
        self.users = {}  # connection -> how many hold it
        self.most = 0

    async def connect(self):
        for _ in range(self.chance.randrange(4)):
            await asyncio.sleep(0)
        fate = self.chance.random()
        if fate < 0.05:
            raise ConnectionRefusedError
        if fate < 0.08:
            raise OSError("neither this nor that")
        if fate < 0.09:
            raise PermissionError("hopeless")
        self.opened += 1
        self.open.add(self.opened)
        self.most = max(self.most, len(self.open))
        entry = Entry(self.opened)
        entry.poll = lambda _: self.chance.random() < 0.05
        return entry

    async def close(self, entry, reason):
        for _ in range(self.chance.randrange(3)):
            await asyncio.sleep(0)
        self.open.remove(entry.connection)

    def terminate(self, entry, reason):
        self.open.remove(entry.connection)

    async def serves(self, entry):
        await asyncio.sleep(0)
        return self.chance.random() < 0.5

    def is_transient(self, error):
        return isinstance(error, ConnectionRefusedError)

    def is_hopeless(self, error):
        return isinstance(error, PermissionError)


@pytest.mark.parametrize("seed", range(8 * ROUNDS))
async def test_a_storm_of_cancellations_loses_nothing(seed):
    """Every place survives, no connection has two holders, and every cancelled task ends as cancelled."""
    chance = random.Random(seed)
    fickle = Fickle(chance)
    pool = AsyncPool(
        fickle,
        size=2,
        overflow=1,
        timeout=0.02,
        connect_retry=0.01,
        self_wait=chance.choice(["raise", "wait"]),
    )
    here = pool.here()
    holders = set()
    swallowed = []

    async def worker():
        for _ in range(60):
            try:
                entry = await here.acquire()
            except (OSError, PoolTimeout):
                continue
            assert entry.connection not in holders
            holders.add(entry.connection)
            try:
                for _ in range(chance.randrange(4)):
                    await asyncio.sleep(0)
            finally:
                holders.discard(entry.connection)
                here.release(entry, "broken" if chance.random() < 0.1 else None)

    tasks = {asyncio.create_task(worker()) for _ in range(30)}
    cancelled = set()
    while any(not task.done() for task in tasks):
        for _ in range(chance.randrange(40)):
            await asyncio.sleep(0)
        fate = chance.random()
        if fate < 0.5:
            victim = chance.choice([*tasks])
            if victim.cancel():
                cancelled.add(victim)
        elif fate < 0.55:
            pool.resize(chance.randrange(1, 4), chance.randrange(3))
        elif fate < 0.57:
            pool.doom(here.core.now)
    pool.resize(2, 1)
    await asyncio.gather(*tasks, return_exceptions=True)
    swallowed = [task for task in cancelled if not task.cancelled()]
    await asyncio.gather(*here.creators)

    core = here.core
    assert swallowed == []
    assert (core.leased, core.connecting, core.creators, len(core.waiting)) == (0, 0, 0, 0)
    assert fickle.open >= {entry.connection for entry in core.idle}
    await pool.dispose()
    assert fickle.open == set()
    stats = pool.stats()
    assert stats.opened == sum(stats.closed.values())
    gc.collect()


async def test_two_hundred_tasks_are_served_evenly():
    """200 tasks on 5 connections are served in the order in which they asked, and all as often."""
    tasks, size, turns = 200, 5, 10
    pool = AsyncPool(Plain(), size=size, overflow=0, timeout=30)
    here = pool.here()
    await pool.warm(size)
    asked = 0
    served = []
    turns_of = [0] * tasks

    async def worker(number):
        nonlocal asked
        for _ in range(turns):
            place, asked = asked, asked + 1
            entry = await here.acquire()
            served.append(place)
            await asyncio.sleep(0)
            here.release(entry)
            turns_of[number] += 1

    await asyncio.gather(*[worker(number) for number in range(tasks)])
    assert max(abs(place - turn) for turn, place in enumerate(served)) <= size
    assert set(turns_of) == {turns}


class Plain(Handling):
    """Opens connections that always work."""

    async def connect(self):
        return Entry(object())
