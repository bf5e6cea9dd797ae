# cython: language_level=3, annotation_typing=False, nonecheck=True
"""Hold what is known about one entity: its lifecycle, its identity key, old values of what was changed.

An entity keeps its values in its own `__dict__`, and under the key STATE one of two records:

- a `SharedState`: one object for all clean entities that an identity map loaded for a class. It says no
  more than "persistent in this map", so loading a row costs no record and no work for the collector.
- an `InstanceState` of its own, made at the first need (`state_of`): a change, an expiry, `inspect()`.

A new entity has neither until `state_of` is asked.

A copied `__dict__` (copy.copy, pickle, `vars(a).update(vars(b))`) carries the record of another entity
along. A state therefore knows its entity weakly, and whoever is about to act on a state asks `state_of`,
which never returns the state of another entity.

Lives run TRANSIENT < PENDING < PERSISTENT < DELETED < DETACHED. From PERSISTENT on a set keeps the old value;
before that everything in the `__dict__` is new anyway.
"""

from __future__ import annotations

from typing import Any
from weakref import getweakrefcount, ref

try:
    import cython
except ImportError:
    from sojourn import _cython as cython

from sojourn.errors import MappingError, UnmappedInstance
from sojourn.kernel.history import EMPTY, AttributeState, AttributeStates, History
from sojourn.kernel.layout import STATE as _KEY
from sojourn.kernel.layout import on_install
from sojourn.symbols import NOT_LOADED

if cython.compiled:
    from cython.cimports.sojourn.kernel._capi import (
        sj_deref,
        sj_dict,
        sj_refers,
        sj_weak,
    )
    from cython.cimports.sojourn.kernel.layout import Layout
else:
    from sojourn.kernel._plain import sj_deref, sj_dict, sj_refers, sj_weak
    from sojourn.kernel.layout import Layout

STATE = _STATE = _KEY
TRANSIENT, PENDING, PERSISTENT, DELETED, DETACHED = range(5)
_TRANSIENT = 0
_PENDING = 1
_PERSISTENT = 2
_DELETED = 3
_DETACHED = 4


@cython.cclass
class Owner:
    """Be what states and attributes know of the identity map they belong to; `IdentityMap` adds the rest.

    `new`, `dirty` and `deleted` map states to entities and so keep these alive. `maps` leads from a root
    layout to `{key: weak reference}`. `loader` (symbols.Loader) loads one missing attribute.
    """

    if not cython.compiled:
        __slots__ = ("__weakref__", "deleted", "dirty", "loader", "maps", "new", "session_ref")

    loader: Any
    maps: dict[Layout, dict[Any, ref[Any]]]
    new: dict[InstanceState, Any]
    dirty: dict[InstanceState, Any]
    deleted: dict[InstanceState, Any]
    session_ref: Any

    def __init__(self, session: object = None) -> None:
        self.loader = None
        self.maps = {}
        self.new = {}
        self.dirty = {}
        self.deleted = {}
        self.session_ref = None if session is None else ref(session)

    @property
    def session(self) -> Any:
        """The session, or None when there never was one or it is gone."""
        return None if self.session_ref is None else self.session_ref()

    def load_attribute(self, obj: Any, state: InstanceState, name: str) -> Any:
        """Load one missing attribute into the entity and return it."""
        return self.loader(obj, state, name)


@cython.no_gc
@cython.cclass
class SharedState:
    """Stand for "clean and persistent in one identity map" in every entity of one class.

    The collector does not visit it, which keeps the dict of a clean entity out of its sight too; therefore
    it must not own anything that leads back to entities, and knows its identity map weakly.
    """

    if not cython.compiled:
        __slots__ = ("layout", "owner_ref")

    layout: Layout
    owner_ref: Any

    @property
    def owner(self) -> Any:
        """The identity map, or None when it is gone or let go of its entities."""
        return self.get_owner()

    def get_owner(self) -> Owner | None:
        """Return the identity map or None."""
        return None if self.owner_ref is None else sj_deref(self.owner_ref)

    def release(self) -> None:
        """Detach all entities that share this state, at once."""
        self.owner_ref = None

    def __copy__(self) -> SharedState:
        return self

    def __deepcopy__(self, memo: Any) -> SharedState:
        return self  # the copy's first use of it finds that it is not the entity in the map

    def __reduce__(self) -> Any:
        return _restore_shared, (self.layout.cls,)


