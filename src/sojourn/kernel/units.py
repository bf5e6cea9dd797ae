# cython: language_level=3, annotation_typing=False, nonecheck=True
"""Do the per-entity halves of a flush: collect values for statements, write replies back into entities.

They work on columns of entities, never on one Python object per row. *processors* are one per name, None
where the value goes to the driver as it is; an attribute that is not in the `__dict__` counts as None.

The collector rests while many rows are collected: it would walk them, and every new entity, again and again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

try:
    import cython
except ImportError:
    from sojourn import _cython as cython

if cython.compiled:
    from cython.cimports.sojourn.kernel._capi import pause_gc, resume_gc, sj_deref, sj_dict, sj_weak
    from cython.cimports.sojourn.kernel.identity import IdentityMap
    from cython.cimports.sojourn.kernel.layout import Layout
    from cython.cimports.sojourn.kernel.state import _DELETED, _PERSISTENT, InstanceState, state_of, unchanged
else:
    from sojourn.kernel._plain import pause_gc, resume_gc, sj_deref, sj_dict, sj_weak
    from sojourn.kernel.identity import IdentityMap
    from sojourn.kernel.layout import Layout
    from sojourn.kernel.state import _DELETED, _PERSISTENT, InstanceState, state_of, unchanged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Processors = tuple[Any, ...]  # callables, and None where there is nothing to convert


_ONE: Any = 1
_MISSING: Any = object()


# -- collecting --------------------------------------------------------------------------------------------


def collect_values(
    objs: Iterable[Any],
    names: tuple[str, ...],
    processors: Processors | None,
    kinds: Any,
) -> list[tuple[Any, ...]] | None:
    """Return one parameter tuple per entity; None if a value is not to be sent as a plain parameter.

    *kinds* says per type what its values are: 0 plain, 1 never a parameter (an SQL expression), 2 only when
    a processor converts it. None for *kinds* takes everything as it is.
    """
    paused = pause_gc()
    try:
        return _collect_values(objs, names, processors, kinds)
    finally:
        resume_gc(paused)


@cython.cfunc
@cython.locals(
    values=dict, names=tuple, processors=tuple, i=cython.Py_ssize_t, n=cython.Py_ssize_t, row=list,
    out=list, kind=cython.int,
)  # fmt: skip
def _collect_values(
    objs: Iterable[Any],
    names: tuple[str, ...],
    processors: Processors | None,
    kinds: Any,
) -> list[tuple[Any, ...]] | None:
    n = len(names)
    out: list[Any] = []
    for obj in objs:
        values = sj_dict(obj)
        row = []
        for i in range(n):
            value = values.get(names[i])
            if kinds is not None and value is not None and type(value) is not str and type(value) is not int:
                kind = kinds[type(value)]
                if kind and (kind == 1 or processors is None or processors[i] is None):
                    return None
            if processors is not None and processors[i] is not None:
                value = processors[i](value)
            row.append(value)
        out.append(tuple(row))
    return out


def collect_pages(
    objs: Sequence[Any],
    states: Sequence[InstanceState] | None,
    names: tuple[str, ...],
    processors: Processors | None,
    kinds: Any,
    size: int,
) -> list[tuple[Any, ...]] | None:
    """Return the parameters of *size* entities per statement, entity by entity; None as `collect_values`.

    With *states* the parts of each entity's key follow its values; *processors* then has one for each part
    too. One tuple per page instead of one per entity: less for the collector to walk.
    """
    paused = pause_gc()
    try:
        return _collect_pages(objs, states, names, processors, kinds, size)
    finally:
        resume_gc(paused)


@cython.cfunc
@cython.locals(
    values=dict, names=tuple, processors=tuple, state=InstanceState, key=tuple, i=cython.Py_ssize_t,
    n=cython.Py_ssize_t, k=cython.Py_ssize_t, size=cython.Py_ssize_t, here=cython.Py_ssize_t,
    place=cython.Py_ssize_t, page=list, out=list, kind=cython.int, scalar=cython.bint,
)  # fmt: skip
def _collect_pages(
    objs: Sequence[Any],
    states: Sequence[InstanceState] | None,
    names: tuple[str, ...],
    processors: Processors | None,
    kinds: Any,
    size: int,
) -> list[tuple[Any, ...]] | None:
    n = len(names)
    out: list[Any] = []
    page = []
    here = 0
    place = 0
    scalar = True
    k = 0
    if states is not None and len(states) > 0:
        state = states[0]
        scalar = state.layout.scalar_key
    for obj in objs:
        values = sj_dict(obj)
        for i in range(n):
            value = values.get(names[i])
            if value is not None and type(value) is not str and type(value) is not int:
                kind = kinds[type(value)]
                if kind and (kind == 1 or processors is None or processors[i] is None):
                    return None
            if processors is not None and processors[i] is not None:
                value = processors[i](value)
            page.append(value)
        if states is not None:
            state = states[place]
            if scalar:
                value = state.key
                if processors is not None and processors[n] is not None:
                    value = processors[n](value)
                page.append(value)
            else:
                key = state.key
                for k in range(len(key)):
                    value = key[k]
                    if processors is not None and processors[n + k] is not None:
                        value = processors[n + k](value)
                    page.append(value)
        place += 1
        here += 1
        if here == size:
            out.append(tuple(page))
            page = []
            here = 0
    if here:
        out.append(tuple(page))
    return out


@cython.locals(
    values=dict, state=InstanceState, i=cython.Py_ssize_t, out=list, column=list, dicts=list,
    kind=cython.int, scalar=cython.bint,
)  # fmt: skip
def collect_arrays(
    objs: Sequence[Any],
    states: Sequence[InstanceState] | None,
    names: tuple[str, ...],
    processors: Processors | None,
    kinds: Any,
) -> list[list[Any]] | None:
    """Return one list per column, the key's last where *states* are given; None as `collect_values`."""
    dicts = [sj_dict(obj) for obj in objs]
    out: list[Any] = []
    for i in range(len(names)):
        processor = None if processors is None else processors[i]
        name = names[i]
        column = []
        for values in dicts:
            value = values.get(name)
            if value is not None and type(value) is not str and type(value) is not int:
                kind = kinds[type(value)]
                if kind and (kind == 1 or processor is None):
                    return None
            column.append(value if processor is None else processor(value))
        out.append(column)
    if states is not None:
        scalar = len(states) == 0 or states[0].layout.scalar_key
        column = []
        for state in states:
            column.append(state.key)
        if scalar:
            out.append(column)
        else:
            out.extend([list(part) for part in zip(*column)])  # noqa: B905 - keys of one class are of one length
        if processors is not None:
            for i in range(len(names), len(out)):
                processor = processors[i]
                if processor is not None:
                    out[i] = [processor(value) for value in out[i]]
    return out


