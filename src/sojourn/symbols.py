"""The words that floors share: sentinels, small enums, and the Protocols through which floors speak."""

from __future__ import annotations

import enum
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeAlias, TypeVar

T = TypeVar("T")


class Sentinel(enum.Enum):
    """Values that stand for the absence of a value."""

    NOT_LOADED = "NOT_LOADED"  # the value is in the database
    NOT_GIVEN = "NOT_GIVEN"  # the caller gave no argument

    def __repr__(self) -> str:
        return self.value

    def __bool__(self) -> bool:
        return False


NOT_LOADED: Final = Sentinel.NOT_LOADED
NOT_GIVEN: Final = Sentinel.NOT_GIVEN

# Flags of a load, passed down to the row loader.
REFRESH: Final = 1  # overwrite loaded values (populate_existing)

#: A session operation: yields requests, is sent replies, returns its result.
Flow: TypeAlias = Generator[Any, Any, T]


class Loader(Protocol):
    """Loads one missing attribute of a persistent entity; put into the identity map by the session."""

    def __call__(self, entity: Any, state: Any, name: str) -> Any: ...  # Any: any entity, any column value


@dataclass(frozen=True, slots=True)
class Traits:
    """What the unit of work must know of a database and its driver to choose a technique."""

    dialect: str
    driver: str
    mark: str = "?"  # how a bind is written: "?", "%s" or "$n"
    lastrowid_loop: bool = False  # execute each and read lastrowid, in a compiled loop
    returning: bool = False  # INSERT ... RETURNING
    update_returning: bool = False
    delete_returning: bool = False
    max_parameters: int = 32_000  # binds in one statement
    unnest: bool = False  # arrays as parameters: unnest(...) WITH ORDINALITY, = ANY(...)
    values_from: bool = False  # UPDATE ... FROM (VALUES ...)
    executemany_rowcount: bool = True  # executemany reports the exact sum of matched rows
    executemany_batches: bool = True  # executemany is one batch for the driver, not a statement per row
    lastrowid_range: bool = False  # LAST_INSERT_ID of a multi-row INSERT starts a gapless range
    is_async: bool = False
    extra: dict[str, Any] = field(default_factory=dict)  # Any: driver rows may note what they alone need