@cython.freelist(256)
@cython.cclass
class InstanceState:
    """Know one entity: `inspect(obj)`.

    `key` is the bare value for one key column, a tuple for several, None until persistent. `committed` maps
    the names of changed attributes to their old values, by reference; NOT_LOADED where there was none.
    """

    if not cython.compiled:
        __slots__ = (
            "__weakref__", "committed", "expired", "key", "layout", "life", "notes", "owner", "ref",
            "was_deleted",
        )  # fmt: skip

    layout: Layout
    key: Any
    life: int
    owner: Any  # an IdentityMap, which lives above this file
    committed: dict[str, Any] | None
    ref: Any
    expired: bool
    was_deleted: bool
    notes: dict[Any, Any] | None

    def __init__(self) -> None:
        self.key = None
        self.life = _TRANSIENT
        self.owner = None
        self.committed = None
        self.ref = None
        self.expired = False
        self.was_deleted = False
        self.notes = None

    def __repr__(self) -> str:
        lives = ("transient", "pending", "persistent", "deleted", "detached")
        if self.layout is None:
            return "<InstanceState>"
        return f"<InstanceState of {self.layout.cls.__name__} {self.key!r}, {lives[self.life]}>"

    def obj(self) -> Any:
        """Return the entity, or None when it is gone."""
        return None if self.ref is None else sj_deref(self.ref)

    def attached(self) -> bool:
        """Tell whether there is an identity map whose session, if it ever had one, is alive."""
        owner = self.owner
        return owner is not None and (owner.session_ref is None or owner.session_ref() is not None)

    # -- lifecycle, as SQLAlchemy's InstanceState tells it ----------------------------------------------

    @property
    def transient(self) -> bool:
        """Neither in a session nor in the database."""
        return self.life == _TRANSIENT or (self.life == _PENDING and not self.attached())

    @property
    def pending(self) -> bool:
        """In a session, not yet in the database."""
        return self.life == _PENDING and self.attached()

    @property
    def persistent(self) -> bool:
        """In a session and in the database."""
        return self.life == _PERSISTENT and self.attached()

    @property
    def deleted(self) -> bool:
        """Deleted by a flush whose transaction has not ended."""
        return self.life == _DELETED and self.attached()

    @property
    def detached(self) -> bool:
        """In the database, in no session."""
        return self.life == _DETACHED or (self.life >= _PERSISTENT and not self.attached())

    @property
    def session(self) -> Any:
        """The session, or None."""
        return None if self.owner is None else self.owner.session

    @property
    def object(self) -> Any:
        """The entity, or None when it is gone."""
        return self.obj()

    @property
    def class_(self) -> type[Any]:
        """The mapped class."""
        return self.layout.cls

    @property
    def mapper(self) -> Any:
        """The mapper of the class."""
        return self.layout.mapper

    @property
    def dict(self) -> dict[str, Any]:
        """The entity's `__dict__`; empty when it is gone."""
        entity = self.obj()
        return {} if entity is None else sj_dict(entity)

    @property
    def info(self) -> Any:  # a dict; the word means the property above here
        """A dict for whatever a program wants to note about this entity."""
        if self.notes is None:
            self.notes = {}
        return self.notes

    # -- identity -----------------------------------------------------------------------------------------

    @property
    def has_identity(self) -> bool:
        """Whether the entity has an identity key: it is, or was, in the database."""
        return self.key is not None

    @property
    def identity(self) -> tuple[Any, ...] | None:
        """The primary key values, or None."""
        if self.key is None:
            return None
        return (self.key,) if self.layout.scalar_key else self.key

    @property
    def identity_key(self) -> tuple[type[Any], tuple[Any, ...], Any] | None:
        """The key that `session.identity_map` shows: (class, primary key values, None)."""
        identity = self.identity
        return None if identity is None else (self.layout.root.cls, identity, None)

    # -- values ---------------------------------------------------------------------------------------------

    @property
    def modified(self) -> bool:
        """Whether an attribute was set since the last load or flush, to whatever value."""
        if self.life >= _PERSISTENT:
            return bool(self.committed)
        return any(name in self.layout.places for name in self.dict)

    @property
    def unloaded(self) -> set[str]:
        """The names of the attributes that are not in the `__dict__`."""
        values = self.dict
        return {name for name in (self.layout.attributes or self.layout.places) if name not in values}

    @property
    def expired_attributes(self) -> set[str]:
        """The unloaded ones of an entity that is in the database."""
        return set() if self.key is None else self.unloaded

    @property
    def attrs(self) -> AttributeStates:
        """One AttributeState per mapped attribute, by name."""
        return AttributeStates(
            [(name, AttributeState(self, name)) for name in (self.layout.attributes or self.layout.places)]
        )

    def history(self, name: str) -> History:
        """Return what changed on one column attribute; setting it back to what it was is no change."""
        values = self.dict
        there = name in values
        value = values.get(name)
        if self.life < _PERSISTENT:
            return History([value], (), ()) if there else EMPTY
        if self.committed is None or name not in self.committed:
            return History((), [value], ()) if there else EMPTY
        old = self.committed[name]
        if not there:
            return EMPTY if old is NOT_LOADED else History((), (), [old])
        if old is NOT_LOADED:
            return History([value], (), ())
        if unchanged(self.layout, name, old, value):
            return History((), [value], ())
        return History([value], (), [old])

    def forget(self, names: tuple[str, ...] | None = None) -> None:
        """Forget old values, of these attributes or of all: the current ones are the database's."""
        committed = self.committed
        if committed is not None:
            if names is not None:
                for name in names:
                    committed.pop(name, None)
            if names is None or not committed:
                self.committed = None
                if self.owner is not None:
                    self.owner.dirty.pop(self, None)

    def __copy__(self) -> InstanceState:
        return self  # for copies of entities: state_of tells them apart

    def __deepcopy__(self, memo: Any) -> InstanceState:
        return self

    def __reduce__(self) -> Any:
        kept = (self.key, self.life, self.committed, self.expired, self.was_deleted, self.notes)
        return _restore, (self.layout.cls, *kept)


