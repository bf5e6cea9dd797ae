"""What a statement is about: mapper and tables, by which a session with several engines chooses one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.sql import visitors
from sqlalchemy.sql.selectable import TableClause

from sojourn import corelink

if TYPE_CHECKING:
    from sojourn.mapping.mapper import Mapper


def find_mapper(statement: Any) -> Mapper[Any] | None:
    """Return the mapper of the first mapped class or attribute a statement selects or changes, or None."""
    if hasattr(statement, "get_execution_options"):
        asked = statement.get_execution_options().get(corelink.FROM_STATEMENT)
        if asked is not None:  # the rows come from another statement
            return find_mapper(asked)
    while hasattr(statement, "selects"):
        statement = statement.selects[0]
    table = getattr(statement, "table", None)
    parts = [table] if table is not None else corelink.raw_columns(statement)
    for part in parts:
        notes = corelink.notes_on(part)
        mapper = notes.get(corelink.ENTITY) or notes.get(corelink.ATTRIBUTE)
        if mapper is not None:
            return mapper  # type: ignore[no-any-return]
    return None


def find_tables(statement: Any) -> list[Any]:
    """Return the tables a statement names anywhere."""
    found = [each for each in visitors.iterate(statement) if isinstance(each, TableClause)]
    table = getattr(statement, "table", None)
    return [*([table] if table is not None else []), *found]
