"""Name the operations that are methods, or reflected operators, of what a recording's leaves stand for.

A shape keeps one of these functions, or one of the `operator` module, and a replay calls it.
"""

from __future__ import annotations

from typing import Any


def radd(a: Any, b: Any) -> Any:
    """Add with the operands swapped."""
    return b + a


def rsub(a: Any, b: Any) -> Any:
    """Subtract with the operands swapped."""
    return b - a


def rmul(a: Any, b: Any) -> Any:
    """Multiply with the operands swapped."""
    return b * a


def rtruediv(a: Any, b: Any) -> Any:
    """Divide with the operands swapped."""
    return b / a


def rfloordiv(a: Any, b: Any) -> Any:
    """Divide to an integer with the operands swapped."""
    return b // a


def rmod(a: Any, b: Any) -> Any:
    """Take the remainder with the operands swapped."""
    return b % a


def rand(a: Any, b: Any) -> Any:
    """Conjoin with the operands swapped."""
    return b & a


def ror(a: Any, b: Any) -> Any:
    """Disjoin with the operands swapped."""
    return b | a


def like(a: Any, b: Any) -> Any:
    """Apply `like`."""
    return a.like(b)


def not_like(a: Any, b: Any) -> Any:
    """Apply `not_like`."""
    return a.not_like(b)


def ilike(a: Any, b: Any) -> Any:
    """Apply `ilike`."""
    return a.ilike(b)


def not_ilike(a: Any, b: Any) -> Any:
    """Apply `not_ilike`."""
    return a.not_ilike(b)


def is_(a: Any, b: Any) -> Any:
    """Apply `is_`."""
    return a.is_(b)


def is_not(a: Any, b: Any) -> Any:
    """Apply `is_not`."""
    return a.is_not(b)


def is_distinct_from(a: Any, b: Any) -> Any:
    """Apply `is_distinct_from`."""
    return a.is_distinct_from(b)


def is_not_distinct_from(a: Any, b: Any) -> Any:
    """Apply `is_not_distinct_from`."""
    return a.is_not_distinct_from(b)


def startswith(a: Any, b: Any) -> Any:
    """Apply `startswith`."""
    return a.startswith(b)


def endswith(a: Any, b: Any) -> Any:
    """Apply `endswith`."""
    return a.endswith(b)


def contains(a: Any, b: Any) -> Any:
    """Apply `contains`."""
    return a.contains(b)


def concat(a: Any, b: Any) -> Any:
    """Apply `concat`."""
    return a.concat(b)


def in_(a: Any, b: Any) -> Any:
    """Apply `in_`."""
    return a.in_(b)


def not_in(a: Any, b: Any) -> Any:
    """Apply `not_in`."""
    return a.not_in(b)


def between(a: Any, low: Any, high: Any) -> Any:
    """Apply `between`."""
    return a.between(low, high)


def desc(a: Any) -> Any:
    """Apply `desc`."""
    return a.desc()


def asc(a: Any) -> Any:
    """Apply `asc`."""
    return a.asc()


def nulls_first(a: Any) -> Any:
    """Apply `nulls_first`."""
    return a.nulls_first()


def nulls_last(a: Any) -> Any:
    """Apply `nulls_last`."""
    return a.nulls_last()


def distinct(a: Any) -> Any:
    """Apply `distinct`."""
    return a.distinct()


def label(a: Any, name: str | None) -> Any:
    """Apply `label`."""
    return a.label(name)