@cython.locals(state=InstanceState, layout=Layout, last_layout=Layout, objs=list, states=list, out=dict)
def group_deletes(deleted: dict[InstanceState, Any]) -> dict[Layout, tuple[list[Any], list[Any]]]:
    """Group entities to be deleted by class: (entities, states), each in the order of marking."""
    out: dict[Layout, tuple[list[Any], list[Any]]] = {}
    last_layout = None
    objs: list[Any] = []
    states: list[Any] = []
    for state, obj in deleted.items():
        layout = state.layout
        if layout is not last_layout:
            last_layout = layout
            found = out.get(layout)
            if found is None:
                found = out[layout] = ([], [])
            objs, states = found
        objs.append(obj)
        states.append(state)
    return out


@cython.locals(
    state=InstanceState, values=dict, layout=Layout, last_layout=Layout, names=tuple, nones=tuple,
    runs=list, objs=list, states=list, out=dict, i=cython.Py_ssize_t, n=cython.Py_ssize_t,
)  # fmt: skip
def group_inserts(
    new: dict[InstanceState, Any], optional: Callable[[Layout], tuple[tuple[str, ...], tuple[bool, ...]]]
) -> dict[Layout, list[Any]]:
    """Group new entities by class, in the order of adding, cut where the columns with a value change.

    *optional* tells the names of a class's columns that take part only when they have a value, and for which
    of them None counts as one. Each run is [bits, entities, states]: bit n stands for the n-th name.
    """
    out: dict[Layout, list[Any]] = {}
    last_layout = None
    names: Any = ()
    nones: Any = ()
    runs: Any = []
    objs: list[Any] = []
    states: list[Any] = []
    last: Any = None
    n = 0
    for state, obj in new.items():
        layout = state.layout
        if layout is not last_layout:
            names, nones = optional(layout)
            n = len(names)
            last_layout = layout
            runs = out.get(layout)
            if runs is None:
                runs = out[layout] = []
            last = None
            if runs:
                last, objs, states = runs[-1]
        values = sj_dict(obj)
        bits = 0
        for i in range(n):
            value = values.get(names[i])
            if value is not None or (nones[i] and names[i] in values):
                bits = bits | (1 << i) if i < 60 else bits | (_ONE << i)  # past C's long, Python's int
        if last is None or bits != last:
            last = bits
            objs = []
            states = []
            runs.append((bits, objs, states))
        objs.append(obj)
        states.append(state)
    return out


@cython.locals(values=dict, names=tuple, nones=tuple, i=cython.Py_ssize_t)
def presence(obj: Any, names: tuple[str, ...], nones: tuple[bool, ...]) -> Any:
    """Return the bits that `group_inserts` gives one entity."""
    values = sj_dict(obj)
    bits: Any = 0
    for i in range(len(names)):
        if values.get(names[i]) is not None or (nones[i] and names[i] in values):
            bits = bits | (_ONE << i)
    return bits


