# cython: language_level=3, annotation_typing=False, nonecheck=True
"""Make entities and result rows from the rows of a driver: the loop that every loaded row goes through.

For an entity not yet in the identity map: an object without `__init__`, its own key-sharing `__dict__`
filled with the row's values and the shared state, a weak reference in the map. That is raw fetch + 0.3 us
for five columns (`bench` workload e); whatever is added here is paid per row.

An entity that is in the map already keeps its values; only what it lacks is filled in. REFRESH overwrites.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

try:
    import cython
except ImportError:
    from sojourn import _cython as cython

if cython.compiled:
    from cython.cimports.sojourn.kernel._capi import (
        pause_gc,
        resume_gc,
        sj_allocate,
        sj_deref,
        sj_dict,
        sj_fill,
        sj_has_all,
        sj_untrack,
        sj_weak,
    )
    from cython.cimports.sojourn.kernel.identity import IdentityMap
    from cython.cimports.sojourn.kernel.layout import Layout
    from cython.cimports.sojourn.kernel.state import _STATE, InstanceState, SharedState, state_of
else:
    from sojourn.kernel._plain import (
        pause_gc,
        resume_gc,
        sj_allocate,
        sj_deref,
        sj_dict,
        sj_has_all,
        sj_untrack,
        sj_weak,
    )
    from sojourn.kernel.identity import IdentityMap  # noqa: TC001 - a C type when compiled
    from sojourn.kernel.layout import Layout  # noqa: TC001 - the same
    from sojourn.kernel.state import _STATE, InstanceState, SharedState, state_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from weakref import ref

    Processor = Callable[[Any], Any]
    Row = Sequence[Any]


# Beyond so many columns instance dicts share no keys (see state.py), and copying a template is faster.
_SHARED_NAMES = 28


@cython.cclass
class EntitySlot:
    """Say which columns of a row make an entity of one class.

    *positions* are absolute places in the row, one for each of *names*; *key_positions* those of the key.
    *processors*, if any, are one for each of *names*, None where the driver's value is the value.
    """

    if not cython.compiled:
        __slots__ = (
            "cls", "contiguous", "key_at", "key_positions", "key_processor", "key_processors", "layout",
            "names", "positions", "processors", "start", "template", "width",
        )  # fmt: skip

    def __init__(
        self,
        layout: Layout,
        offset: int,
        names: tuple[str, ...],
        key_positions: tuple[int, ...],
        positions: tuple[int, ...],
        processors: tuple[Processor | None, ...] | None = None,
    ) -> None:
        if len(names) != len(positions) or (processors is not None and len(processors) != len(names)):
            msg = f"{len(names)} names, {len(positions)} positions, processors {processors!r}: counts differ"
            raise ValueError(msg)
        places = (*positions, *key_positions)
        if not key_positions or min(places) < 0:
            msg = f"positions {positions} and {key_positions} must not be negative, and there must be a key"
            raise ValueError(msg)
        self.layout = layout
        self.cls = layout.cls
        self.names = tuple([str(name) for name in names])
        self.positions = tuple(positions)
        self.key_positions = tuple(key_positions)
        self.processors = tuple(processors) if processors is not None and any(processors) else None
        self.start = self.positions[0] if self.positions else offset
        self.contiguous = self.positions == tuple(range(self.start, self.start + len(self.positions)))
        self.width = max(places) + 1
        by_position = dict(zip(self.positions, self.processors or (), strict=False))
        self.key_processors = tuple([by_position.get(place) for place in self.key_positions])
        self.key_at = self.key_positions[0] if len(self.key_positions) == 1 else -1
        self.key_processor = self.key_processors[0]
        self.template = None
        if len(layout.names) > _SHARED_NAMES and len(self.names) > _SHARED_NAMES:
            self.template = dict.fromkeys((_STATE, *self.names))

    def __repr__(self) -> str:
        return f"<EntitySlot {self.cls.__name__} {dict(zip(self.names, self.positions, strict=True))}>"

    def key_in(self, row: tuple[Any, ...]) -> Any:
        """Return the identity key in the row; None when all of it is None, as an outer join yields."""
        if self.key_at >= 0:
            key = row[self.key_at]
            if key is None or self.key_processor is None:
                return key
            return self.key_processor(key)
        parts = [
            row[place] if processor is None or row[place] is None else processor(row[place])
            for place, processor in zip(self.key_positions, self.key_processors, strict=True)
        ]
        return None if parts.count(None) == len(parts) else tuple(parts)

    @cython.locals(values=dict)
    def entity(
        self,
        row: tuple[Any, ...],
        refs: dict[Any, ref[Any]],
        identity: IdentityMap,
        shared: SharedState,
        flags: int,
    ) -> Any:
        """Return the entity of one row; the caller has checked that the row is wide enough."""
        key = self.key_in(row)
        if key is None:
            return None
        reference = refs.get(key)
        if reference is not None:
            entity = sj_deref(reference)
            if entity is not None:
                values = sj_dict(entity)
                if flags or not sj_has_all(values, self.names):
                    self.complete(entity, values, row, identity, flags)
                return entity
        entity = sj_allocate(self.cls)
        if self.template is not None:
            values = self.template.copy()
            self.fill(values, row)
            entity.__dict__ = values
        else:
            values = sj_dict(entity)
            self.fill(values, row)
        values[_STATE] = shared
        refs[key] = sj_weak(entity)
        return entity

    @cython.locals(i=cython.Py_ssize_t)
    def fill(self, values: dict[str, Any], row: tuple[Any, ...]) -> Any:
        """Store the row's values."""
        if self.processors is None:
            if not self.contiguous:
                for i in range(len(self.names)):
                    values[self.names[i]] = row[self.positions[i]]
            elif cython.compiled:
                sj_fill(values, self.names, row, self.start)
            else:
                values.update(zip(self.names, row[self.start : self.start + len(self.names)], strict=True))
            return None
        for i in range(len(self.names)):
            value = row[self.start + i] if self.contiguous else row[self.positions[i]]
            processor = self.processors[i]
            values[self.names[i]] = value if processor is None else processor(value)
        return None

    @cython.locals(state=InstanceState, committed=dict, i=cython.Py_ssize_t)
    def complete(
        self, entity: Any, values: dict[str, Any], row: tuple[Any, ...], identity: IdentityMap, flags: int
    ) -> Any:
        """Store what the entity lacks; with REFRESH everything, and forget what was changed."""
        found = values.get(_STATE)
        state = None
        committed = None
        if type(found) is not SharedState:
            state = state_of(entity)
            if flags:
                state.forget(self.names)
            committed = state.committed
            state.expired = False
        for i in range(len(self.names)):
            name = self.names[i]
            if not flags and (name in values or (committed is not None and name in committed)):
                continue
            value = row[self.positions[i]]
            if self.processors is not None:
                processor = self.processors[i]
                if processor is not None:
                    value = processor(value)
            values[name] = value
        return None


