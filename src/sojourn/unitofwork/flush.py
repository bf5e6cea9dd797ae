"""Carry out a flush plan: send each batch, check row counts, settle what came back into the entities.

`plan_flush` decides, `flush_flow` acts. The flow fills a `FlushRecord` as it goes, so that whoever runs it
can restore the entities when a later statement, or the transaction, fails.
"""

from __future__ import annotations

import warnings
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy.exc import SAWarning

from sojourn.errors import KeysUnmatched, StaleData
from sojourn.flow import Flow, InsertEach, Request, ask
from sojourn.kernel import units
from sojourn.kernel.lean import settle_lean_row
from sojourn.kernel.state import dict_of
from sojourn.unitofwork import writing
from sojourn.unitofwork.batches import DELETE, INSERT, Batch, FlushPlan, LeanPlan
from sojourn.unitofwork.planning import plan_batches, plan_flush, plan_lean
from sojourn.unitofwork.record import FlushRecord

if TYPE_CHECKING:
    from sojourn.kernel.identity import IdentityMap
    from sojourn.kernel.lean import LeanRow
    from sojourn.kernel.state import InstanceState

__all__ = [
    "FlushRecord",
    "flush_flow",
    "lean_request",
    "plan_batches",
    "plan_flush",
    "plan_lean",
    "refuse_lean_flow",
    "settle_lean",
]


def flush_flow(
    lane: Any, identity: IdentityMap, plan: FlushPlan, record: FlushRecord | None = None
) -> Flow[None]:
    """Send the batches of *plan* through *lane*, settle the entities, and note in *record* what was done."""
    if record is None:
        record = FlushRecord()
    if plan.lean:
        sent = cast("LeanPlan", plan).sent
        reply = yield from ask(lean_request(lane, sent))
        if not settle_lean(identity, sent, reply, record):
            yield from refuse_lean_flow(lane, sent, reply)
        return
    for batch in plan.batches:
        if batch.slots:
            batch.fill_slots()
        if batch.missing_versions:
            yield from _read_versions_flow(lane, batch)
        if batch.kind == INSERT:
            yield from writing.INSERTS[batch.technique](
                lane, batch, partial(settle_inserted, identity, batch, record)
            )
        elif batch.kind == DELETE:
            yield from _delete_flow(lane, identity, batch, record)
        else:
            yield from _update_flow(lane, identity, batch, record)
        if len(batch.entities) == 1 and batch.kind != DELETE and batch.shape.lean is None:
            writing.make_lean(batch)
    if plan.clean:
        units.settle_clean(identity, plan.clean)


def lean_request(lane: Any, sent: LeanRow) -> Request:
    """Return the one request that sends a lean row."""
    kind, _, statement = sent.lean
    request: Request = kind(lane, statement, (sent.row,) if kind is InsertEach else sent.row)
    return request


def settle_lean(identity: IdentityMap, sent: LeanRow, reply: Any, record: FlushRecord) -> bool:
    """Settle the entity of a lean row; return False when the reply is not that of one row."""
    if not settle_lean_row(identity, sent, reply):
        return False
    (record.inserted if sent.is_insert else record.changed).append(sent.state)
    return True


def refuse_lean_flow(lane: Any, sent: LeanRow, reply: Any) -> Flow[None]:
    """Raise what is wrong with the reply for a lean row: StaleData, or KeysUnmatched for an INSERT."""
    if sent.is_insert:
        count = len(reply)
        what = "the database skipped a row" if count == 1 else f"1 row was sent and {count} came back"
        raise KeysUnmatched(sent.shape.writer.entity, what)
    yield from stale_update_flow(lane, LeanPlan(sent).batches[0], reply)


# -- INSERT --------------------------------------------------------------------------------------


