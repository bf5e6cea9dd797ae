"""Statements that change entities: `insert(User)`, `update(User)`, `delete(User)` run through a session.

They do to rows what their Core twins do, and besides keep the session's entities true: those an UPDATE
matches get the new values (or lose theirs, to be read again), those a DELETE matches leave the session.
`synchronize_session` says how the matching entities are found: "evaluate" in Python, "fetch" by asking the
database for their keys, "auto" (the default) the first where it is safe and the second elsewhere, False not
at all. Rows given as a list of dictionaries go the way of `mappings.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.engine import IteratorResult
from sqlalchemy.sql.dml import Delete, Insert, Update

from sojourn import corelink
from sojourn.errors import NotEvaluable, WrongStatement
from sojourn.flow import Core, Flow, ask
from sojourn.kernel import units
from sojourn.kernel.rows import ColumnSlot, EntitySlot, RowLoader
from sojourn.kernel.state import dict_of, state_of
from sojourn.statements.rowshapes import EntityShape, describe
from sojourn.symbols import REFRESH
from sojourn.unitofwork.evaluate import EXPIRED, Evaluators, matching
from sojourn.unitofwork.mappings import bulk_insert_flow, bulk_save_flow, bulk_update_flow, check_keys
from sojourn.unitofwork.record import FlushRecord
from sojourn.unitofwork.rowops import writer_for

if TYPE_CHECKING:
    from sojourn.kernel.identity import IdentityMap
    from sojourn.mapping.mapper import Mapper
    from sojourn.unitofwork.rowops import Writer

__all__ = [
    "ChangeResult", "bulk_insert_flow", "bulk_save_flow", "bulk_update_flow", "change_flow",
    "is_entity_change",
]  # fmt: skip


class ChangeResult(IteratorResult[Any]):
    """The result of a statement that changes rows: their number, and what RETURNING returned."""

    def __init__(self, keys: Sequence[str], rows: Iterable[Any], rowcount: int, *, returns: bool) -> None:
        super().__init__(corelink.row_metadata(tuple(keys)), iter(rows))
        self.rowcount = rowcount
        self.returns_rows = returns
        if not returns:
            corelink.end_result(self)


def is_entity_change(statement: Any) -> bool:
    """Return whether *statement* is an INSERT, UPDATE or DELETE of a mapped class."""
    return find_changed(statement) is not None


def find_changed(statement: Any) -> Mapper[Any] | None:
    """Return the mapper of the class that *statement* changes, or None."""
    if not isinstance(statement, (Insert, Update, Delete)):
        return None
    found = corelink.notes_on(statement.table).get(corelink.ENTITY)
    mapper: Mapper[Any] | None = getattr(found, "mapper", found)
    return mapper


def change_flow(
    lane: Any,
    identity: IdentityMap,
    statement: Any,
    params: Any,
    options: Mapping[str, Any],
    record: FlushRecord | None = None,
) -> Flow[Any]:
    """Run an INSERT, UPDATE or DELETE of a mapped class and synchronise the session's entities.

    *record* notes what happened to them, so that a rollback can restore it.
    """
    mapper = find_changed(statement)
    if mapper is None:
        raise WrongStatement(statement)
    record = FlushRecord() if record is None else record
    statement = _with_column_keys(statement, mapper)
    if isinstance(statement, Insert):
        return (yield from _insert_flow(lane, identity, mapper, statement, params, options))
    if isinstance(statement, Update) and isinstance(params, Sequence):
        return (yield from _update_rows_flow(lane, identity, mapper, statement, params, record))
    return (yield from _criteria_flow(lane, identity, mapper, statement, params, options, record))


def _with_column_keys(statement: Any, mapper: Mapper[Any]) -> Any:
    """Return *statement* with the attribute names of its values replaced by columns."""
    if isinstance(statement, Delete):
        return statement
    if all(column.key == name for name, column in mapper.column_of.items()):
        return statement
    values, rows = corelink.given_values(statement)

    def renamed(given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        return {
            mapper.column_of.get(key, key) if isinstance(key, str) else key: v for key, v in given.items()
        }

    return corelink.with_given_values(statement, renamed(values), [renamed(row) for row in rows])


# -- INSERT --------------------------------------------------------------------------------------


def _insert_flow(
    lane: Any,
    identity: IdentityMap,
    mapper: Mapper[Any],
    statement: Any,
    params: Any,
    options: Mapping[str, Any],
) -> Flow[Any]:
    returning = corelink.returning(statement)
    values, rows = corelink.given_values(statement)
    if params is not None and not isinstance(params, Mapping):
        params = list(params)
    plain = not returning and not values and not rows and not corelink.has_extensions(statement)
    if plain and params and options.get("dml_strategy") != "raw":
        given = [params] if isinstance(params, Mapping) else params
        yield from bulk_insert_flow(lane, mapper, given, False, bool(options.get("render_nulls", False)))
        return ChangeResult((), (), len(given), returns=False)
    sent = params
    if params:
        writer = writer_for(mapper, lane.engine)
        given = [params] if isinstance(params, Mapping) else params
        for place, row in enumerate(given):
            check_keys(writer, row, place)
        renamed = [{mapper.column_of[name].key: value for name, value in row.items()} for row in given]
        sent = renamed[0] if isinstance(params, Mapping) else renamed
    flags = REFRESH if options.get("populate_existing") else 0
    return (yield from _core_flow(lane, identity, statement, sent, options, flags))


def _core_flow(
    lane: Any, identity: IdentityMap, statement: Any, params: Any, options: Mapping[str, Any], flags: int
) -> Flow[Any]:
    """Run a statement Core's way; make entities of the rows it returns, if it was asked for entities."""
    options = {name: value for name, value in options.items() if name not in _OWN_OPTIONS}
    if not corelink.returning(statement):
        return (yield from ask(Core(lane, statement, params, options)))
    spread, shape = describe(statement)
    if not any(isinstance(part, EntityShape) for part in shape or ()):
        return (yield from ask(Core(lane, statement, params, options)))
    result = yield from ask(Core(lane, spread, params, options))
    found = [tuple(row) for row in result]
    slots: list[Any] = []
    keys: list[str] = []
    at = 0
    for part in shape or ():
        if isinstance(part, EntityShape):
            names = part.names
            places = {name: at + n for n, name in enumerate(names)}
            slots.append(
                EntitySlot(
                    part.mapper.layout, at, names, tuple(places[name] for name in part.mapper.key_names),
                    tuple(places.values()), None,
                )
            )  # fmt: skip
            at += len(names)
        else:
            slots.append(ColumnSlot(at, None))
            at += 1
        keys.append(part.key or f"column_{at}")
    loader = RowLoader(slots, None)
    loaded = loader.load(found, identity, flags)
    if loader.is_entity:
        loaded = [(entity,) for entity in loaded]
    return ChangeResult(keys, loaded, len(loaded), returns=True)