@cython.cclass
class ColumnSlot:
    """Say which column of a row is a value of the result."""

    if not cython.compiled:
        __slots__ = ("position", "processor")

    def __init__(self, position: int, processor: Processor | None = None) -> None:
        if position < 0:
            msg = f"position {position} must not be negative"
            raise ValueError(msg)
        self.position = position
        self.processor = processor

    def __repr__(self) -> str:
        return f"<ColumnSlot {self.position}>"


@cython.cclass
class RowLoader:
    """Turn driver rows into the rows of a result: entities, or *make_row* of a tuple of values.

    What *make_row* returns must never change, nor refer to anything younger than itself but the tuple.
    `is_entity` tells that the result is one entity per row and not wrapped in a tuple.
    """

    if not cython.compiled:
        __slots__ = ("as_is", "is_entity", "make_row", "slots")

    def __init__(
        self,
        slots: Iterable[EntitySlot | ColumnSlot],
        make_row: Callable[[tuple[Any, ...]], Any] | None = None,
    ) -> None:
        self.slots = tuple(slots)
        self.make_row = make_row
        self.is_entity = len(self.slots) == 1 and isinstance(self.slots[0], EntitySlot)
        self.as_is = all(
            isinstance(slot, ColumnSlot) and slot.processor is None and slot.position == place
            for place, slot in enumerate(self.slots)
        )

    def __repr__(self) -> str:
        return f"<RowLoader {list(self.slots)}>"

    def load(self, rows: Iterable[Row], identity: IdentityMap, flags: int = 0) -> list[Any]:
        """Return one result per row."""
        return self.run(rows, identity, flags, False)

    def scalars(self, rows: Iterable[Row], identity: IdentityMap, flags: int = 0) -> list[Any]:
        """Return the first element of each result."""
        return self.run(rows, identity, flags, True)

    @cython.locals(paused=cython.bint)
    def run(self, rows: Iterable[Row], identity: IdentityMap, flags: int, scalars: bool) -> list[Any]:
        # On 3.11, and uncompiled, the collector runs inside the loop: half the time of a large load. Pause it
        # around the loop alone; a small result is not worth the switch, and cursors do not tell their size.
        paused = pause_gc()
        try:
            if self.is_entity or (scalars and isinstance(self.slots[0], EntitySlot)):
                return self.entities(rows, self.slots[0], identity, flags)
            if scalars:
                return self.column(rows, self.slots[0])  # type: ignore[arg-type]
            return self.mixed(rows, identity, flags)
        finally:
            resume_gc(paused)

    @cython.locals(row=tuple, refs=dict, shared=SharedState, out=list)
    def entities(self, rows: Iterable[Row], slot: EntitySlot, identity: IdentityMap, flags: int) -> list[Any]:
        """Return one entity per row, or None where its key is None."""
        out = []
        refs = identity.refs(slot.layout.root)
        shared = identity.shared(slot.layout)
        for found in rows:
            row = found if type(found) is tuple else tuple(found)
            if len(row) < slot.width:
                raise _too_narrow(row, slot)
            out.append(slot.entity(row, refs, identity, shared, flags))
        return out

    def column(self, rows: Iterable[Row], slot: ColumnSlot) -> list[Any]:
        place = slot.position
        processor = slot.processor
        if processor is None:
            return [row[place] for row in rows]
        return [processor(row[place]) for row in rows]

    @cython.locals(
        row=tuple, out=list, parts=list, width=cython.Py_ssize_t, entity_slot=EntitySlot,
        column_slot=ColumnSlot,
    )  # fmt: skip
    def mixed(self, rows: Iterable[Row], identity: IdentityMap, flags: int) -> list[Any]:
        """Return one row per row."""
        make_row = self.make_row
        if self.as_is:
            width = len(self.slots)
            out = []
            for found in rows:
                row = found if type(found) is tuple else tuple(found)
                if len(row) != width:
                    row = row[:width]
                out.append(row if make_row is None else _made(make_row, row))
            return out
        maps: list[Any] = [
            (identity.refs(slot.layout.root), identity.shared(slot.layout))
            if isinstance(slot, EntitySlot)
            else None
            for slot in self.slots
        ]
        slots: tuple[Any, ...] = self.slots
        out = []
        for found in rows:
            row = found if type(found) is tuple else tuple(found)
            parts = []
            for n, slot in enumerate(slots):
                if type(slot) is ColumnSlot:
                    column_slot = slot
                    value = row[column_slot.position]
                    parts.append(value if column_slot.processor is None else column_slot.processor(value))
                else:
                    entity_slot = slot
                    if len(row) < entity_slot.width:
                        raise _too_narrow(row, entity_slot)
                    refs, shared = maps[n]
                    parts.append(entity_slot.entity(row, refs, identity, shared, flags))
            row = tuple(parts)
            out.append(row if make_row is None else _made(make_row, row))
        return out


@cython.cfunc
@cython.inline
@cython.locals(row=tuple)
def _made(make_row: Callable[[tuple[Any, ...]], Any], row: tuple[Any, ...]) -> Any:
    made = make_row(row)
    sj_untrack(made, row)
    return made


@cython.cfunc
@cython.locals(slot=EntitySlot)
def _too_narrow(row: tuple[Any, ...], slot: EntitySlot) -> IndexError:
    return IndexError(f"a row of {len(row)} columns where {slot!r} needs {slot.width}")
