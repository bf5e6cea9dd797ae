"""Turn specs into mappers: first each class by itself, then, before first use, what spans classes.

The first phase is complete when a class statement ends: table, mapper, layout, attributes. The second phase,
`configure_mappers`, freezes the mappers made since; what needs other classes (targets named as text, back
references) belongs there. No phase touches a database.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

import sqlalchemy as sa
from sqlalchemy.types import TypeDecorator, TypeEngine

from sojourn import corelink
from sojourn.errors import (
    ColumnTwice,
    MappedTwice,
    MappingError,
    NoPrimaryKey,
    NotYet,
    ReservedName,
    UnknownColumn,
    UnknownMapperArgument,
)
from sojourn.kernel.layout import Layout
from sojourn.kernel.record import forget
from sojourn.kernel.state import STATE
from sojourn.mapping.columns import RESERVED, ColumnSpec, as_spec, is_loose_column
from sojourn.mapping.mapper import ColumnProperty, Mapper
from sojourn.statements.columns import InstrumentedAttribute

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# What a mapper may be told: "here" is served, "kept" stored for floors above; the rest says what is missing.
_ARGUMENTS: dict[str, str] = {
    "primary_key": "here",
    "version_id_col": "here",
    "version_id_generator": "here",
    "eager_defaults": "here",
    "include_properties": "here",
    "exclude_properties": "here",
    "column_prefix": "here",
    "properties": "here",
    "always_refresh": "kept",
    "batch": "kept",
    "confirm_deleted_rows": "kept",
    "allow_partial_pks": "kept",
    "passive_updates": "kept",
    "passive_deletes": "kept",
    "legacy_is_orphan": "kept",
    "inherits": "inheritance is",
    "inherit_condition": "inheritance is",
    "inherit_foreign_keys": "inheritance is",
    "concrete": "inheritance is",
    "polymorphic_on": "inheritance is",
    "polymorphic_identity": "inheritance is",
    "polymorphic_abstract": "inheritance is",
    "polymorphic_load": "inheritance is",
    "with_polymorphic": "inheritance is",
}

_PENDING: WeakSet[Mapper[Any]] = WeakSet()  # made, and not configured yet
# Not empty while one of the two below may have members: each new session asks, and a WeakSet is slow to tell.
_TO_DO: set[str] = set()
# The attributes whose foreign key gets its type from a table to come.
_UNTYPED: WeakKeyDictionary[Mapper[Any], set[str]] = WeakKeyDictionary()


def build_mapper(
    cls: type[Any],
    registry: Any,  # Any: the registry is a file above this one
    table: sa.FromClause,
    written: Iterable[ColumnSpec],
    arguments: Mapping[str, Any],
    *,
    declarative: bool,
) -> Mapper[Any]:
    """Make the mapper of *cls* on *table* and instrument the class; raise MappingError before touching it."""
    entity = cls.__name__
    check_unmapped(cls)
    _check_arguments(entity, arguments)
    specs = list(written)
    for key, value in dict(arguments.get("properties") or {}).items():
        specs.append(as_spec(value, entity, key))
    mapper: Mapper[Any] = Mapper(cls, registry, table, dict(arguments))
    chosen = _assign(cls, table, specs, arguments)
    by_column = {spec.column: spec.key for spec in chosen}
    for name in RESERVED.intersection(by_column.values()) if declarative else ():
        raise ReservedName(entity, name)
    primary_key = _primary_key(
        entity, table, by_column, arguments.get("primary_key"), declarative=declarative
    )
    version = arguments.get("version_id_col")
    if version is not None:
        version = _find_column(entity, "version_id_col", version, by_column)
    mapper.set_columns([ColumnProperty(spec, mapper) for spec in chosen], primary_key, version)
    mapper.layout = Layout(cls, mapper, tuple(by_column.values()), mapper.key_names)
    _install(mapper)
    _PENDING.add(mapper)
    _TO_DO.add("mappers")
    _bind_typed()
    return mapper


def check_unmapped(cls: type[Any]) -> None:
    """Refuse a class that has a mapper of its own."""
    if (known := vars(cls).get("__mapper__")) is not None:
        raise MappedTwice(cls.__name__, known.local_table)


def configure_mappers() -> None:
    """Finish all mappers made since the last call; cheap to repeat, called by whoever needs them finished."""
    if not _TO_DO:
        return
    if _UNTYPED:
        _bind_typed()
    while _PENDING:
        mappers = list(_PENDING)
        _call_hooks(mappers, "__declare_first__")
        for mapper in mappers:
            _PENDING.discard(mapper)
            _finish(mapper)
        _call_hooks(mappers, "__declare_last__")
    if not _UNTYPED:
        _TO_DO.clear()


def add_attribute(mapper: Mapper[Any], key: str, value: object) -> None:
    """Map one more column of a class that is mapped already; a new Column is added to its Table."""
    entity = mapper.class_.__name__
    if key in mapper.column_of:
        raise ColumnTwice(entity, str(mapper.column_of[key].key), key, key)
    spec = as_spec(value, entity, key)
    column = spec.column
    if is_loose_column(column):
        assert isinstance(column, sa.Column)
        if not isinstance(mapper.local_table, sa.Table):
            raise MappingError(
                f"{entity}.{key} cannot be added: {entity} is not mapped to a Table.",
                "Put the column into the selectable before the class is mapped.",
            )
        if column.name in mapper.local_table.c:
            taken = mapper.name_of.get(mapper.local_table.c[column.name], column.name)
            raise ColumnTwice(entity, column.name, taken, key)
        mapper.local_table.append_column(column)
    elif column in mapper.name_of:
        raise ColumnTwice(entity, str(column.key), mapper.name_of[column], key)
    mapper.set_columns(
        [*mapper.columns, ColumnProperty(spec, mapper)], mapper.primary_key, mapper.version_column
    )
    mapper.grow()
    mapper.layout.set_names(tuple(mapper.column_of), mapper.key_names)
    _instrument(mapper, key)
    mapper.layout.prime()
    forget()  # statements recorded so far select the class without the new column


def unmap(mapper: Mapper[Any]) -> None:
    """Take the mapping off a class; its entities become plain objects."""
    cls = mapper.class_
    own = vars(cls)
    for name in (
        *mapper.column_of,
        "__mapper__",
        "__table__",
        "__sojourn_layout__",
        "__clause_element__",
        STATE,
    ):
        if name in own:
            type.__delattr__(cls, name)
    _PENDING.discard(mapper)


# -- which columns, under which names ------------------------------------------------------------------------


def _check_arguments(entity: str, arguments: Mapping[str, Any]) -> None:
    for key, value in arguments.items():
        meaning = _ARGUMENTS.get(key)
        if meaning is None:
            raise UnknownMapperArgument(entity, key, _ARGUMENTS)
        if meaning not in {"here", "kept"} and value not in (None, False):
            raise NotYet(
                f"{entity}, mapper argument {key!r}",
                meaning,
                "Map each class to its own table, and share columns through a mixin.",
            )


def _assign(
    cls: type, table: sa.FromClause, specs: list[ColumnSpec], arguments: Mapping[str, Any]
) -> list[ColumnSpec]:
    """Choose the attribute of each column of *table*, in the table's order."""
    entity = cls.__name__
    include, exclude = arguments.get("include_properties"), arguments.get("exclude_properties") or ()
    prefix = arguments.get("column_prefix") or ""
    by_column: dict[Any, ColumnSpec] = {}
    by_key: dict[str, ColumnSpec] = {}
    for spec in specs:
        first = by_column.setdefault(spec.column, spec)
        if first is not spec:
            raise ColumnTwice(entity, str(spec.column.key), first.key, spec.key)
        if by_key.setdefault(spec.key, spec) is not spec:
            raise ColumnTwice(entity, str(spec.column.key), spec.key, spec.key)
        if table.c.get(str(spec.column.key)) is not spec.column and spec.column not in set(table.c):
            raise UnknownColumn(entity, f"The attribute {spec.key}", spec.column, table.c.keys())
    chosen = []
    for column in table.c:
        named = by_column.get(column)
        if named is None or named.key == column.key:  # not renamed: mapped as columns of a table are
            if _is_left_out(column, include, exclude) or (named is None and _is_answered(cls, column)):
                continue
            named = replace(named or ColumnSpec(column.key, column), key=prefix + column.key)
            holder = by_key.get(named.key)
            if holder is not None and holder.column is not column:
                continue  # the attribute of that name was given to another column
        chosen.append(named)
    return chosen


