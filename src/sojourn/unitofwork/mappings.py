"""Rows given as dictionaries: inserted and updated without entities, as fast as tuples.

Every row is checked and converted before the first statement: an unknown key is reported with its row
number, a refused value with its attribute. Rows with the same keys that follow one another share a statement.
None for a column with a default means "no value", unless nulls are to be written (`render_nulls`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from sojourn.errors import BulkKey, FlushKeyMissing
from sojourn.kernel import units
from sojourn.kernel.state import dict_of, state_of
from sojourn.unitofwork import writing
from sojourn.unitofwork.batches import ARRAYS, INSERT, UPDATE, Batch, choose_insert, choose_update, fit
from sojourn.unitofwork.changes import EXPRESSION, kinds_of
from sojourn.unitofwork.flush import stale_update_flow
from sojourn.unitofwork.planning import (
    insert_expressions,
    made_rows,
    plan_insert,
    plan_update,
    refuse,
    technique_for,
    with_keys,
)
from sojourn.unitofwork.rowops import writer_for

if TYPE_CHECKING:
    from sojourn.flow import Flow
    from sojourn.mapping.mapper import Mapper
    from sojourn.unitofwork.changes import Kinds
    from sojourn.unitofwork.rowops import Field, InsertShape, Shape, Writer


class Keyed:
    """Stands for the state of an entity that is not loaded: its key is all that is known."""

    __slots__ = ("key",)

    def __init__(self, key: Any) -> None:
        self.key = key


class KeyedRows(Sequence[Keyed]):
    """What batches without entities have instead of states; each is made when somebody asks."""

    __slots__ = ("keys",)

    def __init__(self, keys: Sequence[Any]) -> None:
        self.keys = keys

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, place: Any) -> Any:
        return Keyed(self.keys[place])

    def __iter__(self) -> Iterator[Keyed]:
        return map(Keyed, self.keys)


# -- INSERT --------------------------------------------------------------------------------------


def bulk_insert_flow(
    lane: Any,
    mapper: Mapper[Any],
    mappings: Sequence[Mapping[str, Any]],
    return_defaults: bool = False,
    render_nulls: bool = False,
) -> Flow[int]:
    """Insert a row per dictionary and return their number; *return_defaults* writes made keys into them."""
    writer = writer_for(mapper, lane.engine)
    batches = plan_insert_mappings(
        writer, kinds_of(lane.engine), mappings, reply=return_defaults, render_nulls=render_nulls
    )
    for batch in batches:
        settle = partial(tell_mappings, batch) if return_defaults else nothing_to_settle
        yield from writing.INSERTS[batch.technique](lane, batch, settle)
    return len(mappings)


def nothing_to_settle(*_: Any) -> None:
    """Take a reply that nobody waits for."""


def tell_mappings(
    batch: Batch, start: int, stop: int, keys: list[Any] | None, rows: list[tuple[Any, ...]] | None
) -> None:
    """Write what was made for the rows from *start* to *stop* into their dictionaries."""
    mappings = [given if isinstance(given, dict) else dict_of(given) for given in batch.entities[start:stop]]
    for name, values in batch.writeback:
        for place, given in enumerate(mappings, start):
            given[name] = values[place]
    if keys is not None:
        name = batch.shape.made_key.name
        for given, key in zip(mappings, keys, strict=True):
            given[name] = key
    elif rows is not None:
        for given, row in zip(mappings, rows, strict=True):
            given.update(zip(batch.shape.returned_names, row, strict=True))


def plan_insert_mappings(
    writer: Writer, kinds: Kinds, mappings: Sequence[Mapping[str, Any]], *, reply: bool, render_nulls: bool
) -> list[Batch]:
    """Return the batches that insert *mappings*; raise BulkKey, ValueRefused or FlushKeyMissing."""
    batches: list[Batch] = []
    rows: Sequence[Any] = mappings if isinstance(mappings, list) else list(mappings)
    nothing = set() if render_nulls else {n for n in writer.optional if not writer.by_name[n].none_counts}
    start = 0
    while start < len(rows):
        first = rows[start]
        check_keys(writer, first, start)
        if type(first) is not dict or any(first[name] is None for name in nothing.intersection(first)):
            rows = rows if rows is not mappings else list(mappings)
            rows[start] = {  # type: ignore[index]
                name: value for name, value in first.items() if value is not None or name not in nothing
            }
            first = rows[start]
        shape = writer.insert_only(frozenset(first))
        taken = _take(writer, shape, kinds, rows, start, nothing, reply=reply) if shape.simple else None
        if taken is None:
            _check_row(writer, shape, kinds, first)
            batches.append(_one_by_one(writer, shape, mappings[start], first))
            start += 1
        else:
            taken.entities = list(mappings[start : start + len(taken.rows)])
            batches.append(taken)
            start += len(taken.rows)
    return batches


def _take(
    writer: Writer,
    shape: InsertShape,
    kinds: Kinds,
    rows: Sequence[Any],
    start: int,
    nothing: set[str],
    *,
    reply: bool,
) -> Batch | None:
    """Return the batch of the rows from *start* on with the keys of the first; None if that is special."""
    first = rows[start]
    given = [field for field in shape.fields if field.name in first]
    names = tuple(field.name for field in given)
    whole = len(given) == len(shape.fields) and shape.version_index < 0
    processors = tuple(field.bind.processor for field in given)
    if not whole:
        processors = tuple(_same if processor is not None else None for processor in processors)
    needed = tuple(name in nothing for name in names)
    try:
        found = units.collect_mappings(
            rows, start, names, processors if any(processors) else None, needed, kinds
        )
    except Exception as error:
        for row in rows[start:]:
            for field in given:
                if field.name in row and (refusal := field.refused(row[field.name])) is not None:
                    raise refuse(shape, field, row[field.name], refusal) from error
        raise
    if not found:
        return None
    writeback: list[tuple[str, list[Any]]] = []
    if not whole:
        columns: list[Any] = [None] * len(shape.fields)
        places = {field: place for place, field in enumerate(shape.fields)}
        for field, values in zip(given, zip(*found, strict=True), strict=True):
            columns[places[field]] = values
        found = made_rows(shape, columns, len(found), shape.python_made, writeback, None)
    technique = choose_insert(shape, len(found), reply=reply)
    if technique in ARRAYS and not fit(zip(*found, strict=True), writer.traits.driver):
        technique = choose_insert(shape, len(found), reply=reply, arrays=False)
    return Batch(INSERT, writer, shape, [], [], found, technique, writeback)


def _same(value: Any) -> Any:
    return value


def _one_by_one(writer: Writer, shape: InsertShape, given: Any, row: Mapping[str, Any]) -> Batch:
    values = {field.column: row[field.name] for field in shape.fields if field.name in row}
    values.update(insert_expressions(shape))
    # Defaults made by Python are left to Core here: it compiles, so it fills.
    return Batch(INSERT, writer, shape, [given], [], [values], "one by one")


def check_keys(writer: Writer, row: Mapping[str, Any], place: int) -> None:
    """Raise BulkKey if *row* has a key that is no column attribute."""
    for name in row:
        if name not in writer.by_name:
            raise BulkKey(writer.entity, str(name), place + 1, writer.by_name)


def _check_row(writer: Writer, shape: Shape, kinds: Kinds, row: Mapping[str, Any]) -> None:
    for name, value in row.items():
        field: Field = writer.by_name[name]
        kind = kinds[type(value)]
        if kind == EXPRESSION:
            continue
        if kind and field.bind.processor is None:
            raise refuse(shape, field, value, TypeError("no driver takes it as a parameter"))
        if (refusal := field.refused(value)) is not None:
            raise refuse(shape, field, value, refusal)


# -- UPDATE --------------------------------------------------------------------------------------


def bulk_update_flow(lane: Any, mapper: Mapper[Any], mappings: Sequence[Mapping[str, Any]]) -> Flow[int]:
    """Update a row per dictionary, found by the key in it; raise StaleData for one that is not there."""
    writer = writer_for(mapper, lane.engine)
    for batch in plan_update_mappings(writer, kinds_of(lane.engine), mappings):
        count, _ = yield from writing.UPDATES[batch.technique](lane, batch)
        if count not in (-1, len(batch)):
            yield from stale_update_flow(lane, batch, count)
    return len(mappings)


def plan_update_mappings(writer: Writer, kinds: Kinds, mappings: Sequence[Mapping[str, Any]]) -> list[Batch]:
    """Return the batches that update *mappings*; raise BulkKey, ValueRefused or FlushKeyMissing."""
    groups: list[tuple[tuple[str, ...], list[Mapping[str, Any]]]] = []
    last: Any = None
    for place, row in enumerate(mappings):
        names = tuple(row)
        if names != last:
            check_keys(writer, row, place)
            for name in writer.key_names:
                if row.get(name) is None:
                    raise FlushKeyMissing(writer.entity, name)
            last = names
            groups.append((names, []))
        groups[-1][1].append(row)
    batches: list[Batch] = []
    for names, rows in groups:
        _plan_update_group(batches, writer, kinds, names, rows)
    return batches


def _plan_update_group(
    batches: list[Batch], writer: Writer, kinds: Kinds, names: tuple[str, ...], rows: list[Mapping[str, Any]]
) -> None:
    version = writer.version.name if writer.version is not None else None
    changed = tuple(
        n for n in names if n not in writer.key_names and (n != version or not writer.version_generator)
    )
    if not changed:
        return
    shape = writer.update(changed)
    keys: list[Any] = [
        row[writer.key_names[0]] if writer.scalar_key else tuple(row[n] for n in writer.key_names)
        for row in rows
    ]
    versions = None if version is None else [row.get(version) for row in rows]
    given = [field for field in shape.fields if field.name in changed]
    expressions = not shape.simple or any(
        kinds[type(row[name])] == EXPRESSION for row in rows for name in changed
    )
    for row in rows:
        for field in given:
            kind = kinds[type(row[field.name])]
            if kind and kind != EXPRESSION and field.bind.processor is None:
                raise refuse(shape, field, row[field.name], TypeError("no driver takes it as a parameter"))
    writeback: list[tuple[str, list[Any]]] = []
    columns: list[Any] = [None] * len(shape.fields)
    for place, field in enumerate(shape.fields):
        if field in given:
            columns[place] = [row[field.name] for row in rows]
    values = made_rows(
        shape, columns, len(rows), shape.python_made, writeback, versions, process=not expressions
    )
    states: Any = KeyedRows(keys)
    if expressions:
        for n, row in enumerate(rows):
            pairs = {field.column: value for field, value in zip(shape.fields, values[n], strict=True)}
            where = writer.key_values(keys[n])
            where = where if versions is None else (*where, versions[n])
            state: Any = KeyedRows([keys[n]])
            batch = Batch(UPDATE, writer, shape, [row], state, [(pairs, where)], "one by one")
            batches.append(batch)
        return
    bound = with_keys(writer, values, keys, versions)
    technique = technique_for(choose_update, shape, bound)
    batches.append(Batch(UPDATE, writer, shape, list(rows), states, bound, technique, writeback))


# -- entities ------------------------------------------------------------------------------------


def bulk_save_flow(
    lane: Any, objects: Sequence[Any], return_defaults: bool = False, update_changed_only: bool = True
) -> Flow[None]:
    """Insert entities without a row and update those with one, outside the session: their states stay."""
    engine = lane.engine
    kinds = kinds_of(engine)
    batches: list[Batch] = []
    new: dict[Any, Any] = {}
    changed: dict[Any, Any] = {}
    for entity in objects:
        state = state_of(entity)
        (new if state.key is None else changed)[state] = entity

    def optional(layout: Any) -> tuple[tuple[str, ...], tuple[bool, ...]]:
        writer = writer_for(layout.mapper, engine)
        return writer.optional, writer.optional_none

    for layout, runs in units.group_inserts(new, optional).items():
        writer = writer_for(layout.mapper, engine)
        for bits, entities, states in runs:
            plan_insert(batches, kinds, writer, bits, entities, states, reply=return_defaults)
    if update_changed_only:
        for (layout, names), (entities, states) in units.collect_changes(changed).items():
            plan_update(batches, kinds, writer_for(layout.mapper, engine), names, entities, states)
    else:
        for state, entity in changed.items():
            writer = writer_for(state.layout.mapper, engine)
            values = dict_of(entity)
            names = tuple(n for n in writer.layout.names if n in values and n not in writer.key_names)
            plan_update(batches, kinds, writer, names, [entity], [state])
    for batch in batches:
        if batch.kind == INSERT:
            settle = partial(tell_mappings, batch) if return_defaults else nothing_to_settle
            yield from writing.INSERTS[batch.technique](lane, batch, settle)
        else:
            count, _ = yield from writing.UPDATES[batch.technique](lane, batch)
            if count not in (-1, len(batch)):
                yield from stale_update_flow(lane, batch, count)