def settle_inserted(
    identity: IdentityMap,
    batch: Batch,
    record: FlushRecord,
    start: int,
    stop: int,
    keys: list[Any] | None,
    rows: list[tuple[Any, ...]] | None,
) -> None:
    """Make the stored entities from *start* to *stop* persistent: keys, generated values, identity map."""
    shape = batch.shape
    writer = batch.writer
    entities, states = batch.entities, batch.states
    if stop - start != len(entities):
        entities, states = entities[start:stop], states[start:stop]
    if keys is not None and (len(keys) != stop - start or None in keys):
        raise KeysUnmatched(writer.entity, "the database skipped a row")
    for name, values in batch.writeback:
        for place, entity in enumerate(entities, start):
            dict_of(entity)[name] = values[place]
    names: tuple[str, ...] = ()
    if rows is not None:
        names = shape.returned_names
    elif keys is not None and not writer.scalar_key:  # one column of several was counted by the database
        names, rows, keys = (shape.made_key.name,), [(key,) for key in keys], None
    units.settle_inserted(identity, writer.layout, entities, states, keys, names, rows)
    lapsed = shape.lapsed if keys is None and rows is not None else shape.lapsed_unreturned
    if batch.technique == "one by one":
        lapsed = (*lapsed, *(name for name in _expressions(batch) if name not in names))
    if lapsed:
        for entity in entities:
            own = dict_of(entity)
            for name in lapsed:
                own.pop(name, None)
    record.inserted += states


def _expressions(batch: Batch) -> tuple[str, ...]:
    """Return the attributes that were given SQL expressions, whose values the database knows."""
    row = batch.rows[0] if isinstance(batch.rows[0], dict) else batch.rows[0][0]
    name_of = batch.writer.mapper.name_of
    return tuple(
        name_of[column]
        for column, value in row.items()
        if column in name_of
        and (hasattr(value, "__clause_element__") or getattr(value, "is_clause_element", False))
    )


# -- UPDATE --------------------------------------------------------------------------------------


def _update_flow(lane: Any, identity: IdentityMap, batch: Batch, record: FlushRecord) -> Flow[None]:
    count, rows = yield from writing.UPDATES[batch.technique](lane, batch)
    if count not in (-1, len(batch)):
        yield from stale_update_flow(lane, batch, count)
    settle_updated(identity, batch, rows, record)


def settle_updated(
    identity: IdentityMap, batch: Batch, rows: list[tuple[Any, ...]] | None, record: FlushRecord
) -> None:
    """Take the values sent for the database's, and forget those the database changed by itself."""
    shape = batch.shape
    writer = batch.writer
    entities, states = batch.entities, batch.states
    for name, values in batch.writeback:
        for entity, value in zip(entities, values, strict=True):
            dict_of(entity)[name] = value
    if rows is not None:
        for entity, row in zip(entities, rows, strict=True):
            own = dict_of(entity)
            for field, value in zip(shape.returned, row, strict=True):
                own[field.name] = value
    lapsed = shape.lapsed
    if batch.technique == "one by one":
        back = {field.name for field in shape.returned} if rows is not None else ()
        lapsed = (*lapsed, *(name for name in _expressions(batch) if name not in back))
    if lapsed:
        for entity in entities:
            own = dict_of(entity)
            for name in lapsed:
                own.pop(name, None)
    if batch.takes_over is not None:
        gone = batch.takes_over
        entity_gone = gone.obj()
        units.settle_deleted(identity, [gone])
        record.deleted.append((gone, entity_gone))
        units.settle_inserted(identity, writer.layout, entities, states)
        record.inserted += states
        return
    units.settle_clean(identity, states)
    record.changed += states
    if shape.moves_keys:
        for entity, state in zip(entities, states, strict=True):
            old = state.key
            units.settle_rekeyed(identity, state, entity)
            if state.key != old:
                record.key_changes.append((state, old))


def stale_update_flow(lane: Any, batch: Batch, count: int) -> Flow[None]:
    """Find out which rows were not there (any more, or in that version) and raise StaleData."""
    gone, changed = yield from _missing_flow(lane, batch)
    raise stale("UPDATE", batch, count, gone, changed)