def _is_left_out(column: Any, include: Any, exclude: Any) -> bool:
    def among(names: Any) -> bool:
        return any(column.key == n if isinstance(n, str) else column is n for n in names)

    return (include is not None and not among(include)) or among(exclude)


def _is_answered(cls: type, column: Any) -> bool:
    """Return whether the class answers for the name of a column with a property of its own."""
    return isinstance(vars(cls).get(column.key), property)


def _primary_key(
    entity: str, table: sa.FromClause, by_column: dict[Any, str], asked: Any, *, declarative: bool
) -> tuple[sa.ColumnElement[Any], ...]:
    if asked is not None:
        columns = asked if isinstance(asked, list | tuple | set | frozenset) else [asked]
        key = tuple(_find_column(entity, "primary_key", column, by_column) for column in columns)
    else:
        key = tuple(table.primary_key)
        for column in key:
            _find_column(entity, "The primary key", column, by_column)
    if not key:
        raise NoPrimaryKey(entity, getattr(table, "name", "the selectable"), by_column.values(), declarative)
    return key


def _find_column(entity: str, argument: str, wanted: Any, by_column: dict[Any, str]) -> Any:
    """Return the mapped column that a mapper argument names, by attribute or as Column."""
    if isinstance(wanted, str):
        for column, key in by_column.items():
            if wanted in (key, column.key):
                return column
    else:
        column = wanted.__clause_element__() if hasattr(wanted, "__clause_element__") else wanted
        if column in by_column:
            return column
    raise UnknownColumn(entity, argument, wanted, by_column.values())


