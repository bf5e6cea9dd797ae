"""The statement language: everything `sqlalchemy` offers, with recorded `select`, `and_`, `or_`, `func`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy

from sojourn.statements.builders import delete, insert, select, update
from sojourn.statements.columns import InstrumentedAttribute, QueryableAttribute
from sojourn.statements.functions import and_, asc, desc, func, not_, or_

if TYPE_CHECKING:
    # To a type checker a recorded statement is Core's: the same calls, the same results.
    from sqlalchemy import Delete, Insert, Select, Update
else:
    from sojourn.statements.builders import Delete, Insert, Select, Update

__all__ = [
    "Delete", "Insert", "InstrumentedAttribute", "QueryableAttribute", "Select", "Update",
    "and_", "asc", "delete", "desc", "func", "insert", "not_", "or_", "select", "update",
]  # fmt: skip

# What the engine floor replaces, and what belongs to no statement.
_NOT_OURS = frozenset(
    ("create_engine", "create_async_engine", "engine_from_config", "create_mock_engine", "inspect")
)

CORE_NAMES = tuple(
    sorted(
        name
        for name in vars(sqlalchemy)
        if not name.startswith("_")
        and name not in __all__
        and name not in _NOT_OURS
        and not name.endswith("Pool")
        and name not in ("Any", "annotations")
        and type(getattr(sqlalchemy, name)).__name__ != "module"
    )
)


def __getattr__(name: str) -> Any:
    if name in CORE_NAMES:
        return getattr(sqlalchemy, name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted([*__all__, *CORE_NAMES])
