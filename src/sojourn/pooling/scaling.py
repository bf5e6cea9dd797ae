"""`Autoscaler`: let the size of one pool follow its load; the pool, its listeners and its callers stay.

`decide` is pure: two looks at the pool, a memory and the time go in, a size and a memory come out. Whether
callers wait too long is asked of those who were served since the last look, and of those in line: at the
rate of that time, the last of them will wait for `waiting / served * seconds`.

The size moves between *min* and *max*; the overflow stays what it is and comes on top.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from sojourn.pooling.keeper import keeper

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, TimerHandle
    from collections.abc import Callable

    from sojourn.pooling.stats import PoolStats

    #: What is called with the time, and returns when it wants to be called next, or None for never.
    Call = Callable[[float], float | None]

logger = logging.getLogger("sojourn.pool")

#: The share of callers that must not wait longer than the target: one slow connect is no reason to grow.
SHARE = 0.95


class Scalable(Protocol):
    """What an autoscaler needs of a pool, whichever its front."""

    def stats(self) -> PoolStats: ...

    def resize(self, size: int, overflow: int) -> None: ...


class Driver(Protocol):
    """What calls the autoscaler when its time has come, and lets a resize happen."""

    def now(self) -> float:
        """Return the time by which calls are planned."""

    def plan(self, call: Call, when: float) -> Any:
        """Call at *when*, and as often as the call asks; the result has `cancel()`."""

    def act(self, resize: Callable[[], None]) -> None:
        """Resize where that may close connections, which takes a while."""


class KeeperDriver:
    """Drive by the process's keeper: for pools of threads."""

    def now(self) -> float:
        """Return the keeper's time."""
        return time.monotonic()

    def plan(self, call: Call, when: float) -> Any:
        """Have the keeper call."""
        return keeper().plan(call, when)

    def act(self, resize: Callable[[], None]) -> None:
        """Resize in a thread of its own: the keeper, who enforces time limits, waits for nothing."""
        threading.Thread(target=resize, name="sojourn-autoscaler", daemon=True).start()


class LoopDriver:
    """Drive by an event loop: for a pool that belongs to it."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop

    def now(self) -> float:
        """Return the loop's time."""
        return self._loop.time()

    def plan(self, call: Call, when: float) -> Any:
        """Have the loop call."""
        return _LoopPlan(self._loop, call, when)

    def act(self, resize: Callable[[], None]) -> None:
        """Resize at once: a loop's pool closes connections in tasks."""
        resize()


class _LoopPlan:
    """A call that the loop repeats; the object it belongs to is held weakly."""

    def __init__(self, loop: AbstractEventLoop, call: Call, when: float) -> None:
        self._loop = loop
        self._call = weakref.WeakMethod(call)
        self._handle: TimerHandle | None = loop.call_at(when, self._run)

    def _run(self) -> None:
        call = self._call()
        again = None if call is None or self._handle is None else call(self._loop.time())
        if again is not None and self._handle is not None:
            self._handle = self._loop.call_at(again, self._run)

    def cancel(self) -> None:
        """Do not call any more."""
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.cancel()


# -- deciding ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rule:
    """When to grow and to shrink; seconds, connections."""

    min: int
    max: int
    step: int = 1
    cool_down: float = 30.0  # between two changes, and so long must it be calm before a shrink
    target_wait: float = 0.05  # nearly nobody shall wait longer

    def __post_init__(self) -> None:
        if not (
            1 <= self.min <= self.max and self.step >= 1 and self.cool_down >= 0 and self.target_wait > 0
        ):
            msg = (
                f"An autoscaler needs 1 <= min <= max, step >= 1, cool_down >= 0 and target_wait > 0, not "
                f"min={self.min}, max={self.max}, step={self.step}, cool_down={self.cool_down:g}, "
                f"target_wait={self.target_wait:g}."
            )
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class Memory:
    """What an autoscaler remembers from one look to the next."""

    stats: PoolStats | None = None
    seen_at: float = 0.0
    changed_at: float = float("-inf")
    calm_since: float | None = None