# -- the class -----------------------------------------------------------------------------------------------


class _ClassClause:
    """Make a mapped class, but not its entities, usable as a selectable: `sqlalchemy.select(User)`."""

    def __get__(self, entity: object, cls: Any) -> Any:
        if entity is not None:
            raise AttributeError("__clause_element__")
        return cls.__mapper__.__clause_element__


def _install(mapper: Mapper[Any]) -> None:
    cls, layout = mapper.class_, mapper.layout
    layout.install()
    for name, value in (
        ("__mapper__", mapper),
        ("__table__", mapper.local_table),
        ("__clause_element__", _ClassClause()),
    ):
        type.__setattr__(cls, name, value)
    for key in mapper.column_of:
        _instrument(mapper, key)
    layout.prime()


def _compares_itself(kind: TypeEngine[Any]) -> bool:
    """Return whether a type has its own idea of equal values."""
    method = type(kind).compare_values
    if method is TypeDecorator.compare_values:
        assert isinstance(kind, TypeDecorator)
        return _compares_itself(kind.impl_instance)
    return method is not TypeEngine.compare_values


def _instrument(mapper: Mapper[Any], key: str) -> None:
    prop, layout = mapper.attrs[key], mapper.layout
    attribute: InstrumentedAttribute[Any] = InstrumentedAttribute(key, layout, prop, mapper)
    attribute.active_history = prop.active_history
    attribute.bind_expression(prop.column)
    attribute.__doc__ = prop.doc
    layout.attributes[key] = attribute
    kind = prop.column.type
    if _compares_itself(kind):
        layout.compares = {**(layout.compares or {}), key: kind.compare_values}
    type.__setattr__(mapper.class_, key, attribute)
    if not corelink.has_type(prop.column):
        _UNTYPED.setdefault(mapper, set()).add(key)
        _TO_DO.add("types")


def _bind_typed() -> None:
    """Show attributes the type that their foreign key has found since they were made."""
    for mapper, keys in list(_UNTYPED.items()):
        for key in list(keys):
            attribute = mapper.layout.attributes[key]
            column = attribute.property.column
            if corelink.has_type(column):
                attribute.bind_expression(column)
                attribute.shape.trans = None  # recorded when the type was not known
                keys.discard(key)
        if not keys:
            del _UNTYPED[mapper]


def _finish(mapper: Mapper[Any]) -> None:
    mapper.configured = True


def _call_hooks(mappers: list[Mapper[Any]], name: str) -> None:
    for mapper in mappers:
        hook = getattr(mapper.class_, name, None)
        if hook is not None:
            hook()
