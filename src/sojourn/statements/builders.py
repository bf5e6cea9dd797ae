"""Build statements: `select` is recorded, `insert`, `update` and `delete` are Core's with attribute names.

Each step of a recorded `select` is one dictionary look-up. A step that can't be recorded continues on the
real Core select, so that nothing of Core's interface is missing; entities stay recognisable there by their
annotation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import sqlalchemy
from sqlalchemy.sql import dml

from sojourn import corelink
from sojourn.errors import UnmappedClass
from sojourn.kernel import record as kernel
from sojourn.kernel.attributes import Attribute
from sojourn.kernel.record import Node, Recording, Shape, make_recording, step
from sojourn.statements.namespaces import attributes_of, find_attribute, namespaces_of
from sojourn.statements.replay import SELECT
from sojourn.statements.shapes import leaf

_selects = kernel.root("selects")
# Steps that bring no entity into the statement.
_SAME_SOURCES = frozenset(("where", "order_by", "limit", "offset", "distinct", "group_by", "having"))


class Select(Recording):
    """Be a recorded SELECT; whatever can't be recorded answers with Core's own select."""

    __slots__ = ()

    inherit_cache = True

    def filter(self, *criteria: Any) -> Any:
        """Add criteria; another name of `where`."""
        return self.where(*criteria)

    def filter_by(self, **values: Any) -> Any:
        """Add equality criteria by attribute name, of whichever entity here has it; raise if several have."""
        names = _namespace(self.shape)
        try:
            return self.where(*[names[name] == value for name, value in values.items()])
        except KeyError:
            return self.core().filter_by(**values)

    def filter_by_last(self, **values: Any) -> Any:
        """Add equality criteria by attribute name, of the entity joined last or else the first."""
        entities = _entities(self.shape)
        if not entities:
            return self.core().filter_by(**values)
        names = attributes_of(entities[-1] if _last_join(self.shape) else entities[0])
        return self.where(*[find_attribute([names], name) == value for name, value in values.items()])

    def order_by(self, *clauses: Any) -> Any:
        """Order by expressions."""
        return self.extend("order_by", clauses)

    def group_by(self, *clauses: Any) -> Any:
        """Group by expressions."""
        return self.extend("group_by", clauses)

    def having(self, *criteria: Any) -> Any:
        """Add criteria about groups."""
        return self.extend("having", criteria)

    def limit(self, limit: Any) -> Any:
        """Return at most so many rows."""
        if type(limit) is int:
            # One row is its own shape: as a constant of the text, servers plan it once (PostgreSQL: -10 %).
            return self.extend_constant("limit", 1) if limit == 1 else self.extend_literal("limit", limit)
        return self.core().limit(limit)

    def offset(self, offset: Any) -> Any:
        """Skip so many rows."""
        if type(offset) is int:
            return self.extend_literal("offset", offset)
        return self.core().offset(offset)

    def slice(self, start: Any, stop: Any) -> Any:
        """Return the rows from *start* up to, not including, *stop*."""
        return self.core().slice(start, stop)

    def distinct(self, *expressions: Any) -> Any:
        """Return each row once."""
        if expressions:
            return self.core().distinct(*expressions)
        return self.extend_constant("distinct", None)

    def join(self, target: Any, onclause: Any = None, *, isouter: bool = False, full: bool = False) -> Any:
        """Join a mapped class, by its foreign keys or *onclause*."""
        if isinstance(target, type) and hasattr(target, "__clause_element__"):
            arg = (target, isouter, full)
            if onclause is None:
                return self.extend_constant("join", arg)
            node = onclause if isinstance(onclause, Node) else leaf(onclause)
            if node is not None:
                return self.extend_with("join", arg, node)
        return self.core().join(target, onclause, isouter=isouter, full=full)

    def outerjoin(self, target: Any, onclause: Any = None, *, full: bool = False) -> Any:
        """Join a mapped class by LEFT OUTER JOIN."""
        return self.join(target, onclause, isouter=True, full=full)

    def select_from(self, *sources: Any) -> Any:
        """Name what rows come from."""
        if len(sources) == 1 and isinstance(sources[0], type) and hasattr(sources[0], "__clause_element__"):
            return self.extend_constant("select_from", sources[0])
        return self.core().select_from(*sources)

    def from_statement(self, statement: Any) -> Any:
        """Take the rows from another statement, matched to the entities by column name."""
        if not hasattr(statement, "execution_options"):
            statement = statement.__clause_element__()
        return statement.execution_options(**{corelink.FROM_STATEMENT: self.core()})

    def core(self) -> Any:
        """Return Core's select of the same meaning."""
        return self.__clause_element__()

    def compile(self, *args: Any, **options: Any) -> Any:
        """Compile Core's select of the same meaning."""
        return self.core().compile(*args, **options)

    def __repr__(self) -> str:
        return f"<recorded select {self.shape!r}>"


