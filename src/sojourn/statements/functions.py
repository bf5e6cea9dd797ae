"""Combine expressions: `and_`, `or_`, `not_` and `func` are recorded where everything in them is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy

from sojourn import corelink
from sojourn.kernel import record as kernel
from sojourn.kernel.record import Node, Shape, make_node, step
from sojourn.statements.replay import Pattern, element_of, new_binds
from sojourn.statements.shapes import is_core

_combinations = kernel.root("combinations")
_functions = kernel.root("functions")
_BY_CORE = object()


def _combine(op: Any, clauses: tuple[Any, ...]) -> Any:
    for clause in clauses:
        if not isinstance(clause, Node):
            return op(*clauses)
    if not clauses:
        return op()
    shapes = tuple([clause.shape for clause in clauses])
    params: tuple[Any, ...] = ()
    for clause in clauses:
        params += clause.params
    return make_node(step(_combinations, (op, *shapes), op, None, shapes, 0), params)


def _and_(*clauses: Any) -> Any:
    """Say that all of these hold."""
    return _combine(sqlalchemy.and_, clauses)


def _or_(*clauses: Any) -> Any:
    """Say that one of these holds."""
    return _combine(sqlalchemy.or_, clauses)


def _not_(clause: Any) -> Any:
    """Say that it does not hold."""
    return ~clause if isinstance(clause, Node) else sqlalchemy.not_(clause)


def _desc(column: Any) -> Any:
    """Order descending."""
    return column.desc() if isinstance(column, Node) else sqlalchemy.desc(column)


def _asc(column: Any) -> Any:
    """Order ascending."""
    return column.asc() if isinstance(column, Node) else sqlalchemy.asc(column)


class _FunctionName:
    """Stand for a possibly dotted function name; calling it records or builds the function."""

    __slots__ = ("names",)

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names

    def __getattr__(self, name: str) -> _FunctionName:
        if name.startswith("__"):
            raise AttributeError(name)
        return _FunctionName((*self.names, name.removesuffix("_")))

    def __call__(self, *args: Any, **options: Any) -> Any:
        if not options:
            recorded = _record_function(self.names, args)
            if recorded is not None:
                return recorded
        return _core_function(self.names)(*args, **options)

    def __repr__(self) -> str:
        return f"<function {'.'.join(self.names)}>"


def _core_function(names: tuple[str, ...]) -> Any:
    found: Any = sqlalchemy.func
    for name in names:
        found = getattr(found, name)
    return found


def _record_function(names: tuple[str, ...], args: tuple[Any, ...]) -> Node | None:
    """Record a call in which attributes take part; plain calls stay Core's, to serve as column defaults."""
    key: list[Any] = [names]
    pattern: list[Any] = []
    kids: list[Shape] = []
    params: tuple[Any, ...] = ()
    literals: list[Any] = []
    for arg in args:
        if isinstance(arg, Node):
            key.append(arg.shape)
            pattern.append("kid")
            kids.append(arg.shape)
            params += arg.params
        elif arg is None or arg is True or arg is False:
            key.append(arg)
            pattern.append((arg,))
        elif type(arg) in (int, str, float, bytes):
            # the SQL type of these depends on the value: 2**40 is a BIGINT, "ü" is not ASCII
            key.append((type(arg), corelink.type_key(corelink.resolve_type(arg))))
            pattern.append("literal")
            literals.append(arg)
        else:
            return None
    if not kids:
        return None
    whole = tuple(key)
    known = None if _functions.trans is None else _functions.trans.get(whole)
    if known is None:
        function = _core_function(names)
        if literals and not _is_faithful(function, args, literals):
            known = step(_functions, whole, _BY_CORE, None, (), 0)
        else:
            plain = all(entry == "kid" for entry in pattern)
            known = step(
                _functions, whole, function, None if plain else Pattern(pattern), tuple(kids), len(literals)
            )
    if known.op is _BY_CORE:
        return None
    node: Node = make_node(known, (*params, *literals))
    return node


def _is_faithful(function: Any, args: tuple[Any, ...], literals: list[Any]) -> bool:
    """Return whether each literal of a call becomes one bind that holds it."""
    if any(is_core(literal) for literal in literals):
        return False
    elements = [element_of(arg) if isinstance(arg, Node) else arg for arg in args]
    known: set[int] = set()
    for element in elements:
        if hasattr(element, "get_children"):
            new_binds(element, known)
    found = new_binds(function(*elements), known)
    return len(found) == len(literals) and all(
        bind.value is literal for bind, literal in zip(found, literals, strict=True)
    )


class _Functions:
    """Name any SQL function: `func.lower(User.name)`."""

    __slots__ = ()

    def __getattr__(self, name: str) -> _FunctionName:
        if name.startswith("__"):
            raise AttributeError(name)
        return _FunctionName((name.removesuffix("_"),))


if TYPE_CHECKING:
    from sqlalchemy import and_ as and_
    from sqlalchemy import asc as asc
    from sqlalchemy import desc as desc
    from sqlalchemy import func as func
    from sqlalchemy import not_ as not_
    from sqlalchemy import or_ as or_
else:
    and_, or_, not_, desc, asc, func = _and_, _or_, _not_, _desc, _asc, _Functions()
