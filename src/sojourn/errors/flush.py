"""Errors of the flush and of bulk work (SJ4xx): rows that cannot be written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy.exc as sa

from sojourn.errors.base import SojournError, closest

if TYPE_CHECKING:
    from collections.abc import Iterable


class ValueRefused(SojournError, sa.StatementError):
    """A column type refuses a value; nothing was sent."""

    number = "SJ401"

    def __init__(
        self, entity: str, attribute: str, value: object, kind: object, cause: BaseException
    ) -> None:
        self.entity, self.attribute, self.kind, self.cause = entity, attribute, kind, cause
        what = f"{entity}.{attribute} ({kind!r}) refuses a value of type {type(value).__name__}: {cause}"
        remedy = "Nothing was sent and nothing is lost: give it a value of the column's type and flush again."
        self.what, self.remedy = what, remedy
        text = f"{what}\n  {remedy}\n  [{self.number}] sojourn doctor --explain {self.number}"
        sa.StatementError.__init__(self, text, None, None, cause)


class FlushKeyMissing(SojournError, sa.InvalidRequestError):
    """A new entity has no primary key value and the database makes none."""

    number = "SJ402"

    def __init__(self, entity: str, attribute: str) -> None:
        self.entity, self.attribute = entity, attribute
        super().__init__(
            f"A new {entity} has no value for its key {attribute}, and the database makes none.",
            f"Set it: {entity}({attribute}=...), or give the column a default: "
            f"mapped_column(primary_key=True, default=...). Nothing was sent and nothing is lost.",
        )


class StaleData(SojournError):
    """A row that a flush should change was not there any more, or not in the expected version."""

    number = "SJ403"


StaleDataError = StaleData


class BulkKey(SojournError, sa.InvalidRequestError):
    """A row given to a bulk operation has a key that the class does not map."""

    number = "SJ404"

    def __init__(self, entity: str, key: str, row: int, known: Iterable[str]) -> None:
        self.entity, self.key, self.row = entity, key, row
        known = sorted(known)
        super().__init__(
            f"Row {row} has the key {key!r}, which {entity} does not map.{closest(key, known)}",
            f"{entity} maps: {', '.join(known)}. Nothing was sent.",
        )


class KeysUnmatched(SojournError):
    """Keys that came back from an INSERT cannot be matched to their entities."""

    number = "SJ405"

    def __init__(self, entity: str, why: str) -> None:
        self.entity, self.why = entity, why
        super().__init__(
            f"The keys of {entity} rows that were just inserted cannot be matched to their entities: {why}.",
            "A trigger interferes with the rows or their keys. Roll back, and give the entities their keys "
            f"yourself: {entity}(id=...), or mapped_column(primary_key=True, default=...).",
        )


class NotEvaluable(SojournError):
    """A criterion cannot be evaluated in Python."""

    number = "SJ406"

    def __init__(self, thing: object) -> None:
        self.thing = thing
        super().__init__(
            f"{thing} cannot be evaluated in Python.",
            'Let the database tell: execution_options={"synchronize_session": "fetch"}, or "auto".',
        )