@cython.locals(
    values=dict, names=tuple, processors=tuple, i=cython.Py_ssize_t, n=cython.Py_ssize_t, row=list,
    kind=cython.int, state=InstanceState,
)  # fmt: skip
def collect_one(
    obj: Any,
    names: tuple[str, ...],
    processors: Processors | None,
    kinds: Any,
    state: InstanceState | None,
) -> tuple[Any, ...] | None:
    """Return what `collect_values` does for one entity; with its *state* the (scalar) key follows."""
    n = len(names)
    values = sj_dict(obj)
    row = []
    for i in range(n):
        value = values.get(names[i])
        if value is not None and type(value) is not str and type(value) is not int:
            kind = kinds[type(value)]
            if kind and (kind == 1 or processors is None or processors[i] is None):
                return None
        if processors is not None and processors[i] is not None:
            value = processors[i](value)
        row.append(value)
    if state is not None:
        value = state.key
        if processors is not None and processors[n] is not None:
            value = processors[n](value)
        row.append(value)
    return tuple(row)


@cython.locals(state=InstanceState, values=dict, committed=dict, layout=Layout, names=list)
def changed_names(state: InstanceState, obj: Any) -> tuple[str, ...]:
    """Return the column attributes of one entity whose values differ from the row's, in order."""
    committed = state.committed
    if committed is None:
        return ()
    layout = state.layout
    values = sj_dict(obj)
    names = []
    for name, old in committed.items():
        if name in layout.places:
            if name in values:
                if not unchanged(layout, name, old, values[name]):
                    names.append(name)
            elif old is not None:  # deleted: the column becomes NULL
                names.append(name)
    if len(names) > 1:
        names.sort(key=layout.places.__getitem__)
    return tuple(names)


def collect_changes(
    dirty: dict[InstanceState, Any],
) -> dict[tuple[Layout, tuple[str, ...]], tuple[list[Any], list[InstanceState]]]:
    """Group changed entities by class and changed columns: one statement each.

    Setting an attribute back to what it was is no change; an entity without any change is in no group.
    """
    paused = pause_gc()
    try:
        return _collect_changes(dirty)
    finally:
        resume_gc(paused)


@cython.cfunc
@cython.locals(
    state=InstanceState, values=dict, committed=dict, layout=Layout, last_layout=Layout, groups=dict,
    names=list, last_names=list, group=tuple,
)  # fmt: skip
def _collect_changes(
    dirty: dict[InstanceState, Any],
) -> dict[tuple[Layout, tuple[str, ...]], tuple[list[Any], list[InstanceState]]]:
    groups: dict[Any, Any] = {}
    last_layout = None
    last_names: list[str] = []
    group: Any = ([], [])
    for state, obj in dirty.items():
        committed = state.committed
        if not committed:
            continue
        layout = state.layout
        values = sj_dict(obj)
        names = []
        for name, old in committed.items():
            if name in layout.places:
                if name in values:
                    if not unchanged(layout, name, old, values[name]):
                        names.append(name)
                elif old is not None:  # deleted: the column becomes NULL
                    names.append(name)
        if not names:
            continue
        if layout is not last_layout or names != last_names:  # most often the same as for the entity before
            last_layout = layout
            last_names = names
            if len(names) > 1:
                names = sorted(names, key=layout.places.__getitem__)
            key = (layout, tuple(names))
            group = groups.get(key)
            if group is None:
                group = groups[key] = ([], [])
        group[0].append(obj)
        group[1].append(state)
    return groups


# -- settling ----------------------------------------------------------------------------------------------


@cython.locals(
    identity=IdentityMap, layout=Layout, state=InstanceState, values=dict, refs=dict, left_out=tuple,
    made=tuple, place=cython.Py_ssize_t, i=cython.Py_ssize_t,
)  # fmt: skip
def settle_inserted(
    identity: IdentityMap,
    layout: Layout,
    objs: Sequence[Any],
    states: Sequence[InstanceState],
    key_values: Sequence[Any] | None = None,
    generated: Sequence[str] = (),
    rows: Sequence[Sequence[Any]] | None = None,
    nulls: Sequence[str] = (),
) -> None:
    """Make inserted entities persistent: store what the database generated, enter them into the map.

    *key_values*: one key per entity when the database made it, bare for one key column, else a tuple.
    *rows*: one per entity with the values of the *generated* attributes. *nulls*: attributes that the
    statement left out and that are known to be NULL. An entity that the map knew under the same key must
    have lost its row to somebody else; it is let go.
    """
    made = tuple(generated)
    left_out = tuple(nulls)
    refs = identity.refs(layout.root)
    place = 0
    for obj in objs:
        state = states[place]
        values = sj_dict(obj)
        for name in left_out:
            if name not in values:
                values[name] = None
        if rows is not None and made:
            row = rows[place]
            for i in range(len(made)):
                values[made[i]] = row[i]
        if key_values is None:
            key = layout.key_of(values)
        else:
            key = key_values[place]
            if layout.scalar_key:
                values[layout.keys[0]] = key
            else:
                for i in range(len(layout.keys)):
                    values[layout.keys[i]] = key[i]
        _enter(identity, refs, state, obj, key)
        identity.new.pop(state, None)
        place += 1


