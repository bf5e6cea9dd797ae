# cython: language_level=3, annotation_typing=False
"""`Guard`: the lock of a pool of threads, which compiled code can see without taking it."""

from __future__ import annotations

import threading

try:
    import cython
except ImportError:
    from sojourn import _cython as cython


@cython.final
@cython.cclass
class Guard:
    """The lock of a pool. Who lets go of it must also `take_late`, or `carry_out`, which does."""

    if not cython.compiled:
        __slots__ = ("free_lock", "held", "take_lock")

    def __init__(self) -> None:
        lock = threading.Lock()
        self.take_lock = lock.acquire
        self.free_lock = lock.release
        self.held = False

    def __enter__(self) -> None:
        self.take_lock()
        self.held = True

    def __exit__(self, *error: object) -> None:
        self.held = False
        self.free_lock()

    def attempt(self) -> bool:
        """Take the lock if it is free."""
        if not self.take_lock(False):  # by position: gevent's locks know no `blocking=`
            return False
        self.held = True
        return True
