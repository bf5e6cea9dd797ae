"""Requests without a pause from many threads or tasks, and what became of each."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

LIMIT = 60.0


@dataclass(frozen=True)
class Outcome:
    """One request: when it began, when its statement was sent, when it ended, and the error if it failed."""

    began: float
    sent: float
    ended: float
    error: BaseException | None = None


class Clock:
    """Given to a request, which calls it when it has its connection and is about to send its statement."""

    def __init__(self) -> None:
        self.began = self.sent = time.monotonic()

    def __call__(self) -> None:
        self.sent = time.monotonic()


class Outcomes:
    """What a load has seen so far; `enough` is an event that is set once *wanted* requests have succeeded."""

    def __init__(self, enough: Any) -> None:  # Any: the event of threads or of tasks
        self.all: list[Outcome] = []
        self.ending = False
        self.enough = enough
        self.good = self.wanted = 0
        self.lock = threading.Lock()

    def note(self, clock: Clock, error: BaseException | None = None) -> None:
        outcome = Outcome(clock.began, clock.sent, time.monotonic(), error)
        with self.lock:
            self.all.append(outcome)
            self.good += error is None
            if self.good >= self.wanted:
                self.enough.set()

    def want(self, number: int) -> None:
        """Make `enough` wait for *number* more requests that succeed."""
        with self.lock:
            self.enough.clear()
            self.wanted = self.good + number

    @property
    def failed(self) -> list[Outcome]:
        return [each for each in self.all if each.error is not None]

    def succeeded(self, since: float, until: float = float("inf")) -> list[Outcome]:
        """Return the requests that ended well between two times."""
        return [each for each in self.all if each.error is None and since <= each.ended < until]

    def describe(self) -> str:
        return "\n".join(
            f"began {each.began:.3f} sent {each.sent:.3f} ended {each.ended:.3f}: {each.error!r}"
            for each in self.failed[:20]
        )


class Load(Outcomes):
    """Threads that perform *request* until the `with` block ends."""

    def __init__(self, request: Callable[[Clock], Any], threads: int = 16) -> None:
        super().__init__(threading.Event())
        self.request = request
        self.threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]

    def _run(self) -> None:
        while not self.ending:
            clock = Clock()
            try:
                self.request(clock)
            except Exception as error:  # noqa: BLE001 - it is what is counted
                self.note(clock, error)
            else:
                self.note(clock)

    def __enter__(self) -> Self:
        for thread in self.threads:
            thread.start()
        self.wait_for(20 * len(self.threads))
        return self

    def wait_for(self, number: int) -> None:
        """Wait until *number* more requests have succeeded."""
        self.want(number)
        assert self.enough.wait(LIMIT), f"{self.good} of {self.wanted} requests in {LIMIT} s"

    def __exit__(self, *_: object) -> None:
        self.ending = True
        for thread in self.threads:
            thread.join(LIMIT)
        assert not any(thread.is_alive() for thread in self.threads), "a request does not end"


class AsyncLoad(Outcomes):
    """Tasks that perform *request* until the `async with` block ends."""

    def __init__(self, request: Callable[[Clock], Awaitable[Any]], tasks: int = 16) -> None:
        super().__init__(asyncio.Event())
        self.request = request
        self.number = tasks
        self.tasks: list[asyncio.Task[None]] = []

    async def _run(self) -> None:
        while not self.ending:
            clock = Clock()
            try:
                await self.request(clock)
            except Exception as error:  # noqa: BLE001 - it is what is counted
                self.note(clock, error)
            else:
                self.note(clock)

    async def __aenter__(self) -> Self:
        self.tasks = [asyncio.create_task(self._run()) for _ in range(self.number)]
        await self.wait_for(20 * self.number)
        return self

    async def wait_for(self, number: int) -> None:
        """Wait until *number* more requests have succeeded."""
        self.want(number)
        async with asyncio.timeout(LIMIT):
            await self.enough.wait()

    async def __aexit__(self, *_: object) -> None:
        self.ending = True
        async with asyncio.timeout(LIMIT):
            await asyncio.gather(*self.tasks)
