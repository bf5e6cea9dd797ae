"""Criteria of an UPDATE or DELETE, evaluated in Python against loaded entities.

Only what Python and every database agree on is evaluated; anything else raises `NotEvaluable`, and
`synchronize_session="auto"` then asks the database which rows match. Strict mode, which "auto" uses, also
refuses comparisons whose outcome depends on a collation: text by size anywhere, text by equality on MySQL
and MariaDB ("bob" = "Bob" there).

SQL's three values are kept: an unknown comparison gives None. A value that is not loaded gives EXPIRED.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Column
from sqlalchemy.sql import elements, operators, sqltypes

from sojourn.errors import NotEvaluable
from sojourn.kernel.state import STATE, dict_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sojourn.mapping.mapper import Mapper

Evaluator = Callable[[Any], Any]


class _Expired:
    def __repr__(self) -> str:
        return "EXPIRED"


EXPIRED: Final = _Expired()

_COMPARISONS: Final[dict[Any, Callable[[Any, Any], Any]]] = {
    operators.eq: operator.eq,
    operators.ne: operator.ne,
    operators.lt: operator.lt,
    operators.le: operator.le,
    operators.gt: operator.gt,
    operators.ge: operator.ge,
}
_BY_SIZE: Final = (operators.lt, operators.le, operators.gt, operators.ge)
_ARITHMETIC: Final[dict[Any, Callable[[Any, Any], Any]]] = {
    operators.add: operator.add,
    operators.sub: operator.sub,
    operators.mul: operator.mul,
}


class Evaluators:
    """Makes evaluators for the attributes of one mapper."""

    def __init__(self, mapper: Mapper[Any], dialect: str = "", *, strict: bool = False) -> None:
        self.mapper = mapper
        self.strict = strict
        self.caseless = strict and dialect in ("mysql", "mariadb")

    def all_of(self, criteria: Iterable[Any]) -> Evaluator:
        """Return what tells whether an entity meets all *criteria*; raise NotEvaluable."""
        parts = [self.make(criterion) for criterion in criteria]
        if len(parts) == 1:
            return parts[0]
        return lambda entity: _and(part(entity) for part in parts)

    def make(self, clause: Any) -> Evaluator:
        """Return what computes *clause* for an entity; raise NotEvaluable."""
        if isinstance(clause, elements.Grouping):
            return self.make(clause.element)
        if isinstance(clause, elements.BindParameter):
            return self._bind(clause)
        if isinstance(clause, Column):
            return self._column(clause)
        if isinstance(clause, (elements.Null, elements.True_, elements.False_)):
            constant = {elements.Null: None, elements.True_: True, elements.False_: False}[
                next(
                    kind
                    for kind in (elements.Null, elements.True_, elements.False_)
                    if isinstance(clause, kind)
                )
            ]
            return lambda _: constant
        if isinstance(clause, elements.BooleanClauseList):
            return self._junction(clause)
        if isinstance(clause, elements.UnaryExpression) and clause.operator is operators.inv:
            inner = self.make(clause.element)
            return lambda entity: _not(inner(entity))
        if isinstance(clause, elements.AsBoolean):
            inner = self.make(clause.element)
            if clause.operator is operators.is_false:
                return lambda entity: _not(inner(entity))
            return inner
        if isinstance(clause, elements.BinaryExpression):
            return self._binary(clause)
        raise NotEvaluable(clause)

    def _bind(self, clause: Any) -> Evaluator:
        if clause.callable is not None:
            make = clause.callable
            return lambda _: make()
        if clause.required:
            raise NotEvaluable(clause)
        value = clause.value
        return lambda _: value

    def _column(self, clause: Any) -> Evaluator:
        name = self.mapper.name_of.get(clause)
        if name is None:
            plain = (
                getattr(self.mapper.local_table, "c", {}).get(clause.key)
                if clause.table is not None
                else None
            )
            if plain is not None and clause.table.name == getattr(self.mapper.local_table, "name", None):
                name = self.mapper.name_of.get(plain)
        if name is None:
            raise NotEvaluable(clause)
        found: str = name
        return lambda entity: dict_of(entity).get(found, EXPIRED)

    def _junction(self, clause: Any) -> Evaluator:
        parts = [self.make(part) for part in clause.clauses]
        if clause.operator is operators.and_:
            return lambda entity: _and(part(entity) for part in parts)
        if clause.operator is operators.or_:
            return lambda entity: _or(part(entity) for part in parts)
        raise NotEvaluable(clause)

    def _binary(self, clause: Any) -> Evaluator:
        kind = clause.operator
        if kind in (operators.in_op, operators.not_in_op):
            return self._membership(clause, negated=kind is operators.not_in_op)
        self._check_text(clause, by_size=kind in _BY_SIZE)
        left, right = self.make(clause.left), self.make(clause.right)
        if kind in (operators.is_, operators.is_not):
            return self._identity(left, right, negated=kind is operators.is_not)
        compute = _COMPARISONS.get(kind)
        if compute is None:
            compute = _ARITHMETIC.get(kind)
            if compute is None or isinstance(clause.type, sqltypes.String):
                raise NotEvaluable(clause)
        function = compute

        def evaluate(entity: Any) -> Any:
            one, other = left(entity), right(entity)
            if one is EXPIRED or other is EXPIRED:
                return EXPIRED
            if one is None or other is None:
                return None
            return function(one, other)

        return evaluate

    def _identity(self, left: Evaluator, right: Evaluator, *, negated: bool) -> Evaluator:
        def evaluate(entity: Any) -> Any:
            one, other = left(entity), right(entity)
            if one is EXPIRED or other is EXPIRED:
                return EXPIRED
            same = one is other if one is None or other is None else one == other
            return same is not negated

        return evaluate

    def _membership(self, clause: Any, *, negated: bool) -> Evaluator:
        self._check_text(clause, by_size=False)
        left = self.make(clause.left)
        right = clause.right
        if isinstance(right, elements.Grouping):
            right = right.element
        if isinstance(right, elements.BindParameter) and isinstance(
            right.value, (list, tuple, set, frozenset)
        ):
            values = list(right.value)
        else:
            raise NotEvaluable(clause)

        def evaluate(entity: Any) -> Any:
            value = left(entity)
            if value is EXPIRED:
                return EXPIRED
            if not values:
                return negated
            if value is None:
                return None
            if value in values:
                return not negated
            return None if None in values else negated

        return evaluate

    def _check_text(self, clause: Any, *, by_size: bool) -> None:
        text = any(
            isinstance(side.type, sqltypes.String) and not isinstance(side.type, sqltypes.Enum)
            for side in (clause.left, clause.right)
            if isinstance(side, elements.ColumnElement)
        )
        if text and ((by_size and self.strict) or self.caseless):
            raise NotEvaluable(clause)


def _and(values: Iterable[Any]) -> Any:
    unknown: Any = True
    for value in values:
        if value is EXPIRED:
            unknown = EXPIRED
        elif value is None:
            unknown = None if unknown is not EXPIRED else EXPIRED
        elif not value:
            return False
    return unknown


def _or(values: Iterable[Any]) -> Any:
    unknown: Any = False
    for value in values:
        if value is EXPIRED:
            unknown = EXPIRED
        elif value is None:
            unknown = None if unknown is not EXPIRED else EXPIRED
        elif value:
            return True
    return unknown


def _not(value: Any) -> Any:
    return value if value is None or value is EXPIRED else not value


def matching(
    entities: Iterable[Any], mapper: Mapper[Any], criterion: Evaluator
) -> tuple[list[Any], list[Any]]:
    """Return the entities of *mapper* that meet *criterion*, and those of which that cannot be told."""
    sure, unsure = [], []
    for entity in entities:
        if not isinstance(entity, mapper.class_) or STATE not in dict_of(entity):
            continue
        found = criterion(entity)
        if found is EXPIRED:
            unsure.append(entity)
        elif found:
            sure.append(entity)
    return sure, unsure
