"""Decide what may be recorded, and record it the first time it is seen.

What is recorded must never give a wrong plan later, when other literals travel through the same shape. So the
first time an operation is seen on a shape, the real Core expression is built and looked at:

- a literal that became one bind of the column's own type, or of a type that follows from the literal's Python
  type alone, is recorded by its Python type;
- a literal whose SQL type Core picks by the *value* (an int beyond 32 bits, a datetime with a time zone, a
  text beyond ASCII, each against a column of another kind) is recorded by that type's key;
- `None`, `True` and `False` are part of the shape;
- everything else is a Core leaf, recorded by Core's own cache key, or no recording at all.

Errors of Core (`column < None`) are raised here, where the expression is written.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import ClauseElement, ColumnClause, ColumnElement
from sqlalchemy.sql.selectable import CompoundSelect, FromClause, Join, Select, TableClause
from sqlalchemy.sql.sqltypes import Indexable
from sqlalchemy.types import Interval, LargeBinary, TypeDecorator, TypeEngine, Uuid

from sojourn import corelink
from sojourn.kernel import record as kernel
from sojourn.kernel.record import DEPENDS_ON_VALUE, Node, Recording, Shape, make_node, step
from sojourn.statements.replay import CORE, LEAF, binds_of, element_of, new_binds

Operation = Callable[..., Any]

# Types whose choice for a literal follows from its Python type, and from the value only as looked at below.
_KNOWN_COERCIONS = frozenset(
    kind.coerce_compared_value for kind in (TypeEngine, TypeDecorator, Uuid, LargeBinary, Interval)
)
# Python types for which Core looks at the value.
_BY_VALUE = (int, str, datetime.datetime, datetime.time)

_core_root = kernel.root("core leaves")
_IDENTITY_BEARING = object()
# What rows may come from without being an object of its own: two tables of one name are one table.
_PLAIN_SOURCES = (TableClause, Join, Select, CompoundSelect, ColumnElement)

_LEAF_AGAIN = "build the Core expression each time"
_RESOLVE_AGAIN = "ask for the literal's SQL type each time"


def attribute_shape(element: Any, meta: Any = None) -> Shape:
    """Make the root shape of a mapped attribute that stands for a Core expression."""
    shape: Shape = kernel.root(LEAF, element, meta)
    return shape


def is_core(value: Any) -> bool:
    """Return whether *value* is, or stands for, a Core element."""
    return isinstance(value, (ClauseElement, Node, Recording)) or hasattr(value, "__clause_element__")


def leaf(value: Any) -> Node | None:
    """Record a Core element by Core's own cache key, or return None where that would not be faithful.

    Not faithful are elements that Core can't cache, and those that hold an alias, subquery or CTE: there the
    identity of the object matters, and it would be lost between two leaves of one statement.
    """
    while not isinstance(value, ClauseElement):
        if isinstance(value, Node):
            return value
        if not hasattr(value, "__clause_element__"):
            return None
        value = value.__clause_element__()
    key = corelink.cache_key(value)
    if key is None or any(bind.callable is not None for bind in key.bindparams):
        return None  # a callable is asked when the statement runs, not when it is written
    known = None if _core_root.trans is None else _core_root.trans.get(key.key)
    if known is None or known.meta is None:
        faithful = not bears_identity(value)
        known = step(_core_root, key.key, CORE, value if faithful else None, (), len(key.bindparams))
        known.meta = tuple(key.bindparams) if faithful else _IDENTITY_BEARING
    if known.meta is _IDENTITY_BEARING:
        return None
    node: Node = make_node(known, tuple([literal_of(bind) for bind in key.bindparams]))
    return node


def literal_of(bind: Any) -> Any:
    """Return the value of a bind parameter, or what stands for one to be given."""
    if bind.required and bind.callable is None:
        return Required(bind.key)
    value = bind.effective_value
    return tuple(value) if bind.expanding and type(value) is list else value


class Required:
    """Stand for the value of a bind parameter that must be given at execution."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __len__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return f"<required {self.name}>"


def bears_identity(element: Any) -> bool:
    """Return whether an alias, subquery, CTE or the like takes part in *element*."""
    part: Any
    for part in visitors.iterate(element):
        if isinstance(part, ColumnClause):
            part = part.table
            if part is None:
                continue
        if isinstance(part, FromClause) and not isinstance(part, _PLAIN_SOURCES):
            return True
    return False


def wrap(built: Any) -> Any:
    """Return the Core expression as a leaf if it can be one."""
    if isinstance(built, ColumnElement):
        node = leaf(built)
        if node is not None:
            return node
    return built


# -- hooks of the recorder -----------------------------------------------------------------------------


def record(node: Node, op: Operation, operand: Any) -> Any:
    """Record a binary operation seen for the first time, or one that depends on the value."""
    shape = node.shape
    if operand is None or operand is True or operand is False:
        return _record_constant(node, op, operand)
    if isinstance(operand, Node):
        built = op(element_of(node), element_of(operand))
        if not isinstance(built, ColumnElement) or _is_custom(node) or _is_custom(operand):
            return wrap(built)
        found = step(shape, (op, operand.shape), op, None, (shape, operand.shape), 0)
        return make_node(found, node.params + operand.params)
    if is_core(operand):
        other = leaf(operand)
        return op(element_of(node), operand) if other is None else op(node, other)
    key: tuple[Any, ...] = (op, type(operand))
    known = None if shape.trans is None else shape.trans.get(key)
    if known is None:
        return _record_literal(node, op, (operand,), key, None)
    if known.op == _RESOLVE_AGAIN:
        return _record_resolved(node, op, (operand,), key, (operand,), None)
    return wrap(op(element_of(node), operand))


