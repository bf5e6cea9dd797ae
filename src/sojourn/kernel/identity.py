# cython: language_level=3, annotation_typing=False, nonecheck=True
"""Keep one entity per database row: the weak map from identity key to entity, and the sets of changed ones.

Per root layout there is one dict from key to a weak reference without callback: an entity that dies costs
nothing, its entry is skipped when met and swept when the dict has doubled since the last sweep. Entities
that must not be lost are held strongly: those in `new`, `dirty` and `deleted`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

try:
    import cython
except ImportError:
    from sojourn import _cython as cython

from sojourn.errors import IdentityConflict, OtherSession

if cython.compiled:
    from cython.cimports.sojourn.kernel._capi import (
        pause_gc,
        resume_gc,
        sj_deref,
        sj_dict,
        sj_refers,
        sj_remove,
        sj_weak,
    )
    from cython.cimports.sojourn.kernel.layout import Layout
    from cython.cimports.sojourn.kernel.state import (
        _DELETED,
        _DETACHED,
        _PENDING,
        _PERSISTENT,
        _STATE,
        _TRANSIENT,
        InstanceState,
        Owner,
        SharedState,
        new_shared,
        new_state,
        state_of,
    )
else:
    from sojourn.kernel._plain import pause_gc, resume_gc, sj_deref, sj_dict, sj_refers, sj_remove, sj_weak
    from sojourn.kernel.layout import Layout
    from sojourn.kernel.state import (
        _DELETED,
        _DETACHED,
        _PENDING,
        _PERSISTENT,
        _STATE,
        _TRANSIENT,
        InstanceState,
        Owner,
        SharedState,
        new_shared,
        new_state,
        state_of,
    )

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from weakref import ref

_NOTHING: Any = {}
# Below this many entries a sweep is not worth its look at each of them.
_SWEEP_FROM = 1024


@cython.cclass
class IdentityMap(Owner):
    """Know all entities of one session."""

    if not cython.compiled:
        __slots__ = ("limits", "shares")

    shares: dict[Layout, SharedState]
    limits: dict[Layout, int]

    def __init__(self, session: object = None) -> None:
        Owner.__init__(self, session)
        self.shares = {}
        self.limits = {}

    def __repr__(self) -> str:
        return (
            f"<IdentityMap: {len(self)} entities, {len(self.new)} new, {len(self.dirty)} dirty, "
            f"{len(self.deleted)} deleted>"
        )

    # -- finding -------------------------------------------------------------------------------------------

    @cython.locals(layout=Layout, refs=dict)
    def find(self, layout: Layout, key: Any) -> Any:
        """Return the entity with this key, or None."""
        refs = self.maps.get(layout.root)
        if refs is None:
            return None
        reference = refs.get(key)
        if reference is None:
            return None
        entity = sj_deref(reference)
        if entity is None or layout.root is layout or isinstance(entity, layout.cls):
            return entity
        return None

    def find_loaded(self, layout: Layout, key: Any) -> Any:
        """Return the entity with this key unless it is expired, or None."""
        entity = self.find(layout, key)
        if entity is None or layout.keys[0] in sj_dict(entity):
            return entity
        return None

    @cython.locals(layout=Layout)
    def hit(self, cls: Any, key: Any) -> Any:
        """Return the loaded entity of exactly this class with this int or str key, or None: 0.07 us."""
        if type(key) is not int and type(key) is not str:
            return None
        layout = getattr(cls, "__sojourn_layout__", None)
        if layout is None or not layout.scalar_key:
            return None
        entity = self.find_loaded(layout, key)
        if type(entity) is cls:
            return entity
        return None

    @cython.locals(refs=dict)
    def __iter__(self) -> Iterator[Any]:
        """Iterate over a snapshot of the live entities that have a key."""
        found = []
        for refs in list(self.maps.values()):
            for reference in list(refs.values()):
                entity = sj_deref(reference)
                if entity is not None:
                    found.append(entity)
        return iter(found)

    def __len__(self) -> int:
        """Count the live entities that have a key."""
        return sum([1 for refs in list(self.maps.values()) for wr in list(refs.values()) if wr() is not None])

    @cython.locals(state=InstanceState, shared=SharedState, refs=dict)
    def holds(self, obj: Any) -> bool:
        """Tell whether this very entity has its key in the map."""
        found = sj_dict(obj).get(_STATE)
        if type(found) is InstanceState:
            state = found
            if state.owner is not self or state.key is None:
                return False
            refs = self.maps.get(state.layout.root)
            return refs is not None and sj_refers(refs.get(state.key), obj)
        if type(found) is SharedState:
            shared = found
            return shared.get_owner() is self and state_of(obj).owner is self
        return False

    # -- adding and letting go -----------------------------------------------------------------------------

    def refs(self, root: Layout) -> dict[Any, ref[Any]]:
        """Return the dict from key to weak reference of one hierarchy; made, and swept, when it is time."""
        refs = self.maps.get(root)
        if refs is None:
            refs = self.maps.setdefault(root, {})
        elif len(refs) > _SWEEP_FROM:
            self.sweep(root, refs)
        return refs

    def sweep(self, root: Layout, refs: dict[Any, ref[Any]]) -> object:
        """Drop the entries of dead entities if the dict has doubled since the last time."""
        if len(refs) >= self.limits.get(root, 2 * _SWEEP_FROM):
            for key, reference in list(refs.items()):
                if sj_deref(reference) is None and refs.get(key) is reference:
                    del refs[key]
            self.limits[root] = max(2 * len(refs), 2 * _SWEEP_FROM)
        return None

    @cython.locals(found=SharedState)
    def shared(self, layout: Layout) -> SharedState:
        """Return the state that clean entities of this class share here."""
        found = self.shares.get(layout)
        if found is None:
            found = self.shares.setdefault(layout, new_shared(layout, self))
        return found

    @cython.locals(state=InstanceState, refs=dict)
    def add(self, state: InstanceState, obj: Any) -> Any:
        """Take an entity in: as persistent if it has a key, as new if not.

        Raise IdentityConflict when another entity has that key, OtherSession when it belongs elsewhere.
        """
        owner = state.owner
        if owner is not None and owner is not self and state.attached():
            raise OtherSession(state.layout.cls.__name__, owner.session, self.session)
        if state.key is None:
            state.owner = self
            state.life = _PENDING
            self.new[state] = obj
            return None
        refs = self.refs(state.layout.root)
        present = refs.get(state.key)
        if present is not None:
            entity = sj_deref(present)
            if entity is not None and entity is not obj:
                raise IdentityConflict(state.layout.cls.__name__, state.key)
        refs[state.key] = sj_weak(obj)
        state.owner = self
        state.life = _PERSISTENT
        state.was_deleted = False
        if state.committed is not None:
            self.dirty[state] = obj
        return None

    def add_new(self, instances: Iterable[Any], add: Any) -> None:
        """Take new entities in, 0.1 us each; *add* is called for each one that is not plainly new."""
        if type(instances) is not list:  # whatever makes them meanwhile may take long and make garbage
            self.add_each(instances, add)
            return
        paused = pause_gc()
        try:
            self.add_each(instances, add)
        finally:
            resume_gc(paused)

    @cython.locals(state=InstanceState, layout=Layout)
    def add_each(self, instances: Iterable[Any], add: Any) -> Any:
        """Do what add_new says."""
        new = self.new
        for obj in instances:
            layout = getattr(type(obj), "__sojourn_layout__", None)
            if layout is not None:
                found = sj_dict(obj).get(_STATE)
                state = None
                if found is None:
                    state = state_of(obj)
                elif type(found) is InstanceState:
                    state = found
                    if not sj_refers(state.ref, obj):
                        state = None
                if (
                    state is not None
                    and state.life == _TRANSIENT
                    and state.owner is None
                    and state.key is None
                ):
                    state.owner = self
                    state.life = _PENDING
                    new[state] = obj
                    continue
            add(obj)
        return None

    @cython.locals(state=InstanceState)
    def mark_deleted(self, obj: Any) -> bool:
        """Mark a persistent entity of this map for deletion; return False for anything else."""
        if getattr(type(obj), "__sojourn_layout__", None) is None:
            return False
        state = state_of(obj)
        if state.life != _PERSISTENT or state.owner is not self:
            return False
        self.deleted[state] = obj
        return True

    @cython.locals(state=InstanceState, refs=dict)
    def discard(self, state: InstanceState) -> Any:
        """Let go of one entity: it becomes transient if it was new, detached if not."""
        self.new.pop(state, None)
        self.dirty.pop(state, None)
        self.deleted.pop(state, None)
        if state.key is not None:
            refs = self.maps.get(state.layout.root)
            if refs is not None:
                reference = refs.get(state.key)
                if reference is not None and reference is state.ref:
                    del refs[state.key]
        if state.owner is self:
            state.owner = None
            _set_free(state)
        return None

    @cython.locals(state=InstanceState, refs=dict, shared=SharedState, values=dict)
    def detach_all(self) -> None:
        """Let go of everything."""
        for refs in list(self.maps.values()):
            for reference in list(refs.values()):
                entity = sj_deref(reference)
                if entity is not None:
                    found = sj_dict(entity).get(_STATE)
                    if type(found) is InstanceState:
                        state = found
                        if state.owner is self:
                            state.owner = None
                            _set_free(state)
        for states in (self.new, self.dirty, self.deleted):
            for state in list(states):
                if state.owner is self:
                    state.owner = None
                    _set_free(state)
            states.clear()
        for shared in list(self.shares.values()):
            shared.release()
        self.shares.clear()
        self.maps.clear()
        self.limits.clear()

    clear = detach_all

    # -- expiry --------------------------------------------------------------------------------------------

    @cython.locals(refs=dict, keys=list, references=list, i=cython.Py_ssize_t)
    def expire_all(self) -> None:
        """Forget the loaded values of all persistent entities; the next read of one loads them again."""
        paused = pause_gc()
        try:
            for refs in list(self.maps.values()):
                keys = list(refs)
                references = list(refs.values())
                for i in range(len(keys)):
                    entity = sj_deref(references[i])
                    if entity is not None:
                        self.expire_one(entity, keys[i], references[i])
        finally:
            resume_gc(paused)
        self.dirty.clear()

    @cython.locals(state=InstanceState, shared=SharedState, values=dict)
    def expire_one(self, entity: Any, key: Any, reference: Any) -> object:
        """Forget the loaded values of an entity of the map; a shared state is replaced by its own."""
        values = sj_dict(entity)
        found = values.get(_STATE)
        if type(found) is InstanceState:
            state = found
            if state.ref is not reference:
                state = state_of(entity)
        elif type(found) is SharedState:
            shared = found
            state = new_state(shared.layout, entity)
            state.key = key
            state.life = _PERSISTENT
            state.owner = self
            values[_STATE] = state
        else:  # somebody wrote to the __dict__ directly
            state = state_of(entity)
        state.committed = None
        state.expired = True
        sj_remove(values, state.layout.expires)
        return None

    @cython.locals(state=InstanceState, chosen=tuple)
    def expire(self, state: InstanceState, obj: Any, names: Iterable[str] | None = None) -> None:
        """Forget the loaded values of one entity, and changes to them: of some attributes, or of all."""
        if names is None:
            state.committed = None
            state.expired = True
            self.dirty.pop(state, None)
            sj_remove(sj_dict(obj), state.layout.expires)
        else:
            chosen = tuple(names)
            state.forget(chosen)
            sj_remove(sj_dict(obj), chosen)


@cython.cfunc
@cython.locals(state=InstanceState)
def _set_free(state: InstanceState) -> object:
    if state.life == _PENDING:
        state.life = _TRANSIENT
    elif state.life == _PERSISTENT:
        state.life = _DETACHED
    elif state.life == _DELETED:
        state.life = _DETACHED
        state.was_deleted = True
    return None


def hot_get(get_anew: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method of sessions that answers from the identity map, or else calls *get_anew*.

    Half of a hit is the call of a Python function with that many parameters: 0.22 us become 0.1.
    """

    @cython.locals(identity=IdentityMap)
    def get(
        self,
        entity,
        ident,
        *,
        options=None,
        populate_existing=False,
        with_for_update=None,
        identity_token=None,
        execution_options=_NOTHING,
        bind_arguments=None,
    ):
        if (
            not populate_existing
            and with_for_update is None
            and bind_arguments is None
            and not execution_options
        ):
            identity = self.identity
            found = identity.hit(entity, ident)
            if found is not None:
                return found
        return get_anew(
            self,
            entity,
            ident,
            options=options,
            populate_existing=populate_existing,
            with_for_update=with_for_update,
            identity_token=identity_token,
            execution_options=execution_options,
            bind_arguments=bind_arguments,
        )

    get.__doc__ = get_anew.__doc__
    get.__wrapped__ = get_anew
    return get