@cython.cfunc
@cython.locals(identity=IdentityMap, refs=dict, state=InstanceState, other=InstanceState)
def _enter(identity: IdentityMap, refs: dict[Any, Any], state: InstanceState, obj: Any, key: Any) -> object:
    present = refs.get(key)
    if present is not None:
        entity = sj_deref(present)
        if entity is not None and entity is not obj:
            other = state_of(entity)
            identity.discard(other)
    state.key = key
    state.life = _PERSISTENT
    state.owner = identity
    state.committed = None
    state.expired = False
    refs[key] = sj_weak(obj)
    return None


@cython.locals(identity=IdentityMap, state=InstanceState)
def settle_clean(identity: IdentityMap, states: Iterable[InstanceState] | None = None) -> None:
    """Take the current values of changed entities for the database's: of these states, or of all."""
    if states is None:
        for state in identity.dirty:
            state.committed = None
        identity.dirty.clear()
    else:
        for state in states:
            state.committed = None
            identity.dirty.pop(state, None)


@cython.locals(identity=IdentityMap, state=InstanceState, refs=dict, layout=Layout)
def settle_rekeyed(identity: IdentityMap, state: InstanceState, obj: Any) -> None:
    """Move an entity whose primary key was updated to its new place in the map."""
    layout = state.layout
    key = layout.key_of(sj_dict(obj))
    if key is None or key == state.key:
        return
    refs = identity.refs(layout.root)
    if refs.get(state.key) is state.ref:
        del refs[state.key]
    committed = state.committed
    _enter(identity, refs, state, obj, key)
    state.committed = committed


@cython.locals(identity=IdentityMap, state=InstanceState, refs=dict)
def settle_deleted(identity: IdentityMap, states: Iterable[InstanceState]) -> None:
    """Take deleted entities out of the map; they are DELETED until their transaction ends."""
    for state in states:
        refs = identity.maps.get(state.layout.root)
        if refs is not None and refs.get(state.key) is state.ref:
            del refs[state.key]
        state.life = _DELETED
        state.committed = None
        identity.dirty.pop(state, None)
        identity.deleted.pop(state, None)


# -- the driver's loop -------------------------------------------------------------------------------------


@cython.locals(out=list)
def run_each(cursor: Any, text: str, rows: Iterable[Any]) -> list[int]:
    """Execute an INSERT once per row and return each row's `lastrowid`.

    For embedded databases: exact per entity, whatever triggers do, and no round trip to save.
    """
    execute = cursor.execute
    out: list[Any] = []
    for row in rows:
        execute(text, row)
        if cursor.rowcount == 0:  # a trigger's RAISE(IGNORE): `lastrowid` is another row's
            out.append(None)
        else:
            out.append(cursor.lastrowid)
    return out


# -- rows of dictionaries ----------------------------------------------------------------------------------


@cython.locals(
    mapping=dict, names=tuple, processors=tuple, needed=tuple, i=cython.Py_ssize_t, n=cython.Py_ssize_t,
    place=cython.Py_ssize_t, row=list, out=list, kind=cython.int,
)  # fmt: skip
def collect_mappings(
    mappings: Sequence[Any],
    start: int,
    names: tuple[str, ...],
    processors: Processors | None,
    needed: tuple[bool, ...],
    kinds: Any,
) -> list[tuple[Any, ...]]:
    """Return parameter tuples for the dictionaries from *start* on, as long as they have just these *names*.

    It ends early at one that has other keys, that has None where a value is *needed*, or a value that is not
    a plain parameter (see `collect_values`).
    """
    n = len(names)
    out: list[Any] = []
    for place in range(start, len(mappings)):
        given = mappings[place]
        if type(given) is not dict or len(given) != n:
            return out
        mapping = given
        row = []
        for i in range(n):
            value = mapping.get(names[i], _MISSING)
            if value is _MISSING or (value is None and needed[i]):
                return out
            if value is not None and type(value) is not str and type(value) is not int:
                kind = kinds[type(value)]
                if kind and (kind == 1 or processors is None or processors[i] is None):
                    return out
            if processors is not None and processors[i] is not None:
                value = processors[i](value)
            row.append(value)
        out.append(tuple(row))
    return out
