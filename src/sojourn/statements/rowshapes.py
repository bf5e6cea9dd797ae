"""Say which columns of a result row belong to what: entities and plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.sql.dml import Delete, Insert, Update
from sqlalchemy.sql.selectable import Select

from sojourn import corelink

if TYPE_CHECKING:
    from collections.abc import Sequence


class EntityShape:
    """Say that the next columns of a row make an entity: the mapper, its attributes, its columns."""

    __slots__ = ("columns", "key", "mapper", "names")

    def __init__(
        self, mapper: Any, names: tuple[str, ...], columns: tuple[Any, ...], key: str | None = None
    ) -> None:
        self.mapper = mapper
        self.names = names
        self.columns = columns
        self.key = key or mapper.class_.__name__

    def __repr__(self) -> str:
        return f"<entity {self.key}: {', '.join(self.names)}>"


class ColumnShape:
    """Say that the next column of a row is a value; `key` None: named as Core names it."""

    __slots__ = ("element", "key", "name")

    def __init__(self, key: str | None, element: Any = None) -> None:
        self.key = key
        self.element = element
        self.name = key or corelink.column_name(element)

    def __repr__(self) -> str:
        return f"<column {self.key}>"


RowShape = list[EntityShape | ColumnShape]


def entity_shape(mapper: Any, names: Sequence[str] | None = None) -> EntityShape:
    """Describe the columns of an entity: the given attributes, or all that are not deferred."""
    if names is None:
        key_names = mapper.key_names
        names = [prop.key for prop in mapper.columns if not prop.deferred or prop.key in key_names]
    return EntityShape(mapper, tuple(names), tuple([mapper.column_of[name] for name in names]))


def describe(statement: Any) -> tuple[Any, RowShape | None]:
    """Return the statement to be compiled, entities spread into columns, and the shape of its rows.

    The shape is None where only the result knows its columns: text(), UNION.
    """
    if isinstance(statement, Select):
        asked = corelink.raw_columns(statement)
    elif isinstance(statement, (Insert, Update, Delete)):
        asked = corelink.returning(statement)
    else:
        return statement, None
    columns, shape, spread = _spread(asked)
    if spread:
        if isinstance(statement, Select):
            statement = statement.with_only_columns(*columns, maintain_column_froms=True)
        else:
            statement = corelink.with_returning(statement, columns)
    return statement, shape


def _spread(asked: list[Any]) -> tuple[list[Any], RowShape, bool]:
    """Return columns and shape for what was asked, and whether Core would make other columns of it."""
    columns: list[Any] = []
    shape: RowShape = []
    spread = False
    for element in asked:
        mapper = corelink.notes_on(element).get(corelink.ENTITY)
        if mapper is not None and corelink.is_from_clause(element):
            part = entity_shape(mapper)
            own = list(element.c) if mapper.local_table is None else list(mapper.local_table.c)
            if len(own) != len(part.columns) or any(
                a is not b for a, b in zip(own, part.columns, strict=True)
            ):
                spread = True
            shape.append(part)
            columns.extend(part.columns)
        elif corelink.is_from_clause(element):
            shape.extend(ColumnShape(None, column) for column in element.c)
            columns.extend(element.c)
        else:
            shape.append(ColumnShape(corelink.notes_on(element).get("proxy_key"), element))
            columns.append(element)
    return columns, shape, spread


def row_keys(compiled: Any, shape: RowShape) -> tuple[str, ...]:
    """Name the values of a row: classes and attributes as written, everything else as Core names it."""
    known = corelink.result_columns(compiled)
    keys: list[str] = []
    at = 0
    for part in shape:
        given = str(known[at][0]) if known is not None and at < len(known) else f"column_{at}"
        key = part.key or given
        if key in keys:
            key = given if given not in keys else f"{key}_{at}"
        keys.append(key)
        at += len(part.columns) if isinstance(part, EntityShape) else 1
    return tuple(keys)
