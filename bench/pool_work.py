"""What the pools are measured at: alone, crowded, in an event loop, through an engine, through a restart.

Every contender does the same work, and the work is checked: nobody lends more connections than it has, and
every caller that was promised one got it or a time-out that is counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import time
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

from bench.pool_contenders import SIZE, NoPool

if TYPE_CHECKING:
    from collections.abc import Callable

HOLD = 0.002  # seconds that a borrower keeps its connection
THREADS = 32
TASKS = 200


class WrongOutcome(Exception):
    """A pool did not do what it was measured at."""


def jain(counts: list[int]) -> float:
    """Return Jain's index of fairness: 1 when all got the same, 1/n when one got everything."""
    squares = sum(count * count for count in counts)
    return sum(counts) ** 2 / (len(counts) * squares) if squares else 0.0


def quantile(values: list[float], q: float) -> float:
    """Return the value below which the share *q* of *values* lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else 0.0


@dataclass
class Crowd:
    """What a crowd over few connections saw: how often each was served, and how long all waited."""

    seconds: float
    counts: list[int]
    waits: list[float] = field(repr=False)
    timeouts: int
    most: int  # lent at once

    def figures(self, ideal_rate: float) -> dict[str, float]:
        """Put it in relation to a crowd that is served without a loss."""
        ideal_wait = (len(self.counts) - SIZE) / ideal_rate
        return {
            "throughput %": 100 * sum(self.counts) / self.seconds / ideal_rate,
            "p50 x": quantile(self.waits, 0.5) / ideal_wait,
            "p99 x": quantile(self.waits, 0.99) / ideal_wait,
            "max x": max(self.waits, default=0.0) / ideal_wait,
            "Jain": jain(self.counts),
            "least": min(self.counts),
            "most": max(self.counts),
            "time-outs": self.timeouts,
        }


class Meter:
    """Counts who is inside."""

    def __init__(self) -> None:
        self.inside = self.most = 0
        self.lock = threading.Lock()

    def enter(self) -> None:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)

    def leave(self) -> None:
        with self.lock:
            self.inside -= 1


# -- threads -----------------------------------------------------------------------------------


def uncontended(contender: Any, number: int) -> float:
    """Return microseconds for one take and give, by a thread that is alone."""
    take, give = contender.take, contender.give
    give(take())
    gc.collect()
    start = time.perf_counter()
    for _ in range(number):
        give(take())
    return (time.perf_counter() - start) / number * 1e6


def crowd(contender: Any, seconds: float, threads: int = THREADS) -> Crowd:
    """Let *threads* take, hold and give as fast as they get."""
    take, give = contender.take, contender.give
    counts, waits = [0] * threads, [[] for _ in range(threads)]
    failed, meter, ending, ready = [0] * threads, Meter(), threading.Event(), threading.Barrier(threads + 1)

    def work(n: int) -> None:
        ready.wait()
        while not ending.is_set():
            start = time.perf_counter()
            try:
                taken = take()
            except Exception:  # noqa: BLE001 - each pool has its own time-out
                failed[n] += 1
                continue
            waits[n].append(time.perf_counter() - start)
            meter.enter()
            time.sleep(HOLD)
            meter.leave()
            give(taken)
            if not ending.is_set():
                counts[n] += 1

    workers = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(threads)]
    for worker in workers:
        worker.start()
    ready.wait()
    start = time.perf_counter()
    time.sleep(seconds)
    ending.set()
    took = time.perf_counter() - start
    for worker in workers:
        worker.join(60)
    if any(worker.is_alive() for worker in workers):
        msg = "a thread never got a connection back"
        raise WrongOutcome(msg)
    if not isinstance(contender, NoPool) and meter.most > SIZE:
        msg = f"{meter.most} connections were lent at once, of {SIZE}"
        raise WrongOutcome(msg)
    return Crowd(took, counts, [wait for each in waits for wait in each], sum(failed), meter.most)


def ideal_rate(seconds: float) -> float:
    """Return how often a second *SIZE* threads can hold, when there is no pool at all."""
    seen = crowd(NoPool({}), seconds, SIZE)
    return sum(seen.counts) / seen.seconds


def connect_and_close(engine: Any, number: int) -> float:
    """Return microseconds for engine.connect() and close()."""
    connect = engine.connect
    connect().close()
    gc.collect()
    start = time.perf_counter()
    for _ in range(number):
        connect().close()
    return (time.perf_counter() - start) / number * 1e6


# -- asyncio -----------------------------------------------------------------------------------


async def uncontended_async(contender: Any, number: int) -> float:
    """Return microseconds for one take and give, by a task that is alone."""
    take, give = contender.take, contender.give
    await give(await take())
    gc.collect()
    start = time.perf_counter()
    for _ in range(number):
        await give(await take())
    return (time.perf_counter() - start) / number * 1e6


async def uncontended_lease(contender: Any, number: int) -> float:
    """Return microseconds for one lease of sojourn's own pool, which gives back without awaiting."""
    acquire, release = contender.pool.acquire, contender.pool.release
    release(await acquire())
    gc.collect()
    start = time.perf_counter()
    for _ in range(number):
        release(await acquire())
    return (time.perf_counter() - start) / number * 1e6


