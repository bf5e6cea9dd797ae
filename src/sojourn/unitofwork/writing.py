"""The statements of a batch, sent: one flow per technique, in three tables by kind.

An insert flow tells each statement's reply as soon as it is there: `settle(start, stop, keys, rows)` for the
entities from *start* to *stop*, with the generated keys in their order, or rows of the returned columns in
their order, or neither. An update or delete flow returns (row count, rows). Row counts are exact, or -1 where
the driver cannot tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import sqlalchemy as sa

from sojourn.errors import KeysUnmatched
from sojourn.flow import Core, Execute, ExecuteMany, Flow, InsertEach, Rows, ask
from sojourn.unitofwork import techniques as sql
from sojourn.unitofwork.batches import INSERT, Batch, array_statements, statements
from sojourn.unitofwork.matching import by_content, by_own_keys, order_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from sojourn.plans import StatementPlan
    from sojourn.unitofwork.rowops import InsertShape, UpdateShape, Writer

Settle: TypeAlias = "Callable[[int, int, list[Any] | None, list[tuple[Any, ...]] | None], None]"
Counted: TypeAlias = "tuple[int, list[tuple[Any, ...]] | None]"


# -- INSERT --------------------------------------------------------------------------------------


def _values_plan(shape: InsertShape, count: int, *, returns: bool) -> StatementPlan:
    key = ("values", count, returns)
    plan = shape.texts.find(key)
    if plan is None:
        writer = shape.writer
        text = sql.insert_values(
            writer.quoted, shape.columns, shape.binds, shape.inline,
            shape.returning if returns else "", count, writer.traits,
        )  # fmt: skip
        plan = shape.texts.keep(key, text, shape.row_processors, returns)
    return plan


def make_lean(batch: Batch) -> None:
    """Note on the shape of a one-row *batch* how the next one can be sent the short way, if it can."""
    shape = batch.shape
    technique = batch.technique
    if (
        not shape.simple
        or shape.python_made
        or batch.slots
        or batch.writeback
        or batch.takes_over is not None
    ):
        return
    if batch.kind == INSERT:
        if technique in ("each", "each, lastrowid") and batch.writer.scalar_key:
            kind = Execute if technique == "each" else InsertEach
            shape.lean = (kind, technique, _values_plan(shape, 1, returns=False))
        elif technique == "each, returning":
            shape.lean = (Rows, technique, _values_plan(shape, 1, returns=True))
    elif (
        technique == "each"
        and batch.writer.scalar_key
        and not shape.moves_keys
        and batch.writer.version is None
    ):
        shape.lean = (Execute, technique, _each_plan(shape))


def _ordered_plan(shape: InsertShape, count: int) -> StatementPlan:
    key = ("ordered", count)
    plan = shape.texts.find(key)
    if plan is None:
        writer = shape.writer
        text = sql.insert_ordered(
            writer.quoted, shape.columns, shape.binds, shape.inline, shape.returning, count, writer.traits
        )
        plan = shape.texts.keep(key, text, shape.row_processors, returns=True)
    return plan


def _unnest_plan(shape: InsertShape, *, returns: bool) -> StatementPlan:
    key = ("unnest", returns)
    plan = shape.texts.find(key)
    if plan is None:
        writer = shape.writer
        text = sql.insert_unnest(
            writer.quoted, shape.columns, shape.binds, shape.inline, shape.returning if returns else ""
        )
        plan = shape.texts.keep(key, text, shape.row_processors, returns)
    return plan


def _insert_lastrowid_flow(lane: Any, batch: Batch, settle: Settle) -> Flow[None]:
    plan = _values_plan(batch.shape, 1, returns=False)
    keys = yield from ask(InsertEach(lane, plan, batch.rows))
    settle(0, len(batch.rows), keys, None)


def _insert_each_flow(lane: Any, batch: Batch, settle: Settle) -> Flow[None]:
    plan = _values_plan(batch.shape, 1, returns=False)
    if len(batch.rows) == 1:
        yield from ask(Execute(lane, plan, batch.rows[0]))
    else:
        yield from ask(ExecuteMany(lane, plan, batch.rows))
    settle(0, len(batch.rows), None, None)


def _insert_values_flow(lane: Any, batch: Batch, settle: Settle) -> Flow[None]:
    shape = batch.shape
    for start, stop, params in statements(batch, len(shape.binds)):
        yield from ask(Execute(lane, _values_plan(shape, stop - start, returns=False), params))
        settle(start, stop, None, None)


def _insert_unnest_flow(lane: Any, batch: Batch, settle: Settle) -> Flow[None]:
    plan = _unnest_plan(batch.shape, returns=False)
    for start, stop, params in array_statements(batch, ARRAY_PAGE):
        yield from ask(Execute(lane, plan, params))
        settle(start, stop, None, None)


def _insert_each_returning_flow(lane: Any, batch: Batch, settle: Settle) -> Flow[None]:
    plan = _values_plan(batch.shape, 1, returns=True)
    for place, row in enumerate(batch.rows):
        rows = yield from ask(Rows(lane, plan, row))
        if len(rows) != 1:
            raise KeysUnmatched(batch.writer.entity, f"1 row was sent and {len(rows)} came back")
        settle(place, place + 1, None, rows)


def _insert_values_returning_flow(lane: Any, batch: Batch, settle: Settle) -> Flow[None]:
    shape = batch.shape
    for start, stop, params in statements(batch, len(shape.binds)):
        rows = yield from ask(Rows(lane, _values_plan(shape, stop - start, returns=True), params))
        yield from _match_flow(lane, batch, rows, start, stop, params, settle)


def _insert_ordered_flow(lane: Any, batch: Batch, settle: Settle) -> Flow[None]:
    shape = batch.shape
    for start, stop, params in statements(batch, len(shape.binds)):
        rows = yield from ask(Rows(lane, _ordered_plan(shape, stop - start), params))
        yield from _match_flow(lane, batch, rows, start, stop, params, settle)


def _insert_unnest_returning_flow(lane: Any, batch: Batch, settle: Settle) -> Flow[None]:
    plan = _unnest_plan(batch.shape, returns=True)
    for start, stop, params in array_statements(batch, ARRAY_PAGE):
        rows = yield from ask(Rows(lane, plan, params))
        yield from _match_flow(lane, batch, rows, start, stop, params, settle)


def _insert_range_flow(lane: Any, batch: Batch, settle: Settle) -> Flow[None]:
    """MySQL without RETURNING: a multi-row INSERT takes a gapless range, whose start it tells."""
    shape = batch.shape
    texts = shape.texts
    ask_range = texts.find("range") or texts.keep(
        "range", "SELECT LAST_INSERT_ID(), @@auto_increment_increment", None, returns=True
    )
    for start, stop, params in statements(batch, len(shape.binds)):
        count = yield from ask(Execute(lane, _values_plan(shape, stop - start, returns=False), params))
        if count != stop - start:
            raise KeysUnmatched(batch.writer.entity, f"{stop - start} rows were sent and {count} inserted")
        ((first, step),) = yield from ask(Rows(lane, ask_range, ()))
        settle(start, stop, list(range(first, first + step * count, step)), None)


def _insert_core_flow(lane: Any, batch: Batch, settle: Settle) -> Flow[None]:
    """One row whose statement only Core can write."""
    writer, shape = batch.writer, batch.shape
    statement = sa.insert(writer.table).values(batch.rows[0])
    if shape.returned and writer.traits.returning:
        result = yield from ask(
            Core(lane, statement.returning(*(f.column for f in shape.returned)), None, {})
        )
        settle(0, 1, None, [tuple(row) for row in result])
        return
    result = yield from ask(Core(lane, statement, None, {}))
    if shape.returns_key:
        settle(0, 1, [result.inserted_primary_key[writer.keys.index(shape.made_key)]], None)
    else:
        settle(0, 1, None, None)


#: Rows in one array statement: the arrays have no limit of their own, memory at both ends has.
ARRAY_PAGE = 5000

INSERTS: dict[str, Callable[[Any, Batch, Settle], Flow[None]]] = {
    "each, lastrowid": _insert_lastrowid_flow,
    "each": _insert_each_flow,
    "values": _insert_values_flow,
    "unnest": _insert_unnest_flow,
    "each, returning": _insert_each_returning_flow,
    "values, returning": _insert_values_returning_flow,
    "ordered values": _insert_ordered_flow,
    "unnest, returning": _insert_unnest_returning_flow,
    "range": _insert_range_flow,
    "one by one": _insert_core_flow,
}


def _match_flow(
    lane: Any,
    batch: Batch,
    rows: list[tuple[Any, ...]],
    start: int,
    stop: int,
    params: tuple[Any, ...],
    settle: Settle,
) -> Flow[None]:
    """Settle the rows that came back in the order of the entities they belong to."""
    shape = batch.shape
    writer = batch.writer
    if not shape.returns_key:
        matched = by_own_keys(rows, _own_keys(batch, start, stop), len(writer.keys))
        if matched is None:
            raise KeysUnmatched(writer.entity, "rows came back under other keys than they were given")
        settle(start, stop, None, matched)
        return
    keys = [row[0] for row in rows]
    order = order_of(writer.entity, keys, stop - start, descending=shape.made_key.descending)
    if order is None:
        writer.row_by_row = True  # next time; something chooses keys by itself
        keys = yield from _match_by_content_flow(lane, batch, keys, params)
        by_key = {row[0]: row for row in rows}
        rows = [by_key[key] for key in keys]
    elif order:
        rows = [rows[place] for place in order]
        keys = [keys[place] for place in order]
    if len(shape.returned) == 1:
        settle(start, stop, keys, None)
    else:
        settle(start, stop, None, rows)


def _own_keys(batch: Batch, start: int, stop: int) -> list[tuple[Any, ...]]:
    names = batch.writer.key_names
    made = dict(batch.writeback)
    entities = batch.entities
    return [
        tuple(made[name][n] if name in made else _value_of(entities[n], name) for name in names)
        for n in range(start, stop)
    ]


def _value_of(entity: Any, name: str) -> Any:
    return entity[name] if type(entity) is dict else entity.__dict__[name]


def _match_by_content_flow(
    lane: Any, batch: Batch, keys: list[Any], params: tuple[Any, ...]
) -> Flow[list[Any]]:
    """Read inserted rows back and return their keys in the order in which the rows were sent."""
    writer, shape = batch.writer, batch.shape
    width = len(shape.fields)
    arrays = "unnest" in batch.technique
    sent = list(zip(*params, strict=True)) if arrays else [
        params[place : place + width] for place in range(0, len(params), width)
    ]  # fmt: skip
    columns = [field.column for field in shape.fields]
    key = shape.made_key.column
    result = yield from ask(Core(lane, sa.select(key, *columns).where(key.in_(keys)), None, {}))
    processors = [field.bind.processor for field in shape.fields]
    stored = [
        (row[0], *(v if p is None else p(v) for p, v in zip(processors, row[1:], strict=True)))
        for row in result
    ]
    return by_content(writer.entity, sent, stored)


# -- UPDATE --------------------------------------------------------------------------------------


def _each_plan(shape: UpdateShape) -> StatementPlan:
    plan = shape.texts.find("each")
    if plan is None:
        writer = shape.writer
        keys = [field.quoted for field in shape.key_fields]
        text = sql.update_each(
            writer.quoted, shape.sets, keys, shape.binds, shape.inline, shape.returning, writer.traits
        )
        plan = shape.texts.keep("each", text, shape.row_processors, bool(shape.returning))
    return plan


def _each_flow(lane: Any, batch: Batch) -> Flow[Counted]:
    plan = _each_plan(batch.shape)
    total = 0
    for row in batch.rows:
        total += yield from ask(Execute(lane, plan, row))
    return total, None


def _many_flow(lane: Any, batch: Batch) -> Flow[Counted]:
    count = yield from ask(ExecuteMany(lane, _each_plan(batch.shape), batch.rows))
    return count, None


def _each_returning_flow(lane: Any, batch: Batch) -> Flow[Counted]:
    plan = _each_plan(batch.shape)
    found: list[tuple[Any, ...]] = []
    for row in batch.rows:
        rows = yield from ask(Rows(lane, plan, row))
        found += map(tuple, rows)
        if not rows:
            break
    return len(found), found


def _update_values_flow(lane: Any, batch: Batch) -> Flow[Counted]:
    shape, writer = batch.shape, batch.writer
    keys = [field.quoted for field in shape.key_fields]
    total = 0
    for start, stop, params in statements(batch, len(shape.binds)):
        key = ("from values", stop - start)
        plan = shape.texts.find(key)
        if plan is None:
            text = sql.update_values(
                writer.quoted, shape.sets, keys, shape.binds, shape.inline, stop - start, writer.traits
            )
            plan = shape.texts.keep(key, text, None, returns=False)
        total += yield from ask(Execute(lane, plan, params))
    return total, None


def _update_unnest_flow(lane: Any, batch: Batch) -> Flow[Counted]:
    shape, writer = batch.shape, batch.writer
    plan = shape.texts.find("from unnest")
    if plan is None:
        keys = [field.quoted for field in shape.key_fields]
        text = sql.update_unnest(writer.quoted, shape.sets, keys, shape.binds, shape.inline)
        plan = shape.texts.keep("from unnest", text, None, returns=False)
    total = 0
    for _, _, params in array_statements(batch, ARRAY_PAGE):
        total += yield from ask(Execute(lane, plan, params))
    return total, None


def _update_join_flow(lane: Any, batch: Batch) -> Flow[Counted]:
    shape, writer = batch.shape, batch.writer
    keys = [field.quoted for field in shape.key_fields]
    total = 0
    for start, stop, params in statements(batch, len(shape.binds)):
        key = ("join values", stop - start)
        plan = shape.texts.find(key)
        if plan is None:
            text = sql.update_join(
                writer.quoted, shape.sets, keys, len(shape.binds), shape.inline, stop - start, writer.traits
            )
            plan = shape.texts.keep(key, text, None, returns=False)
        total += yield from ask(Execute(lane, plan, params))
    return total, None


def _update_core_flow(lane: Any, batch: Batch) -> Flow[Counted]:
    """One row whose statement only Core can write."""
    writer = batch.writer
    values, key = batch.rows[0]
    statement = sa.update(writer.table).values(values)
    for field, value in zip(batch.shape.key_fields, key, strict=True):
        statement = statement.where(field.column == value)
    if batch.shape.returned:
        statement = statement.returning(*(field.column for field in batch.shape.returned))
        result = yield from ask(Core(lane, statement, None, {}))
        rows = [tuple(row) for row in result]
        return len(rows), rows
    result = yield from ask(Core(lane, statement, None, {}))
    return result.rowcount, None


UPDATES: dict[str, Callable[[Any, Batch], Flow[Counted]]] = {
    "each": _each_flow,
    "executemany": _many_flow,
    "each, returning": _each_returning_flow,
    "from values": _update_values_flow,
    "from unnest": _update_unnest_flow,
    "join values": _update_join_flow,
    "one by one": _update_core_flow,
}


# -- DELETE --------------------------------------------------------------------------------------


def _delete_in_flow(lane: Any, batch: Batch) -> Flow[Counted]:
    shape, writer = batch.shape, batch.writer
    keys = [field.quoted for field in shape.key_fields]
    total = 0
    for start, stop, params in statements(batch, len(shape.binds)):
        key = ("in", stop - start)
        plan = shape.texts.find(key)
        if plan is None:
            where = sql.where_in(keys, shape.binds, stop - start, writer.traits)
            plan = shape.texts.keep(key, f"DELETE FROM {writer.quoted} WHERE {where}", None, returns=False)
        total += yield from ask(Execute(lane, plan, params))
    return total, None


def _delete_any_flow(lane: Any, batch: Batch) -> Flow[Counted]:
    shape, writer = batch.shape, batch.writer
    plan = shape.texts.find("any")
    if plan is None:
        where = sql.where_any([field.quoted for field in shape.key_fields], shape.binds)
        plan = shape.texts.keep("any", f"DELETE FROM {writer.quoted} WHERE {where}", None, returns=False)
    total = 0
    for _, _, params in array_statements(batch, ARRAY_PAGE):
        total += yield from ask(Execute(lane, plan, params))
    return total, None


DELETES: dict[str, Callable[[Any, Batch], Flow[Counted]]] = {"in": _delete_in_flow, "any": _delete_any_flow}


# -- what is stored ------------------------------------------------------------------------------


def stored_versions_flow(lane: Any, writer: Writer, keys: list[Any]) -> Flow[dict[Any, Any]]:
    """Return the identity keys among *keys* whose rows exist, with their versions (None without one)."""
    columns = [field.column for field in writer.keys]
    version = [writer.version.column] if writer.version is not None else []
    found: dict[Any, Any] = {}
    for start in range(0, len(keys), _ASK_AT_ONCE):
        some = keys[start : start + _ASK_AT_ONCE]
        where = columns[0].in_(some) if writer.scalar_key else sa.tuple_(*columns).in_(some)
        result = yield from ask(Core(lane, sa.select(*columns, *version).where(where), None, {}))
        for row in result:
            key = row[0] if writer.scalar_key else tuple(row[: len(columns)])
            found[key] = row[-1] if version else None
    return found


_ASK_AT_ONCE = 500
__all__ = ["DELETES", "INSERTS", "UPDATES", "Counted", "Settle", "make_lean", "stored_versions_flow"]
