"""Errors of statements (SJ6xx): names and parameters that do not fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy.exc as sa

from sojourn.errors.base import SojournError, closest

if TYPE_CHECKING:
    from collections.abc import Iterable


class UnknownAttribute(SojournError, sa.InvalidRequestError):
    """A name used in a statement is no attribute of the mapped class."""

    number = "SJ601"

    def __init__(self, entity: str, attribute: str, known: Iterable[str]) -> None:
        self.entity, self.attribute = entity, attribute
        known = sorted(known)
        super().__init__(
            f"{entity} has no attribute {attribute!r}.{closest(attribute, known)}",
            f"{entity} maps: {', '.join(known)}.",
        )


class BindMissing(SojournError, sa.InvalidRequestError):
    """A named bind parameter of a statement got no value."""

    number = "SJ602"

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"The statement's parameter {name!r} has no value.",
            f"Give it one: session.execute(statement, {{{name!r}: ...}}). Nothing was sent.",
        )


class TooManyParameters(SojournError, sa.InvalidRequestError):
    """A list for IN is longer than the driver's parameters allow, and cannot be written into the text."""

    number = "SJ603"

    def __init__(self, length: int, limit: int) -> None:
        self.length, self.limit = length, limit
        super().__init__(
            f"A list of {length} values is too long for IN: a statement may have {limit} parameters here, "
            "and values of this type cannot be written into the text.",
            "Send it in parts, or put the values into a temporary table and join it. Nothing was sent.",
        )


class ParameterRefused(SojournError, sa.StatementError):
    """The SQL type of a statement's parameter refuses a value; nothing was sent."""

    number = "SJ604"

    def __init__(self, statement: str, value: object, kind: object, cause: BaseException) -> None:
        self.kind, self.cause = kind, cause
        what = f"A parameter of type {kind!r} refuses a value of type {type(value).__name__}: {cause}"
        remedy = (
            "Nothing was sent: give it a value of the column's type, or say sqlalchemy.literal(value, type)."
        )
        self.what, self.remedy = what, remedy
        text = f"{what}\n  {remedy}\n  [{self.number}] sojourn doctor --explain {self.number}"
        sa.StatementError.__init__(self, text, statement, None, cause)