_OWN_OPTIONS = frozenset((
    "synchronize_session", "populate_existing", "render_nulls", "dml_strategy", "autoflush",
    "is_update_using", "is_delete_using", "identity_token",
))  # fmt: skip


# -- UPDATE by rows ------------------------------------------------------------------------------


def _update_rows_flow(
    lane: Any,
    identity: IdentityMap,
    mapper: Mapper[Any],
    statement: Any,
    params: Sequence[Mapping[str, Any]],
    record: FlushRecord,
) -> Flow[Any]:
    """UPDATE by primary key: each row carries its own."""
    values, _ = corelink.given_values(statement)
    if statement.whereclause is not None:
        # Core's executemany: the criteria name the binds.
        return (yield from ask(Core(lane, statement, list(params), {})))
    if values or corelink.returning(statement):
        raise WrongStatement(statement)
    rows = list(params)
    yield from bulk_update_flow(lane, mapper, rows)
    writer = writer_for(mapper, lane.engine)
    lapsed = _made_by_updates(writer)
    for row in rows:
        key = row[mapper.key_names[0]] if writer.scalar_key else tuple(row[name] for name in mapper.key_names)
        entity = identity.find(mapper.layout, key)
        if entity is not None:
            new = {name: value for name, value in row.items() if name not in mapper.key_names}
            _give_values(identity, entity, new, lapsed, record)
    return ChangeResult((), (), len(rows), returns=False)


def _made_by_updates(writer: Writer) -> tuple[str, ...]:
    """Return the attributes that any UPDATE of the class may change by itself."""
    return tuple(
        field.name for field in writer.fields if field.name and (field.change or field is writer.version)
    )


def _give_values(
    identity: IdentityMap, entity: Any, new: Mapping[str, Any], lapsed: Iterable[str], record: FlushRecord
) -> None:
    """Tell a loaded entity what an UPDATE did to its row; changes of its own that wait are left alone."""
    state = state_of(entity)
    own = dict_of(entity)
    waiting = state.committed or {}
    for name in lapsed:
        if name not in new and name not in waiting:
            own.pop(name, None)
    for name, value in new.items():
        if name in waiting:
            continue
        if (
            value is EXPIRED
            or hasattr(value, "__clause_element__")
            or getattr(value, "is_clause_element", False)
        ):
            own.pop(name, None)
        elif name in own:
            own[name] = value
    record.changed.append(state)


# -- UPDATE and DELETE by criteria ---------------------------------------------------------------


