# cython: language_level=3, annotation_typing=False, nonecheck=True
"""Read and set the attributes of entities: the descriptor, and the default keyword constructor.

A loaded value lies in the entity's `__dict__`, so a read is one dictionary look-up (20 ns compiled; `bench`
workload q). A set keeps the old value in the state's `committed`, once, and enters the entity into its
identity map's `dirty`; for transient and pending entities it only stores, because all they have is new. A
transient entity has no state at all until somebody asks for it: one object less for the collector.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

try:
    import cython
except ImportError:
    from sojourn import _cython as cython

from sojourn.errors import DetachedRead, UnknownKeyword
from sojourn.kernel.layout import on_install
from sojourn.symbols import NOT_LOADED

if cython.compiled:
    from cython.cimports.sojourn.kernel._capi import sj_dict, sj_peek, sj_refers, sj_set_initializer
    from cython.cimports.sojourn.kernel.layout import Layout
    from cython.cimports.sojourn.kernel.record import Node
    from cython.cimports.sojourn.kernel.state import _PERSISTENT, _STATE, InstanceState, Owner, state_of
else:
    from sojourn.kernel._plain import sj_dict, sj_refers
    from sojourn.kernel.layout import Layout
    from sojourn.kernel.record import Node
    from sojourn.kernel.state import _PERSISTENT, _STATE, InstanceState, Owner, state_of

if TYPE_CHECKING:
    from collections.abc import Mapping


@cython.cclass
class Attribute(Node):
    """Be one mapped attribute: a data descriptor on entities, a recorded column on the class.

    A subclass, or the mapper, may set `slow`: then `set_hook` sees each value before it is stored. With
    `active_history` a set loads the old value first.
    """

    if not cython.compiled:
        __slots__ = ("active_history", "layout", "name", "slow")

    name: str
    layout: Layout
    slow: bool
    active_history: bool

    def __init__(self, name: str, layout: Layout | None) -> None:
        self.name = sys.intern(str(name))
        self.layout = layout  # type: ignore[assignment]  # given when the class is mapped
        self.slow = False
        self.active_history = False

    def __get__(self, obj: Any, owner: Any) -> Any:
        if obj is None:
            return self
        if cython.compiled:
            value = sj_peek(obj, self.name)
            if value is not NotImplemented:
                return value
        else:
            try:
                return obj.__dict__[self.name]
            except KeyError:
                pass
        return self.miss(obj)

    @cython.locals(values=dict, state=InstanceState, committed=dict, owner=Owner)
    def __set__(self, obj: Any, value: Any) -> None:
        if self.slow:
            value = self.set_hook(obj, value)
        values = sj_dict(obj)
        found = values.get(_STATE)
        if type(found) is InstanceState:
            state = found
            if not sj_refers(state.ref, obj):
                state = state_of(obj)
        elif found is None and self.layout is not None and isinstance(obj, self.layout.cls):
            values[self.name] = value  # transient, and nobody has asked for its state yet
            return
        else:
            state = state_of(obj)
        if state.life >= _PERSISTENT:
            committed = state.committed
            if committed is None or self.name not in committed:
                self.keep_old(obj, values, state)
        values[self.name] = value

    @cython.locals(values=dict, state=InstanceState)
    def __delete__(self, obj: Any) -> None:
        state = state_of(obj)
        values = sj_dict(obj)
        if self.name not in values:
            if state.life < _PERSISTENT or self.miss(obj) is None:
                raise AttributeError(self.name)
            if self.name not in values:
                raise AttributeError(self.name)
        if self.slow:
            self.delete_hook(obj)
        if state.life >= _PERSISTENT and (state.committed is None or self.name not in state.committed):
            self.keep_old(obj, values, state)
        values.pop(self.name, None)

    @cython.locals(committed=dict, owner=Owner)
    def keep_old(self, obj: Any, values: dict[str, Any], state: InstanceState) -> object:
        """Note the value that a first change replaces; the caller has looked whether it is the first."""
        if self.active_history and self.name not in values:
            self.miss(obj)
        committed = state.committed
        if committed is None:
            committed = state.committed = {}
            owner = state.owner
            if owner is not None:
                owner.dirty[state] = obj
        committed[self.name] = values.get(self.name, NOT_LOADED)
        return None

    @cython.locals(values=dict, state=InstanceState)
    def miss(self, obj: Any) -> Any:
        """Answer a read of a value that is not in the `__dict__`; loads it if the entity is persistent."""
        values = sj_dict(obj)
        if self.name in values:  # NotImplemented itself is stored there
            return values[self.name]
        if values.get(_STATE) is None and self.layout is not None and isinstance(obj, self.layout.cls):
            return None
        state = state_of(obj)
        if state.life < _PERSISTENT:
            return None
        if state.committed is not None and self.name in state.committed:
            return None  # it was deleted
        if state.owner is None or not state.attached():
            raise DetachedRead(type(obj).__name__, self.name)
        value = state.owner.load_attribute(obj, state, self.name)
        return values[self.name] if self.name in values else value

    def set_hook(self, obj: Any, value: Any) -> Any:
        """Return the value to store instead; called for each set while `slow` is true."""
        return value

    def delete_hook(self, obj: Any) -> None:
        """Called before each `del` while `slow` is true."""


def construct(self: Any, **given: Any) -> None:
    """Set the given attributes of a new entity: the `__init__` of mapped classes that have none.

    Raise UnknownKeyword for a name the class neither maps nor otherwise has.
    """
    _construct(self, given)


@cython.cfunc
@cython.exceptval(-1)
@cython.returns(cython.int)
@cython.locals(given=dict, values=dict, attributes=dict, layout=Layout, attribute=Attribute)
def _construct(self: Any, given: dict[str, Any] | None) -> int:
    layout = type(self).__sojourn_layout__
    attributes = layout.attributes
    values = sj_dict(self)
    if given is None:
        return 0
    for name, value in given.items():
        attribute = attributes.get(name)
        if attribute is not None and not attribute.slow:
            values[name] = value
        else:
            _set_named(self, attributes, name, value)
    return 0


@cython.cfunc
def _set_named(obj: Any, attributes: Mapping[str, Any], name: str, value: Any) -> object:
    """Set a property, a hybrid, or an attribute with a hook."""
    if not hasattr(type(obj), name):
        raise UnknownKeyword(type(obj).__name__, name, list(attributes))
    setattr(obj, name, value)
    return None


def _quicken(cls: type[Any]) -> None:
    """Give a class whose constructor is `construct` its C form; to be found by subclasses as well."""
    if cython.compiled:
        if cls.__init__ is construct:  # type: ignore[misc]
            sj_set_initializer(cls, _construct)


on_install.append(_quicken)