async def crowd_async(contender: Any, seconds: float, tasks: int = TASKS) -> Crowd:
    """Let *tasks* take, hold and give as fast as they get."""
    take, give = contender.take, contender.give
    counts, waits, failed, meter = [0] * tasks, [], [0], Meter()
    end = time.perf_counter() + seconds

    async def work(n: int) -> None:
        while (start := time.perf_counter()) < end:
            try:
                taken = await take()
            except Exception:  # noqa: BLE001 - each pool has its own time-out
                failed[0] += 1
                continue
            waits.append(time.perf_counter() - start)
            meter.enter()
            await asyncio.sleep(HOLD)
            meter.leave()
            await give(taken)
            counts[n] += time.perf_counter() < end

    start = time.perf_counter()
    async with asyncio.timeout(seconds + 60):
        await asyncio.gather(*(work(n) for n in range(tasks)))
    if meter.most > SIZE:
        msg = f"{meter.most} connections were lent at once, of {SIZE}"
        raise WrongOutcome(msg)
    return Crowd(min(time.perf_counter() - start, seconds), counts, waits, failed[0], meter.most)


async def ideal_rate_async(seconds: float) -> float:
    """Return how often a second *SIZE* tasks can hold, when there is no pool at all."""
    count, end = 0, time.perf_counter() + seconds

    async def work() -> None:
        nonlocal count
        while time.perf_counter() < end:
            await asyncio.sleep(HOLD)
            count += 1

    await asyncio.gather(*(work() for _ in range(SIZE)))
    return count / seconds


# -- a restart ---------------------------------------------------------------------------------


def through_restart(ask: Callable[[], Any], server: Any, threads: int = 16) -> dict[str, float]:
    """Restart *server* under *threads* that ask without a pause: what failed, and when all was well again."""
    failures, good, ending = [], [], threading.Event()

    def work() -> None:
        while not ending.is_set():
            try:
                answer = ask()
            except Exception:  # noqa: BLE001 - it is what is counted
                failures.append(time.perf_counter())
            else:
                good.append(time.perf_counter())
                if answer != 42:
                    msg = f"a wrong answer: {answer!r}"
                    raise WrongOutcome(msg)

    workers = [threading.Thread(target=work, daemon=True) for _ in range(threads)]
    for worker in workers:
        worker.start()
    time.sleep(1)
    server.halt()
    down = time.perf_counter()
    server.start()
    up = time.perf_counter()
    time.sleep(2)
    ending.set()
    for worker in workers:
        worker.join(60)
    first = min((when for when in good if when > down), default=float("inf"))
    return {
        "failed": len(failures),
        "down ms": (up - down) * 1e3,
        "first success after ms": max(first - up, 0.0) * 1e3,
        "served in the second before": sum(when < down for when in good),
        "served in the second after": sum(up < when < up + 1 for when in good),
    }


# -- interleaving ------------------------------------------------------------------------------


def interleave(names: list[str], rounds: int, measure: Callable[[str], Any]) -> dict[str, list[Any]]:
    """Measure each of *names* in turn, A B C then B C A, after one round that only warms up."""
    found: dict[str, list[Any]] = {name: [] for name in names}
    for turn in range(rounds + 1):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            figure = measure(name)
            if turn:
                found[name].append(figure)
    return found


def medians(rows: list[dict[str, float]]) -> dict[str, float]:
    """Return the median of each figure over the rounds; of maxima and time-outs the worst."""
    worst = {"max x": max, "time-outs": max, "least": min, "failed": max, "Jain": min}
    return {key: worst.get(key, median)([row[key] for row in rows]) for key in rows[0]}


@contextlib.contextmanager
def opened(kinds: Any, place: dict[str, Any]) -> Any:
    """Open one contender of each kind; close them at the end."""
    pools = {}
    try:
        for kind in kinds:
            pools[kind.name] = kind(place)
        yield pools
    finally:
        for pool in pools.values():
            pool.close()