def record_unary(node: Node, op: Operation) -> Any:
    """Record a unary operation seen for the first time."""
    built = op(element_of(node))
    if not isinstance(built, ColumnElement):
        return built
    return make_node(step(node.shape, op, op, None, (node.shape,), 0), node.params)


def record_in(node: Node, op: Operation, operand: Any) -> Any:
    """Record membership in a list of plain values of one type, or in a subquery."""
    shape = node.shape
    if isinstance(operand, Recording):
        built = op(element_of(node), operand)
        if not isinstance(built, ColumnElement) or _is_custom(node):
            return wrap(built)
        found = step(shape, (op, operand.shape), op, None, (shape, operand.shape), 0)
        return make_node(found, node.params + operand.params)
    if is_core(operand) or not isinstance(operand, Iterable) or isinstance(operand, (str, bytes, dict)):
        return wrap(op(element_of(node), operand))
    items = tuple(operand)
    kinds = set(map(type, items))
    if len(kinds) > 1 or any(item is None for item in items[:1]) or any(is_core(item) for item in items[:1]):
        return wrap(op(element_of(node), list(items)))
    key: tuple[Any, ...] = (op, kinds.pop() if kinds else None)
    known = None if shape.trans is None else shape.trans.get(key)
    if known is None:
        return _record_literal(node, op, (items,), key, "list")
    if known.op == _RESOLVE_AGAIN:
        return _record_resolved(node, op, (items,), key, items[:1], "list")
    return wrap(op(element_of(node), list(items)))


def record_between(node: Node, op: Operation, low: Any, high: Any) -> Any:
    """Record BETWEEN two plain values."""
    if any(value is None or isinstance(value, bool) or is_core(value) for value in (low, high)):
        return wrap(op(element_of(node), low, high))
    shape = node.shape
    key: tuple[Any, ...] = (op, type(low), type(high))
    known = None if shape.trans is None else shape.trans.get(key)
    if known is None:
        return _record_literal(node, op, (low, high), key, None)
    if known.op == _RESOLVE_AGAIN:
        return _record_resolved(node, op, (low, high), key, (low, high), None)
    return wrap(op(element_of(node), low, high))


def _record_constant(node: Node, op: Operation, constant: Any) -> Any:
    """Record an operation with None, True or False, which decide about the operator."""
    built = op(element_of(node), constant)
    if not isinstance(built, ColumnElement) or _is_custom(node):
        return wrap(built)
    found = step(node.shape, (op, constant), op, (constant,), (node.shape,), 0)
    return make_node(found, node.params)


def _record_literal(
    node: Node, op: Operation, literals: tuple[Any, ...], key: tuple[Any, ...], pattern: str | None
) -> Any:
    """Look at what Core makes of literals of these types, and choose how to record them from now on."""
    core = element_of(node)
    given = [list(value) if pattern else value for value in literals]
    built = op(core, *given)
    if not isinstance(built, ColumnElement):
        return built
    shape = node.shape
    binds = new_binds(built, binds_of(core))
    if not _is_faithful(node, core, binds, given, expanding=pattern is not None):
        step(shape, key, _LEAF_AGAIN, None, (), DEPENDS_ON_VALUE)
        return wrap(built)
    samples = [value[0] if pattern and value else value for value in given]
    if any(
        bind.type is not core.type and isinstance(sample, _BY_VALUE)
        for bind, sample in zip(binds, samples, strict=True)
    ) or any(hasattr(sample, "__sa_type_engine__") for sample in samples):
        step(shape, key, _RESOLVE_AGAIN, None, (), DEPENDS_ON_VALUE)
        return _record_resolved(node, op, literals, key, tuple(samples), pattern)
    found = step(shape, key, op, pattern, (shape,), len(literals))
    return make_node(found, node.params + literals)


def _record_resolved(
    node: Node,
    op: Operation,
    literals: tuple[Any, ...],
    key: tuple[Any, ...],
    samples: tuple[Any, ...],
    pattern: str | None,
) -> Node:
    """Record literals together with the SQL types that Core finds for these values."""
    kinds = tuple([corelink.type_key(corelink.resolve_type(sample)) for sample in samples])
    shape = node.shape
    found = step(shape, (*key, kinds), op, pattern, (shape,), len(literals))
    made: Node = make_node(found, node.params + literals)
    return made


def _is_faithful(node: Node, core: Any, binds: list[Any], given: list[Any], *, expanding: bool) -> bool:
    """Return whether each literal became exactly one bind whose type is predictable."""
    if len(binds) != len(given) or _is_custom_type(core.type):
        return False
    for bind, value in zip(binds, given, strict=True):
        if bind.expanding is not expanding or bind.literal_execute:
            return False
        if bind.value is not value and not (expanding and bind.value == value):
            return False
        if bind.type is not core.type and _is_custom_type(bind.type):
            return False
    return True


def _is_custom(node: Node) -> bool:
    return _is_custom_type(element_of(node).type)


def _is_custom_type(kind: Any) -> bool:
    """Return whether a type may treat operators or literals in ways that only it knows."""
    if type(kind).coerce_compared_value not in _KNOWN_COERCIONS:
        return True
    factory = kind.comparator_factory
    if not getattr(factory, "__module__", "").startswith("sqlalchemy."):
        return True
    inner = kind
    while isinstance(inner, TypeDecorator):
        if "comparator_factory" in vars(type(inner)):
            return True
        inner = inner.impl_instance
    return isinstance(inner, Indexable) or type(inner).coerce_compared_value not in _KNOWN_COERCIONS


kernel.install(record, record_unary, record_in, record_between, leaf, element_of)
