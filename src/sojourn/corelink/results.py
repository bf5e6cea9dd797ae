"""Private names of Core behind its rows and results."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine.result import IteratorResult, SimpleResultMetaData
from sqlalchemy.engine.row import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def row_metadata(keys: tuple[str, ...]) -> SimpleResultMetaData:
    """Return the metadata that gives `Row`s their names."""
    return SimpleResultMetaData(keys)


def new_row(metadata: SimpleResultMetaData, values: tuple[Any, ...]) -> Row[Any]:
    """Return a Core `Row` over *values*."""
    return Row(metadata, None, metadata._key_to_index, values)


def core_result(keys: tuple[str, ...], rows: list[tuple[Any, ...]]) -> Any:
    """Return Core's own result object over *rows*."""
    return IteratorResult(SimpleResultMetaData(keys), iter(rows))


def row_maker(
    keys: tuple[str, ...], extra: Sequence[Any] | None = None
) -> Callable[[tuple[Any, ...]], Row[Any]]:
    """Return what makes a Core `Row` of a tuple; *extra* holds for each key what else it may be asked by."""
    metadata = SimpleResultMetaData(keys, extra)
    return partial(Row, metadata, None, metadata._key_to_index)


def end_result(result: Any) -> None:
    """Close a result that has no rows to hand out."""
    result._soft_close(hard=True)
