"""Let the pools of a forked child begin anew: their connections, locks and threads stayed with the parent."""

from __future__ import annotations

import os
import weakref
from typing import Any

_pools: weakref.WeakSet[Any] = weakref.WeakSet()
_inherited: list[Any] = []  # the parent's connections: referred to for ever, so that none is ever collected


def look_after(pool: Any) -> None:
    """Call `pool.begin_anew()` in each forked child; it returns what the child must not touch."""
    _pools.add(pool)


def _begin_anew() -> None:
    for pool in list(_pools):
        _inherited.extend(pool.begin_anew())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
