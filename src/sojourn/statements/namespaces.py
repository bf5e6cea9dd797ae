"""Find attributes by name: what `filter_by` may speak of, on classes, tables and aliases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy
from sqlalchemy.exc import AmbiguousColumnError

from sojourn import corelink
from sojourn.errors import UnknownAttribute

if TYPE_CHECKING:
    from collections.abc import Iterable


class Namespace:
    """Be the names of one entity or table."""

    __slots__ = ("holder", "names", "title")

    def __init__(self, title: str, names: dict[str, Any], holder: Any = None) -> None:
        self.title = title
        self.names = names
        self.holder = holder

    def find(self, name: str) -> Any:
        """Return what is called *name*, also a property that is no column, or None."""
        found = self.names.get(name)
        if found is None and self.holder is not None:
            found = getattr(self.holder, name, None)
            if not hasattr(found, "__clause_element__"):
                return None
        return found


def attributes_of(entity: type) -> Namespace:
    """Return the attributes of a mapped class."""
    layout = getattr(entity, "__sojourn_layout__", None)
    names = getattr(layout, "attributes", None) or {}
    return Namespace(entity.__name__, {name: getattr(entity, name) for name in names}, entity)


def namespaces_of(sources: Iterable[Any]) -> list[Namespace]:
    """Return the names of what rows come from: entities by their attributes, others by their columns."""
    spaces: dict[Any, Namespace] = {}
    for source in sources:
        notes = corelink.notes_on(source)
        mapper = notes.get(corelink.ENTITY) or notes.get(corelink.ATTRIBUTE)
        if mapper is not None:
            spaces[mapper.local_table] = attributes_of(mapper.class_)
        elif corelink.is_from_clause(source):
            title = str(getattr(source, "name", source))
            spaces.setdefault(source, Namespace(title, dict(source.c.items())))
        elif getattr(source, "table", None) is not None:
            title = str(getattr(source.table, "name", source.table))
            spaces.setdefault(source.table, Namespace(title, dict(source.table.c.items())))
    return list(spaces.values())


def find_attribute(spaces: list[Namespace], name: str) -> Any:
    """Return what is called *name* in one of these; raise if there is none, or more than one."""
    found = [(space, attribute) for space in spaces if (attribute := space.find(name)) is not None]
    if len(found) == 1:
        return found[0][1]
    if found:
        titles = ", ".join(space.title for space, _ in found)
        msg = (
            f"{name!r} is ambiguous: {titles} have it. Say which: .where({found[0][0].title}.{name} == ...)."
        )
        raise AmbiguousColumnError(msg)
    if not spaces:
        raise UnknownAttribute("The statement", name, ())
    titles = " or ".join(space.title for space in spaces)
    raise UnknownAttribute(titles, name, sorted({known for space in spaces for known in space.names}))


class EntitySelect(sqlalchemy.Select[Any]):
    """Be Core's select where a recording could not go on: `filter_by` still knows attribute names."""

    inherit_cache = True

    def filter_by(self, **values: Any) -> Any:
        """Add equality criteria by attribute name, of whichever entity here has it."""
        spaces = namespaces_of(corelink.sources(self))
        return self.where(*[find_attribute(spaces, name) == value for name, value in values.items()])
