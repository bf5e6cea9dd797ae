"""What a flush will send: `plan_flush` turns changed entities into batches of ready parameters.

Pure as far as entities go: nothing about them changes, so a plan can be printed and thrown away (Python
defaults are called, though). Values pass through their types' bind processors here, which is why a value
that a type refuses is reported before anything is sent, by entity, attribute and type.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from sojourn.errors import ValueRefused
from sojourn.kernel import units
from sojourn.kernel.lean import plan_lean_row
from sojourn.symbols import NOT_LOADED
from sojourn.unitofwork.batches import (
    ARRAYS,
    DELETE,
    INSERT,
    PAGED,
    UPDATE,
    Batch,
    FlushPlan,
    LeanPlan,
    choose_delete,
    choose_insert,
    choose_update,
    fit,
    has_long_values,
)
from sojourn.unitofwork.changes import EXPRESSION, collect_work, find_row_switches, kinds_of
from sojourn.unitofwork.order import order_writers
from sojourn.unitofwork.rowops import CALL, DefaultContext, InsertShape, UpdateShape
from sojourn.unitofwork.techniques import page_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sojourn.kernel.identity import IdentityMap
    from sojourn.kernel.lean import LeanRow
    from sojourn.kernel.state import InstanceState
    from sojourn.unitofwork.changes import Kinds
    from sojourn.unitofwork.rowops import Field, Shape, Writer


def plan_flush(identity: IdentityMap, engine: Any, *, objects: Iterable[Any] | None = None) -> FlushPlan:
    """Return what a flush of *identity* (or of *objects* alone) to *engine* would send."""
    if objects is None:
        sent = plan_lean(identity, engine)
        if sent is not None:
            return LeanPlan(sent)
    return plan_batches(identity, engine, objects)


def plan_batches(identity: IdentityMap, engine: Any, objects: Iterable[Any] | None = None) -> FlushPlan:
    """Return what `plan_flush` returns, for a flush that is known not to be a lean one."""
    work = collect_work(identity, engine, objects)
    kinds = kinds_of(engine)
    batches: list[Batch] = []
    if work.deletes and work.inserts:
        for writer, entity, state, gone in find_row_switches(work):
            _plan_row_switch(batches, kinds, writer, entity, state, gone)
    writers = order_writers([*work.inserts, *work.updates, *work.deletes])
    for writer in writers:
        for bits, entities, states in work.inserts.get(writer, ()):
            if entities:
                plan_insert(batches, kinds, writer, bits, entities, states)
        for names, (entities, states) in work.updates.get(writer, _NOTHING).items():
            plan_update(batches, kinds, writer, names, entities, states)
    if work.deletes:
        for writer in reversed(writers):
            if writer in work.deletes:
                entities, states = work.deletes[writer]
                if entities:
                    plan_delete(batches, writer, entities, states)
    return FlushPlan(batches, work.clean)


_NOTHING: dict[Any, Any] = {}


def plan_lean(identity: IdentityMap, engine: Any) -> LeanRow | None:
    """Plan the most frequent flush the short way: one entity of a shape seen before. None for any other."""
    notes = engine.__dict__
    row: LeanRow | None = plan_lean_row(identity, notes.get("_sojourn_writers"), notes.get("_sojourn_kinds"))
    return row


# -- INSERT --------------------------------------------------------------------------------------


def plan_insert(
    batches: list[Batch],
    kinds: Kinds,
    writer: Writer,
    bits: int,
    entities: list[Any],
    states: list[InstanceState],
    *,
    reply: bool = True,
) -> None:
    """Append the batch (or batches) that insert *entities*, which have values for the same columns."""
    shape = writer.insert(bits)
    if not shape.simple:
        _plan_insert_one_by_one(batches, writer, shape, entities, states)
        return
    writeback: list[tuple[str, list[Any]]] = []
    count = len(entities)
    technique = choose_insert(shape, count, reply=reply)
    batch = Batch(INSERT, writer, shape, entities, states, [], technique, writeback)
    if shape.python_made or shape.version_index >= 0:
        rows = _made_rows(shape, kinds, entities, shape.python_made, writeback, None)
        complete = rows is not None
        if rows is not None:
            batch.rows = rows
            if technique in ARRAYS and not fit(zip(*batch.rows, strict=True), writer.traits.driver):
                batch.technique = choose_insert(shape, count, reply=reply, arrays=False)
    else:
        complete = _collect(batch, kinds, None, shape.names)
        if not complete and batch.technique in ARRAYS:
            batch.technique = choose_insert(shape, count, reply=reply, arrays=False)
            complete = _collect(batch, kinds, None, shape.names)
    if not complete:
        for start, stop, special in _runs(shape, kinds, entities):
            part, part_states = entities[start:stop], states[start:stop]
            if special:
                _check_values(shape, kinds, part)
                _plan_insert_one_by_one(batches, writer, shape, part, part_states)
            else:
                plan_insert(batches, kinds, writer, bits, part, part_states, reply=reply)
        return
    batches.append(batch)


def _collect(batch: Batch, kinds: Kinds, states: Any, names: tuple[str, ...]) -> bool:
    """Collect the parameters of *batch* in the form of its technique; false if a value is not for it."""
    shape = batch.shape
    processors = shape.processors
    technique = batch.technique
    try:
        if technique in ARRAYS and not has_long_values(shape):
            batch.arrays = units.collect_arrays(batch.entities, states, names, processors, kinds)
            if batch.arrays is None or not fit(batch.arrays, batch.writer.traits.driver):
                batch.arrays = None
                return False
            return True
        if technique in PAGED and not has_long_values(shape):
            batch.size = page_of(len(shape.binds), batch.writer.traits)
            batch.params = units.collect_pages(batch.entities, states, names, processors, kinds, batch.size)
            return batch.params is not None
        if states is not None:
            batch.size = 1
            rows = units.collect_pages(batch.entities, states, names, processors, kinds, 1)
        else:
            rows = units.collect_values(batch.entities, names, processors, kinds)
    except Exception as error:  # noqa: BLE001 - whatever a type raises; it is told with its place
        explain_refusal(shape, batch.entities, error)
    if rows is None:
        return False
    batch.rows = rows
    return not (technique in ARRAYS and not fit(zip(*rows, strict=True), batch.writer.traits.driver))


def _made_rows(
    shape: InsertShape | UpdateShape,
    kinds: Kinds,
    entities: list[Any],
    made: Sequence[tuple[int, Field]],
    writeback: list[tuple[str, list[Any]]],
    versions: list[Any] | None,
    *,
    process: bool = True,
) -> list[Any] | None:
    """Return the rows of a shape for which Python makes some of the values; None if one is an expression."""
    count = len(shape.fields)
    processors = tuple(_KEEP if field.bind.processor is not None else None for field in shape.fields)
    raw = units.collect_values(entities, shape.names[:count], processors, kinds if process else None)
    if raw is None:
        return None
    columns: list[Any] = list(zip(*raw, strict=True)) if count else []
    return made_rows(shape, columns, len(raw), made, writeback, versions, process=process)


def _keep(value: Any) -> Any:
    return value


_KEEP = _keep  # stands for a processor that converts later: the value is no reason to refuse the row


def made_rows(
    shape: InsertShape | UpdateShape,
    columns: list[Any],
    count: int,
    made: Sequence[tuple[int, Field]],
    writeback: list[tuple[str, list[Any]]],
    versions: list[Any] | None,
    *,
    process: bool = True,
) -> list[Any]:
    """Return *count* rows: the *columns* the program has values for, and the values that Python makes."""
    fields = shape.fields
    writer = shape.writer
    generator = writer.version_generator
    if shape.version_index >= 0 and generator is not None:
        values = [generator(old) for old in (versions if versions is not None else [None] * count)]
        columns[shape.version_index] = values
        writeback.append((fields[shape.version_index].name, values))
    if made:
        waiting = {index for index, _ in made}
        known = [(f.column.key, columns[n]) for n, f in enumerate(fields) if n not in waiting]
        context = DefaultContext(writer.dialect, isinstance(shape, InsertShape))
        for index, field in made:
            kind, value = (
                (field.make, field.make_value)
                if isinstance(shape, InsertShape)
                else (field.change, field.change_value)
            )
            columns[index] = context.fill(field, value, known, count) if kind == CALL else [value] * count
            known.append((field.column.key, columns[index]))
            if field.name:
                writeback.append((field.name, columns[index]))
    if process:
        for n, field in enumerate(fields):
            processor = field.bind.processor
            if processor is not None:
                try:
                    columns[n] = list(map(processor, columns[n]))
                except Exception as error:  # noqa: BLE001 - whatever a type raises; it is told with its place
                    _explain_column(shape, field, columns[n], error)
    return list(zip(*columns, strict=True)) if columns else [()] * count


def _plan_insert_one_by_one(
    batches: list[Batch], writer: Writer, shape: InsertShape, entities: list[Any], states: list[InstanceState]
) -> None:
    """Append batches of one row each, whose statements Core writes."""
    for entity, state in zip(entities, states, strict=True):
        writeback: list[tuple[str, list[Any]]] = []
        rows = _made_rows(shape, _NO_KINDS, [entity], shape.python_made, writeback, None, process=False) or [
            ()
        ]
        values = {field.column: value for field, value in zip(shape.fields, rows[0], strict=True)}
        values.update(insert_expressions(shape))
        batches.append(Batch(INSERT, writer, shape, [entity], [state], [values], "one by one", writeback))


def insert_expressions(shape: InsertShape) -> dict[Any, Any]:
    """Return the SQL expressions that are defaults, by column, for a statement that Core writes."""
    found = {}
    for field in shape.inline_fields:
        default: Any = field.column.default
        found[field.column] = default.next_value() if default.is_sequence else default.arg
    return found


# -- UPDATE --------------------------------------------------------------------------------------


def plan_update(
    batches: list[Batch],
    kinds: Kinds,
    writer: Writer,
    names: tuple[str, ...],
    entities: list[Any],
    states: list[InstanceState],
    *,
    keys: list[Any] | None = None,
) -> None:
    """Append the batch (or batches) that update the attributes *names* of *entities*."""
    names = tuple(name for name in names if name in writer.by_name)
    if not names:
        return
    shape = writer.update(names)
    names_of_values = shape.names[: len(shape.fields)]
    given_keys = keys
    if keys is None:
        keys = [state.key for state in states]
    versions, missing = _versions(writer, entities, states)
    if shape.simple and not shape.python_made and versions is None and given_keys is None:
        batch = Batch(UPDATE, writer, shape, entities, states, [], choose_update(shape, len(entities)))
        complete = _collect(batch, kinds, states, names_of_values)
        if not complete and batch.technique in ARRAYS:
            batch.technique = choose_update(shape, len(entities), arrays=False)
            complete = _collect(batch, kinds, states, names_of_values)
        if complete:
            batches.append(batch)
            return
    writeback: list[tuple[str, list[Any]]] = []
    values: list[Any] | None = None
    special: list[tuple[int, int, bool]] = []
    if shape.simple:
        values = _made_rows(shape, kinds, entities, shape.python_made, writeback, versions)
        if values is None:
            special = list(_runs(shape, kinds, entities, len(shape.fields)))
    if not shape.simple or (values is None and all(flag for _, _, flag in special)):
        _check_values(shape, kinds, entities)
        _plan_update_one_by_one(batches, writer, shape, entities, states, keys, versions, missing)
        return
    if values is None:
        for start, stop, _ in special:
            some = None if given_keys is None else given_keys[start:stop]
            plan_update(batches, kinds, writer, names, entities[start:stop], states[start:stop], keys=some)
        return
    rows = with_keys(writer, values, keys, versions)
    batch = Batch(
        UPDATE, writer, shape, entities, states, rows, technique_for(choose_update, shape, rows), writeback
    )
    batch.missing_versions = missing
    batches.append(batch)


def technique_for(choose: Callable[..., str], shape: Any, rows: list[tuple[Any, ...]]) -> str:
    """Return what *choose* says of *rows*, which are there already."""
    technique = choose(shape, len(rows))
    if technique in ARRAYS and not fit(zip(*rows, strict=True), shape.writer.traits.driver):
        return choose(shape, len(rows), arrays=False)
    return technique


def with_keys(
    writer: Writer, values: list[Any], keys: list[Any], versions: list[Any] | None
) -> list[tuple[Any, ...]]:
    """Return the rows with their key values, and versions, at the end."""
    if writer.scalar_key:
        processor = writer.keys[0].bind.processor
        parts = [(key,) for key in keys] if processor is None else [(processor(key),) for key in keys]
    else:
        processors = [field.bind.processor for field in writer.keys]
        parts = [
            tuple(p(v) if p is not None else v for p, v in zip(processors, key, strict=True)) for key in keys
        ]
    if versions is not None and writer.version is not None:
        processor = writer.version.bind.processor
        olds = versions if processor is None else [processor(old) for old in versions]
        return [value + part + (old,) for value, part, old in zip(values, parts, olds, strict=True)]
    return [value + part for value, part in zip(values, parts, strict=True)]


def _versions(
    writer: Writer, entities: list[Any], states: list[InstanceState]
) -> tuple[list[Any] | None, list[int]]:
    """Return the version each entity was loaded with, and which rows have to ask for theirs."""
    if writer.version is None:
        return None, []
    name = writer.version.name
    versions = []
    missing = []
    for n, (entity, state) in enumerate(zip(entities, states, strict=True)):
        committed = state.committed
        old = committed.get(name, NOT_LOADED) if committed else NOT_LOADED
        if old is NOT_LOADED:
            old = entity.__dict__.get(name, NOT_LOADED)
        if old is NOT_LOADED:
            missing.append(n)
            old = None
        versions.append(old)
    return versions, missing


def _plan_update_one_by_one(
    batches: list[Batch], writer: Writer, shape: UpdateShape, entities: list[Any],
    states: list[InstanceState], keys: list[Any], versions: list[Any] | None, missing: list[int],
) -> None:  # fmt: skip
    for n, (entity, state) in enumerate(zip(entities, states, strict=True)):
        writeback: list[tuple[str, list[Any]]] = []
        old = None if versions is None else [versions[n]]
        rows = _made_rows(shape, _NO_KINDS, [entity], shape.python_made, writeback, old, process=False) or [
            ()
        ]
        values = {field.column: value for field, value in zip(shape.fields, rows[0], strict=True)}
        key = writer.key_values(keys[n])
        row = (values, key if versions is None else (*key, versions[n]))
        batch = Batch(UPDATE, writer, shape, [entity], [state], [row], "one by one", writeback)
        if n in missing:
            batch.missing_versions = [0]
        batches.append(batch)


def _plan_row_switch(
    batches: list[Batch], kinds: Kinds, writer: Writer, entity: Any, state: InstanceState, gone: InstanceState
) -> None:
    """Append the UPDATE by which a new entity takes over the row of a deleted one."""
    names = tuple(n for n in writer.layout.names if n in entity.__dict__ and n not in writer.key_names)
    before = len(batches)
    if names:
        plan_update(batches, kinds, writer, names, [entity], [state], keys=[gone.key])
    for batch in batches[before:]:
        batch.takes_over = gone
    if len(batches) == before:
        shape = writer.update(writer.key_names)
        rows = with_keys(writer, [writer.key_values(gone.key)], [gone.key], None)
        batch = Batch(UPDATE, writer, shape, [entity], [state], rows, "each")
        batch.takes_over = gone
        batches.append(batch)


# -- DELETE --------------------------------------------------------------------------------------


def plan_delete(
    batches: list[Batch], writer: Writer, entities: list[Any], states: list[InstanceState]
) -> None:
    """Append the batch that deletes the rows of *entities*."""
    shape = writer.delete
    count = len(entities)
    if writer.version is None:
        batch = Batch(DELETE, writer, shape, entities, states, [], choose_delete(shape, count))
        if not _collect(batch, _NO_KINDS, states, ()):
            batch.technique = choose_delete(shape, count, arrays=False)
            _collect(batch, _NO_KINDS, states, ())
    else:
        versions, missing = _versions(writer, entities, states)
        keys = [state.key for state in states]
        rows = with_keys(writer, [()] * count, keys, versions)
        batch = Batch(
            DELETE, writer, shape, entities, states, rows, technique_for(choose_delete, shape, rows)
        )
        batch.missing_versions = missing
    batches.append(batch)


# -- values that are refused, and expressions -------------------------------------------------------

_NO_KINDS: Any = None


def _runs(
    shape: Shape, kinds: Kinds, entities: list[Any], count: int | None = None
) -> Iterable[tuple[int, int, bool]]:
    """Cut *entities* into runs with and without special values (expressions, or what no driver takes)."""
    names = shape.names[:count]
    flags = []
    for entity in entities:
        values = entity.__dict__
        special = False
        for n, name in enumerate(names):
            kind = kinds[type(values.get(name))]
            if kind and (kind == EXPRESSION or shape.binds[n].processor is None):
                special = True
                break
        flags.append(special)
    start = 0
    for n in range(1, len(flags) + 1):
        if n == len(flags) or flags[n] != flags[start]:
            yield start, n, flags[start]
            start = n


def _check_values(shape: Shape, kinds: Kinds, entities: list[Any]) -> None:
    """Raise ValueRefused for a value that is neither an SQL expression nor something a driver takes."""
    for entity in entities:
        values = entity.__dict__
        for field in shape.bound:
            value = values.get(field.name)
            kind = kinds[type(value)]
            if kind and kind != EXPRESSION and field.bind.processor is None:
                raise refuse(shape, field, value, TypeError("no driver takes it as a parameter"))
            if not kind and field.name in values and (error := field.refused(value)) is not None:
                raise refuse(shape, field, value, error) from error


def explain_refusal(shape: Shape, entities: Iterable[Any], error: BaseException) -> NoReturn:
    """Raise ValueRefused that names the entity's attribute; the *error* itself if no attribute is found."""
    for entity in entities:
        values = entity.__dict__
        for field in shape.bound:
            found = field.refused(values.get(field.name))
            if found is not None:
                raise refuse(shape, field, values.get(field.name), found) from error
    raise error


def _explain_column(shape: Shape, field: Field, values: Sequence[Any], error: BaseException) -> NoReturn:
    for value in values:
        found = field.refused(value)
        if found is not None:
            raise refuse(shape, field, value, found) from error
    raise error


def refuse(shape: Shape, field: Field, value: object, cause: BaseException) -> ValueRefused:
    """Return the error for a value that the type of *field* does not take."""
    return ValueRefused(shape.writer.entity, field.name or field.column.name, value, field.column.type, cause)
