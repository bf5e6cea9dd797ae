"""`Keeper`: the one daemon thread of a process, which calls when something is due or takes too long.

It must never wait for anything but the time: what it calls decides and starts, or cuts a socket off, and
leaves all talking to servers to others. It is told things through a queue and a bell that need no lock,
because a limit may be set by the garbage collector's doing, in any thread, while that holds whatever lock.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import os
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any
from weakref import ref

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

logger = logging.getLogger("sojourn.pool")

AWAKE = -math.inf


class Plan:
    """A call that is due at a time; `call(now)` returns when it is due next, or None for never."""

    __slots__ = ("_function", "_owner", "cancelled", "when")

    def __init__(self, call: Callable[[float], float | None], when: float) -> None:
        method: Any = call  # not by WeakMethod: it does not know the bound methods of compiled classes
        self._owner = ref(method.__self__)
        self._function = getattr(method, "__func__", None) or getattr(type(method.__self__), method.__name__)
        self.when = when
        self.cancelled = False

    def cancel(self) -> None:
        """Do not call any more."""
        self.cancelled = True

    def run(self, now: float) -> float | None:
        """Call, unless that was cancelled or the object is gone."""
        owner = None if self.cancelled else self._owner()
        return None if owner is None else self._function(owner, now)


class limit:  # noqa: N801 - it reads as a statement: `with limit(cut, 5):`
    """Call *cut* if the block is not over in *seconds*, and raise TimeoutError at its end; None: no limit.

    Cutting must make whatever blocks fail, from another thread: shutdown(2) on a socket does. Once the block
    is over, *cut* is not called any more, so it cannot hit whoever has the connection then.
    """

    __slots__ = ("_cut", "_cut_over", "_undecided", "reached", "seconds", "when")

    def __init__(self, cut: Callable[[], object], seconds: float | None) -> None:
        self.seconds = seconds
        self.when = 0.0
        self.reached = False
        self._cut: Callable[[], object] | None = cut
        self._undecided = [True]  # who takes this out decides: in time, or too late
        self._cut_over: Any = None

    def __enter__(self) -> Self:
        if self.seconds is not None:
            self.when = time.monotonic() + self.seconds
            self._cut_over = threading.Lock()
            self._cut_over.acquire()
            keeper().tell(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._undecided.pop()
        except IndexError:
            self.reached = True
            self._cut_over.acquire(True, 1.0)  # by position: gevent's locks know no `blocking=`
            if error is None or isinstance(error, Exception):
                msg = f"not over in {self.seconds:g} s"
                raise TimeoutError(msg) from error
        finally:
            self._cut = None

    def run(self, now: float) -> None:
        """Cut, unless the block is over; the keeper calls this when the time is up."""
        cut = self._cut
        try:
            self._undecided.pop()
        except IndexError:
            return
        try:
            if cut is not None:
                cut()
        finally:
            self._cut_over.release()


class Keeper:
    """Run plans and limits when their time has come. The thread starts with the first of them."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Any]] = []  # of the thread alone
        self._order = itertools.count()
        self._told: deque[Plan | limit] = deque()
        self._bell = threading.Lock()  # free: it rang
        self._bell.acquire()
        self._until = AWAKE  # when the thread will look again by itself
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def plan(self, call: Callable[[float], float | None], when: float) -> Plan:
        """Call a method at *when*, by time.monotonic(), and whenever it asks; its object is held weakly."""
        plan = Plan(call, when)
        self.tell(plan)
        return plan

    def tell(self, thing: Plan | limit) -> None:
        """Take note of a plan or limit; never waits."""
        self._told.append(thing)
        startable = self._thread is None and not sys.is_finalizing()  # a thread started then would never run
        if startable and self._starting.acquire(blocking=False):
            thread = threading.Thread(target=self._run, name="sojourn-keeper", daemon=True)
            try:
                thread.start()
                self._thread = thread
            except RuntimeError:  # no more threads, or the interpreter ends: nothing is kept then
                self._starting.release()
        if thing.when < self._until:
            self._ring()

    def _ring(self) -> None:
        try:
            self._bell.release()
        except (RuntimeError, ValueError):  # it rang already; gevent's lock says ValueError
            pass

    def _run(self) -> None:
        while True:
            self.run_due(time.monotonic())
            if self._told:
                continue
            if self._until == math.inf:
                self._bell.acquire()
            else:
                pause = self._until - time.monotonic()
                if pause > 0:
                    self._bell.acquire(timeout=min(pause, threading.TIMEOUT_MAX))

    def run_due(self, now: float) -> None:
        """Do what is due, then note until when nothing is."""
        self._until = AWAKE
        heap = self._heap
        while self._told:
            thing = self._told.popleft()
            heapq.heappush(heap, (thing.when, next(self._order), thing))
        while heap and heap[0][0] <= now:
            thing = heapq.heappop(heap)[2]
            again = self._run_one(thing, now)
            if again is not None:
                thing.when = max(again, now + SHORTEST)
                heapq.heappush(heap, (thing.when, next(self._order), thing))
        self._until = heap[0][0] if heap else math.inf

    def _run_one(self, thing: Plan | limit, now: float) -> float | None:
        try:
            return thing.run(now)
        except Exception:
            logger.exception("A pool's planned work failed")
            return None


#: A plan that asks for less is not run more often: a mistake in it must not keep the thread busy.
SHORTEST = 0.01

_keepers: dict[str, Keeper] = {}


def keeper() -> Keeper:
    """Return the process's keeper."""
    found = _keepers.get("keeper")
    return _keepers.setdefault("keeper", Keeper()) if found is None else found


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keepers.clear)  # its thread stayed in the parent