@cython.cclass
class StateAccess:
    """Be the class attribute `_sa_instance_state`: reading it on an entity gives a state of its own."""

    def __get__(self, obj: Any, owner: Any) -> Any:
        return self if obj is None else state_of(obj)

    def __set__(self, obj: Any, value: Any) -> None:
        if type(value) is not InstanceState and type(value) is not SharedState:
            msg = f"{STATE} is sojourn's own; it cannot be {value!r}"
            raise TypeError(msg)
        sj_dict(obj)[STATE] = value  # __setstate__ of a class that restores attribute by attribute

    def __delete__(self, obj: Any) -> None:
        sj_dict(obj).pop(STATE, None)


def _give_access(cls: type[Any]) -> None:
    setattr(cls, STATE, StateAccess())


on_install.append(_give_access)


# -- finding and making states ---------------------------------------------------------------------------


def dict_of(obj: Any) -> dict[str, Any]:
    """Return the dict that holds the entity's values."""
    return sj_dict(obj)


@cython.locals(values=dict, state=InstanceState)
def state_of(obj: Any) -> InstanceState:
    """Return the entity's own state, made if need be; raise UnmappedInstance for anything else."""
    try:
        values = sj_dict(obj)
    except AttributeError:
        raise UnmappedInstance(obj) from None
    found = values.get(_STATE)
    if type(found) is InstanceState:
        state = found
        if sj_refers(state.ref, obj):
            return state
    return _own_state(obj, values, found)


