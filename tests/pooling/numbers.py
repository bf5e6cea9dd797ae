"""Connections that are numbers, a clock that goes as told, and waiting for what other tasks do."""

from __future__ import annotations

import asyncio

from sojourn.pooling.async_pool import AsyncPool, Handling
from sojourn.pooling.core import Entry


class Refused(OSError):
    """A connect error that may pass."""


class WrongPassword(Exception):
    """A connect error that will not."""


class Numbers(Handling):
    """Opens and closes numbers, and remembers which; *refusals* are raised first, one per attempt."""

    def __init__(self):
        self.opened = 0
        self.open = set()
        self.dead = set()
        self.refusals = []
        self.asked = []
        self.cut_off = []
        self.closed = []
        self.gate = None  # an Event that connecting waits for
        self.told = []

    async def connect(self):
        await asyncio.sleep(0)
        if self.gate is not None:
            await self.gate.wait()
        if self.refusals:
            raise self.refusals.pop(0)
        self.opened += 1
        self.open.add(self.opened)
        entry = Entry(self.opened)
        entry.poll = lambda _: entry.connection in self.dead
        return entry

    async def close(self, entry, reason):
        await asyncio.sleep(0)
        self.closed.append((entry.connection, reason))
        self.open.discard(entry.connection)

    def terminate(self, entry, reason):
        self.closed.append((entry.connection, reason))
        self.open.discard(entry.connection)

    def cut(self, entry):
        self.cut_off.append(entry.connection)

    async def serves(self, entry):
        self.asked.append(entry.connection)
        await asyncio.sleep(0)
        return entry.connection not in self.dead

    def is_transient(self, error):
        return isinstance(error, Refused)

    def is_hopeless(self, error):
        return isinstance(error, WrongPassword)

    def leaked(self, lease):
        self.told.append(lease)


class Clock:
    """A clock that goes as told."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def make(size=1, overflow=0, **options):
    numbers = Numbers()
    return AsyncPool(numbers, size=size, overflow=overflow, **options), numbers


async def until(condition):
    """Let other tasks run until *condition* holds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the pool tells nobody who waits
            await asyncio.sleep(0)


async def until_queued(pool, count):
    """Let other tasks run until *count* of them wait in line."""
    await until(lambda: len(pool.core.waiting) >= count)
