"""Do in plain Python what `_capi.pxd` does in C, for the uncompiled kernel."""

from __future__ import annotations

import gc
from typing import Any
from weakref import ref

sj_weak = ref


def sj_allocate(cls: type[Any]) -> Any:
    """Make an object without calling `__init__`; a user's `__new__` is honoured."""
    made: Any = cls.__new__(cls)  # type: ignore[call-overload]  # mypy takes cls for a metaclass
    if type(made) is not cls:
        msg = f"{cls.__name__}.__new__ returned an object of type {type(made).__name__}"
        raise TypeError(msg)
    return made


def sj_dict(obj: Any) -> dict[str, Any]:
    """Return the object's own `__dict__`."""
    values: dict[str, Any] = obj.__dict__
    return values


def sj_deref(reference: ref[Any]) -> Any:
    """Return what a weak reference refers to, or None."""
    return reference()


def sj_refers(reference: ref[Any] | None, obj: object) -> bool:
    """Tell whether a weak reference refers to just this object."""
    return reference is not None and reference() is obj


def sj_has_all(values: dict[str, Any], names: tuple[str, ...]) -> bool:
    """Tell whether every name is a key."""
    return all(map(values.__contains__, names))


def sj_remove(values: dict[str, Any], names: tuple[str, ...]) -> None:
    """Remove those of the names that are there."""
    for name in names:
        values.pop(name, None)


def sj_untrack(made: Any, row: tuple[Any, ...]) -> None:
    """Leave a row to the collector: only C can take it out of its sight."""


def pause_gc() -> bool:
    """Stop the cyclic collector if it runs; return what `resume_gc` wants to know."""
    running = gc.isenabled()
    if running:
        gc.disable()
    return running


def resume_gc(paused: bool) -> None:
    """Let the collector run again if `pause_gc` stopped it."""
    if paused:
        gc.enable()