def decide(rule: Rule, memory: Memory, stats: PoolStats, now: float) -> tuple[int | None, Memory]:
    """Return the size the pool shall have, or None to leave it, and what to remember."""
    kept = replace(memory, stats=stats, seen_at=now)
    if stats.size < rule.min or stats.size > rule.max:
        return max(rule.min, min(stats.size, rule.max)), replace(kept, changed_at=now, calm_since=None)
    before = memory.stats
    if before is None:
        return None, kept
    wait = expected_wait(before, stats, now - memory.seen_at)
    calm = wait <= rule.target_wait and stats.used + stats.connecting <= max(stats.size - rule.step, rule.min)
    if not calm:
        kept = replace(kept, calm_since=None)
    elif memory.calm_since is None:
        kept = replace(kept, calm_since=now)
    if now - memory.changed_at < rule.cool_down:
        return None, kept
    size = stats.size
    # Below the limit callers wait for a connection that is being opened, which no size would speed up.
    if wait > rule.target_wait and stats.max is not None and stats.total >= stats.max:
        size = min(stats.size + rule.step, rule.max)
    elif kept.calm_since is not None and now - kept.calm_since >= rule.cool_down:
        size = max(stats.size - rule.step, rule.min)
    if size == stats.size:
        return None, kept
    return size, replace(kept, changed_at=now, calm_since=None)


def expected_wait(before: PoolStats, stats: PoolStats, seconds: float) -> float:
    """Return how long callers wait for a connection, as far as the last *seconds* tell."""
    served = stats.wait_time.since(before.wait_time)
    wait: float = served.quantile(SHARE)
    if stats.timeouts > before.timeouts:
        return float("inf")
    if stats.waiting and before.waiting:  # a line at one look may be gone within a millisecond
        return max(wait, stats.waiting * seconds / served.count if served.count else float("inf"))
    return wait


# -- doing -------------------------------------------------------------------------------------


class Autoscaler:
    """Resize *pool* between *min* and *max*, by *step*, from now until `stop()` or the pool's end.

    It grows when callers wait longer than *target_wait* seconds for a connection although all there may be
    are lent, and shrinks when *step* connections fewer would have done for *cool_down* seconds; there are
    *cool_down* seconds between two changes. It looks every *every* seconds, and knows the pool weakly.
    """

    def __init__(
        self,
        pool: Scalable,
        min: int,  # noqa: A002 - the pair reads well
        max: int,  # noqa: A002 - the same
        *,
        step: int = 1,
        cool_down: float = 30.0,
        target_wait: float = 0.05,
        every: float = 1.0,
        driver: Driver | None = None,
    ) -> None:
        self.rule = Rule(min, max, step, cool_down, target_wait)
        self.memory = Memory()
        self.every = every
        self._pool = weakref.ref(pool)
        self._driver = KeeperDriver() if driver is None else driver
        self._stopped = False
        self._plan = self._driver.plan(self.check, self._driver.now())  # the keeper may call at once

    @property
    def running(self) -> bool:
        """Tell whether it still watches its pool."""
        return not self._stopped and self._pool() is not None

    def stop(self) -> None:
        """Leave the pool at the size it has."""
        if not self._stopped:
            self._stopped = True
            self._plan.cancel()

    def check(self, now: float) -> float | None:
        """Look at the pool, have it resized if need be, and return when to look again."""
        pool = self._pool()
        if pool is None or self._stopped:
            return None
        stats = pool.stats()
        size, self.memory = decide(self.rule, self.memory, stats, now)
        if size is not None:
            logger.info("Pool %r: %d connections instead of %d", stats.name, size, stats.size)
            self._driver.act(lambda: pool.resize(size, stats.overflow))
        return now + self.every

    def __repr__(self) -> str:
        rule = self.rule
        state = "" if self.running else ", stopped"
        return f"<Autoscaler {rule.min} to {rule.max} by {rule.step}{state}>"