def _missing_flow(lane: Any, batch: Batch) -> Flow[tuple[list[Any], list[Any]]]:
    """Return the keys of the batch's rows that are gone, and of those that have another version."""
    writer = batch.writer
    states = batch.states if batch.takes_over is None else [batch.takes_over]
    stored = yield from writing.stored_versions_flow(lane, writer, [state.key for state in states])
    gone, changed = [], []
    expected: dict[Any, Any] = {}
    if writer.version is not None:
        for name, values in batch.writeback:
            if name == writer.version.name:
                expected = {state.key: value for state, value in zip(batch.states, values, strict=True)}
    for state in states:
        if state.key not in stored:
            gone.append(state.key)
        elif expected and stored[state.key] != expected[state.key]:
            changed.append(state.key)
    return gone, changed


def stale(verb: str, batch: Batch, count: int, gone: list[Any], changed: list[Any]) -> StaleData:
    """Return the error that names the rows a statement did not find."""
    writer = batch.writer
    parts = []
    if gone:
        parts.append(f"gone: {_keys(writer.entity, gone)}")
    if changed:
        parts.append(f"in another version: {_keys(writer.entity, changed)}")
    number = len(batch)
    what = (
        f"{verb} statement on table '{writer.table.fullname}' expected to {verb.lower()} {number} "
        f"row{'' if number == 1 else 's'} of {writer.entity}; {count} were matched. "
        f"{'; '.join(parts) or 'Which, cannot be told: the database reports another count than its rows'}."
    )
    error = StaleData(
        what.rstrip(),
        "Somebody else changed them. Roll back, load them again, and repeat: session.rollback().",
    )
    error.entity = writer.entity  # type: ignore[attr-defined]
    error.keys = [*gone, *changed]  # type: ignore[attr-defined]
    return error


def _keys(entity: str, keys: list[Any], most: int = 5) -> str:
    shown = ", ".join(f"{entity} {key!r}" for key in keys[:most])
    return f"{shown} and {len(keys) - most} more" if len(keys) > most else shown


def _read_versions_flow(lane: Any, batch: Batch) -> Flow[None]:
    """Read the versions of rows whose entities were expired, so that the statement can check them."""
    writer = batch.writer
    missing = list(batch.missing_versions)
    keys = [batch.states[n].key for n in missing]
    stored = yield from writing.stored_versions_flow(lane, writer, keys)
    processor = writer.version.bind.processor if writer.version is not None else None
    generator = writer.version_generator
    for n, key in zip(missing, keys, strict=True):
        old = stored.get(key)
        if batch.technique == "one by one":
            values, where = batch.rows[n]
            batch.rows[n] = (values, (*where[:-1], old))
        else:
            bound = old if processor is None or old is None else processor(old)
            row = [*batch.rows[n][:-1], bound]
            if generator is not None and batch.kind != DELETE and old is not None:
                new = generator(old)
                row[batch.shape.version_index] = new if processor is None else processor(new)
                for name, values in batch.writeback:
                    if name == writer.version.name:  # type: ignore[union-attr]
                        values[n] = new
            batch.rows[n] = tuple(row)


# -- DELETE --------------------------------------------------------------------------------------


def _delete_flow(lane: Any, identity: IdentityMap, batch: Batch, record: FlushRecord) -> Flow[None]:
    count, _ = yield from writing.DELETES[batch.technique](lane, batch)
    if count not in (-1, len(batch)) and getattr(batch.writer.mapper, "confirm_deleted_rows", True):
        if batch.writer.version is not None:
            stored = yield from writing.stored_versions_flow(
                lane, batch.writer, [s.key for s in batch.states]
            )
            raise stale("DELETE", batch, count, [], [s.key for s in batch.states if s.key in stored])
        warnings.warn(
            f"DELETE statement on table '{batch.writer.table.fullname}' expected to delete {len(batch)} "
            f"row(s) of {batch.writer.entity}; {count} were matched. Somebody else deleted them before. "
            "confirm_deleted_rows=False in __mapper_args__ silences this.",
            SAWarning,
            stacklevel=2,
        )
    settle_deleted(identity, batch.entities, batch.states, record)


def settle_deleted(
    identity: IdentityMap, entities: list[Any], states: list[InstanceState], record: FlushRecord
) -> None:
    """Take deleted entities out of the identity map; they stay DELETED until the transaction ends."""
    units.settle_deleted(identity, states)
    record.deleted += zip(states, entities, strict=True)