@cython.cfunc
@cython.locals(
    values=dict,
    state=InstanceState,
    other=InstanceState,
    shared=SharedState,
    layout=Layout,
    known=cython.bint,
)
def _own_state(obj: Any, values: dict[str, Any], found: Any) -> InstanceState:
    layout = getattr(type(obj), "__sojourn_layout__", None)
    if layout is None:
        raise UnmappedInstance(obj)
    if type(found) is InstanceState:
        other = found
        if other.ref is None and other.layout is layout:  # fresh from a pickle
            other.ref = sj_weak(obj)
            return other
        # A copy. Of an entity that is in a session: a new entity with the same values. Of a detached one:
        # detached too, as if it had been pickled.
        state = new_state(layout, obj)
        if other.detached and other.layout is layout:
            state.key = other.key
            state.life = _DETACHED
            state.committed = None if other.committed is None else dict(other.committed)
            state.expired = other.expired
    elif type(found) is SharedState:
        shared = found
        # An entity of the map has the map's reference already; new_state gets the same one, not a second.
        known = getweakrefcount(obj) > 0
        state = new_state(shared.layout, obj)
        _take_identity(state, obj, values, shared.get_owner(), known)
    else:
        state = new_state(layout, obj)
    values[_STATE] = state
    return state


@cython.cfunc
@cython.locals(state=InstanceState, values=dict, owner=Owner, refs=dict, layout=Layout, known=cython.bint)
def _take_identity(
    state: InstanceState, obj: Any, values: dict[str, Any], owner: Owner | None, known: bool
) -> object:
    """Give the state of a clean loaded entity its key; an entity that is not in the map is a copy of one."""
    layout = state.layout
    key = layout.key_of(values)
    if owner is None:
        if key is not None:
            state.key = key
            state.life = _DETACHED
        return None
    refs = owner.maps.get(layout.root)
    if refs is None:
        return None
    if key is None or not sj_refers(refs.get(key), obj):
        if not known:
            return None
        # Somebody wrote to the __dict__ directly.
        for key, reference in list(refs.items()):  # noqa: B007 - it is used below
            if sj_refers(reference, obj):
                break
        else:
            return None
    state.key = key
    state.life = _PERSISTENT
    state.owner = owner
    return None


@cython.locals(state=InstanceState)
def new_state(layout: Layout, obj: Any) -> InstanceState:
    """Make the state of a transient entity; the caller stores it in the entity's dict."""
    state = InstanceState.__new__(InstanceState) if cython.compiled else InstanceState()
    state.layout = layout
    state.ref = sj_weak(obj)
    return state


@cython.locals(shared=SharedState)
def new_shared(layout: Layout, owner: Owner | None) -> SharedState:
    """Make the state that the clean entities of one class in one identity map share."""
    shared = SharedState.__new__(SharedState)
    shared.layout = layout
    shared.owner_ref = None if owner is None else ref(owner)
    return shared


def unchanged(layout: Layout, name: str, old: Any, new: Any) -> bool:
    """Tell whether a column value is what it was; a comparison that fails means no."""
    if old is new:
        return True
    if old is NOT_LOADED:
        return False
    try:
        if layout.compares is not None and name in layout.compares:
            return bool(layout.compares[name](old, new))
        if type(old) is not type(new) and hasattr(new, "__clause_element__"):  # an SQL expression
            return False
        return bool(old == new)
    except Exception:  # noqa: BLE001 - __eq__ of a user's type, an array's truth value
        return False


def _layout_of(cls: type[Any]) -> Layout:
    layout: Layout | None = getattr(cls, "__sojourn_layout__", None)
    if layout is None:
        raise MappingError(
            f"{cls.__name__} is not mapped here, so its pickled instance cannot be restored.",
            "Import the module that maps it before unpickling.",
        )
    return layout


@cython.locals(state=InstanceState)
def _restore(
    cls: type[Any],
    key: Any,
    life: int,
    committed: dict[str, Any] | None,
    expired: bool,
    was_deleted: bool,
    notes: dict[Any, Any] | None,
) -> InstanceState:
    state = InstanceState.__new__(InstanceState) if cython.compiled else InstanceState()
    state.layout = _layout_of(cls)
    state.key = key
    state.life = _DETACHED if life >= PERSISTENT else _TRANSIENT
    state.ref = None  # the first entity that asks for its state is the one
    state.committed = committed
    state.expired = expired
    state.was_deleted = was_deleted
    state.notes = notes
    return state


def _restore_shared(cls: type[Any]) -> SharedState:
    return new_shared(_layout_of(cls), None)