def _begin(entities: tuple[Any, ...]) -> Any:
    """Record the beginning of a select for the first time, or from expressions, or let Core make it."""
    pattern: list[Any] = []
    kids: list[Shape] = []
    params: tuple[Any, ...] = ()
    for entity in entities:
        if isinstance(entity, type):
            if not hasattr(entity, "__clause_element__"):
                raise UnmappedClass(entity)
            pattern.append(entity)
            continue
        node = entity if isinstance(entity, Node) else leaf(entity)
        if node is None:
            return sqlalchemy.select(*entities)
        pattern.append(None)
        kids.append(node.shape)
        params += node.params
    steady = all(isinstance(entity, (type, Attribute)) for entity in entities)
    shapes = iter(kids)
    key = entities if steady else ("mixed", *[next(shapes) if entry is None else entry for entry in pattern])
    shape = step(_selects, key, SELECT, tuple(pattern), tuple(kids), 0)
    return make_recording(Select, shape, params)


def _namespace(shape: Shape) -> dict[str, Any]:
    """Return the attributes that only one entity of a chain has, by name."""
    while shape.op in _SAME_SOURCES:
        shape = shape.kids[0]
    known: dict[str, Any] | None = shape.meta
    if known is None:
        known, several = {}, set()
        for entity in _entities(shape):
            for name, attribute in attributes_of(entity).names.items():
                if known.setdefault(name, attribute) is not attribute:
                    several.add(name)
        for name in several:
            del known[name]
        shape.meta = known
    return known


def _entities(shape: Shape) -> list[type]:
    """List the mapped classes of a chain, each once: those selected, then those joined."""
    joined: list[type] = []
    while shape.op != SELECT:
        if shape.op == "join":
            joined.append(shape.arg[0])
        elif shape.op == "select_from":
            joined.append(shape.arg)
        shape = shape.kids[0]
    kids = iter(shape.kids)
    selected: list[type] = []
    for entry in shape.arg:
        owner = entry if entry is not None else getattr(next(kids).meta, "class_", None)
        if owner is not None:
            selected.append(owner)
    return list(dict.fromkeys([*selected, *reversed(joined)]))


def _last_join(shape: Shape) -> bool:
    """Return whether a chain joins anything."""
    while shape.op != SELECT:
        if shape.op == "join":
            return True
        shape = shape.kids[0]
    return False


# -- insert, update, delete ----------------------------------------------------------------------------


def column_names(mapper: Any) -> dict[str, str]:
    """Return the column key for each attribute name of a mapper that differs from it."""
    return {
        name: str(column.key)
        for name, column in getattr(mapper, "column_of", {}).items()
        if name != column.key
    }


class _ByAttribute:
    """Translate attribute names to column keys in `values()`."""

    def values(self, *args: Any, **named: Any) -> Any:
        """Give values by attribute name, attribute or column."""
        names = _renamed(self)
        if names:
            args = tuple([_translate(arg, names) for arg in args])
            named = {names.get(name, name): value for name, value in named.items()}
        return super().values(*args, **named)  # type: ignore[misc]


def _renamed(statement: Any) -> dict[str, str]:
    mapper = corelink.notes_on(statement.table).get(corelink.ENTITY)
    return {} if mapper is None else column_names(mapper)


def _translate(values: Any, names: dict[str, str]) -> Any:
    if isinstance(values, Mapping):
        return {names.get(k, k) if isinstance(k, str) else k: v for k, v in values.items()}
    if isinstance(values, list):
        return [_translate(row, names) for row in values]
    return values


class Insert(_ByAttribute, dml.Insert):
    """Be Core's INSERT, with attribute names."""

    inherit_cache = True


class Update(_ByAttribute, dml.Update):
    """Be Core's UPDATE, with attribute names."""

    inherit_cache = True

    def filter(self, *criteria: Any) -> Any:
        """Add criteria; another name of `where`."""
        return self.where(*criteria)

    def filter_by(self, **values: Any) -> Any:
        """Add equality criteria by attribute name."""
        return _filter_by(self, values)


class Delete(dml.Delete):
    """Be Core's DELETE, with attribute names."""

    inherit_cache = True

    def filter(self, *criteria: Any) -> Any:
        """Add criteria; another name of `where`."""
        return self.where(*criteria)

    def filter_by(self, **values: Any) -> Any:
        """Add equality criteria by attribute name."""
        return _filter_by(self, values)


def _filter_by(statement: Any, values: dict[str, Any]) -> Any:
    namespaces = namespaces_of([statement.table])
    return statement.where(*[find_attribute(namespaces, name) == value for name, value in values.items()])


def _target(thing: Any) -> Any:
    if isinstance(thing, type) and not hasattr(thing, "__clause_element__"):
        raise UnmappedClass(thing)
    return thing


def _insert(table: Any) -> Insert:
    """Insert into a mapped class or a table."""
    return Insert(_target(table))


def _update(table: Any) -> Update:
    """Update rows of a mapped class or a table."""
    return Update(_target(table))


def _delete(table: Any) -> Delete:
    """Delete rows of a mapped class or a table."""
    return Delete(_target(table))


if TYPE_CHECKING:
    # To a type checker these are Core's own functions: same arguments, same results.
    from sqlalchemy import delete as delete
    from sqlalchemy import insert as insert
    from sqlalchemy import select as select
    from sqlalchemy import update as update
else:
    kernel.start_with(Select, _selects, _begin)
    select, insert, update, delete = kernel.begin, _insert, _update, _delete