def _criteria_flow(
    lane: Any,
    identity: IdentityMap,
    mapper: Mapper[Any],
    statement: Any,
    params: Any,
    options: Mapping[str, Any],
    record: FlushRecord,
) -> Flow[Any]:
    how = options.get("synchronize_session", "auto")
    if how not in ("auto", "evaluate", "fetch", False, None):
        what = f"synchronize_session={how!r}"
        raise WrongStatement(what)
    engine = lane.engine
    traits = engine.traits
    if how in (False, None):
        return (yield from _core_flow(lane, identity, statement, params, options, REFRESH))
    matched: list[Any] = []
    unsure: list[Any] = []
    fetched = how == "fetch" or (how == "auto" and bool(params))
    if not fetched:
        try:
            evaluators = Evaluators(mapper, traits.dialect, strict=how == "auto")
            criteria = [statement.whereclause] if statement.whereclause is not None else []
            test = evaluators.all_of(criteria) if criteria else lambda _: True
            matched, unsure = matching(identity, mapper, test)
        except NotEvaluable:
            if how == "evaluate":
                raise
            fetched = True
    returning = corelink.returning(statement)
    if fetched and _knows_nobody(identity, mapper):
        fetched = False  # nobody to be told
    elif fetched:
        can = traits.update_returning if isinstance(statement, Update) else traits.delete_returning
        if can and not returning:
            asked = statement.returning(*mapper.primary_key)
            result = yield from ask(Core(lane, asked, params, _for_core(options)))
            keys = [tuple(row) for row in result]
            matched = _entities(identity, mapper, keys)
            _synchronize(identity, mapper, statement, engine, matched, [], record)
            return ChangeResult((), (), len(keys), returns=False)
        keys = yield from _matching_keys_flow(lane, mapper, statement, params)
        matched = _entities(identity, mapper, keys)
    result = yield from _core_flow(lane, identity, statement, params, options, REFRESH)
    _synchronize(identity, mapper, statement, engine, matched, unsure, record)
    return result


def _for_core(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in _OWN_OPTIONS}


def _knows_nobody(identity: IdentityMap, mapper: Mapper[Any]) -> bool:
    return not identity.maps.get(mapper.layout.root)


def _matching_keys_flow(
    lane: Any, mapper: Mapper[Any], statement: Any, params: Any
) -> Flow[list[tuple[Any, ...]]]:
    """Ask which rows the criteria match, before they are changed."""
    question = sa.select(*mapper.primary_key)
    if statement.whereclause is not None:
        question = question.where(statement.whereclause)
    result = yield from ask(Core(lane, question, params, {}))
    return [tuple(row) for row in result]


def _entities(identity: IdentityMap, mapper: Mapper[Any], keys: Iterable[tuple[Any, ...]]) -> list[Any]:
    layout = mapper.layout
    found = (identity.find(layout, key[0] if layout.scalar_key else key) for key in keys)
    return [entity for entity in found if entity is not None]


def _synchronize(
    identity: IdentityMap,
    mapper: Mapper[Any],
    statement: Any,
    engine: Any,
    matched: list[Any],
    unsure: list[Any],
    record: FlushRecord,
) -> None:
    """Tell loaded entities what the statement did: *matched* ones surely, *unsure* ones perhaps."""
    if isinstance(statement, Delete):
        states = [state_of(entity) for entity in matched]
        units.settle_deleted(identity, states)
        record.deleted += zip(states, matched, strict=True)
        for entity in unsure:
            identity.expire(state_of(entity), entity, None)
        return
    writer = writer_for(mapper, engine)
    values, _ = corelink.given_values(statement)
    evaluators = Evaluators(mapper)
    makers: dict[str, Any] = {}
    for key, clause in values.items():
        name = key if isinstance(key, str) else _name_of(mapper, key)
        name = name if name in mapper.column_of else _name_by_key(mapper, name)
        if name is None:
            continue
        try:
            makers[name] = evaluators.make(clause)
        except NotEvaluable:
            makers[name] = _expired
    lapsed = _made_by_updates(writer)
    for entity in matched:
        new = {name: make(entity) for name, make in makers.items()}
        _give_values(identity, entity, new, lapsed, record)
    for entity in unsure:
        identity.expire(state_of(entity), entity, None)


def _expired(_: Any) -> Any:
    return EXPIRED


def _name_of(mapper: Mapper[Any], column: Any) -> str | None:
    name = mapper.name_of.get(column)
    return name if name is not None else _name_by_key(mapper, getattr(column, "key", None))


def _name_by_key(mapper: Mapper[Any], key: str | None) -> str | None:
    return next((name for name, column in mapper.column_of.items() if column.key == key), None)
