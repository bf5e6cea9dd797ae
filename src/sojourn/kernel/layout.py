# cython: language_level=3, annotation_typing=False, nonecheck=True
"""Describe how the entities of a class keep their values: names, keys, and dicts that share their keys.

An entity's values lie in its own `__dict__`. CPython lets the dicts of one class share their keys, which is
both the smallest and the fastest layout measured, but only if the class has seen all the keys early:
`Layout.prime` shows them.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

try:
    import cython
except ImportError:
    from sojourn import _cython as cython

from sojourn.errors import MappingError
from sojourn.symbols import NOT_LOADED

if cython.compiled:
    from cython.cimports.sojourn.kernel._capi import sj_allocate, sj_dict
else:
    from sojourn.kernel._plain import sj_allocate, sj_dict

if TYPE_CHECKING:
    from collections.abc import Callable

# The key of an entity's `__dict__` under which its state lies; SQLAlchemy's word, so that its tools find it.
STATE = "_sa_instance_state"

# CPython 3.11 to 3.13 share the keys of instance dicts up to 30 names; one is STATE, one is spare.
SHARED_NAMES = 28

# Called with each class that becomes an entity class.
on_install: list[Callable[[type[Any]], None]] = []


@cython.cclass
class Layout:
    """Describe how the entities of one mapped class keep their values."""

    if not cython.compiled:
        __slots__ = (
            "__weakref__", "attributes", "cls", "compares", "expires", "keys", "mapper", "names", "places",
            "root", "scalar_key",
        )  # fmt: skip

    cls: type[Any]
    mapper: Any  # the Mapper, which lives floors above
    names: tuple[str, ...]
    keys: tuple[str, ...]
    places: dict[str, int]
    expires: tuple[str, ...]
    attributes: dict[str, Any]
    compares: dict[str, Callable[[Any, Any], bool]] | None
    root: Layout
    scalar_key: bool

    def __init__(
        self,
        cls: type[Any],
        mapper: Any,
        names: tuple[str, ...],
        keys: tuple[str, ...],
        root: Layout | None = None,
    ) -> None:
        """Check that *cls* can hold entities; raise MappingError if not."""
        for slot, what in (("__dictoffset__", "__dict__"), ("__weakrefoffset__", "__weakref__")):
            if not getattr(cls, slot, 0):
                raise MappingError(
                    f"{cls.__name__} has no {what}, so it cannot be mapped.",
                    f"Remove __slots__ (or dataclass(slots=True)) from {cls.__name__} and its bases, "
                    f'or add "{what}" to them.',
                )
        self.cls = cls
        self.mapper = mapper
        self.attributes = {}
        self.compares = None
        self.root = self if root is None else root
        self.set_names(names, keys)

    def __repr__(self) -> str:
        return f"<Layout of {self.cls.__name__}: {', '.join(self.names)}>"

    def set_names(self, names: tuple[str, ...], keys: tuple[str, ...]) -> None:
        """Set the column attributes and those that make the key; a mapper may grow until it is configured."""
        self.names = tuple([sys.intern(str(name)) for name in names])
        self.keys = tuple([sys.intern(str(name)) for name in keys])
        self.places = {name: place for place, name in enumerate(self.names)}
        self.expires = self.names
        self.scalar_key = len(self.keys) == 1

    def install(self) -> None:
        """Make the class an entity class: `__sojourn_layout__`, and what `on_install` adds."""
        self.cls.__sojourn_layout__ = self
        for act in on_install:
            act(self.cls)

    def prime(self) -> None:
        """Teach the class the keys of its instance dicts, before its first instance exists.

        Otherwise each `__dict__` has keys of its own (136 bytes more). A class whose `__new__` or `__del__`
        is the user's is left alone, because a throw-away instance would run them.
        """
        cls = self.cls
        names = dict.fromkeys((*self.names, *self.attributes))
        own_new = cls.__new__ is not object.__new__  # type: ignore[comparison-overlap]
        if own_new or len(names) > SHARED_NAMES or hasattr(cls, "__del__"):
            return
        try:
            values = sj_dict(sj_allocate(cls))
        except TypeError:  # an abstract class
            return
        values[STATE] = None
        for name in names:
            values[name] = None

    def allocate(self) -> Any:
        """Make an entity without calling `__init__`."""
        return sj_allocate(self.cls)

    def key_of(self, values: dict[str, Any]) -> Any:
        """Return the identity key among *values*; None if a part of it is missing or all of it is None."""
        if self.scalar_key:
            return values.get(self.keys[0])
        key = tuple([values.get(name, NOT_LOADED) for name in self.keys])
        if NOT_LOADED in key or key.count(None) == len(key):
            return None
        return key
