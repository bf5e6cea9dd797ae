"""Which reply belongs to which entity: the rules by which generated values find their way back.

- Own keys: the key comes back with the row, and the entity is found by it.
- Keys made by counting: the rows are inserted in order, so sorted keys are in the order of the entities.
  Databases do not promise the order in which RETURNING rows arrive, so it is not relied upon; but if it
  disagrees with the sorted order, something else chose the keys (a trigger), and sorting proves nothing.
- Then the rows are read back, and matched by the values that were sent. Rows with equal values may stand
  for one another. If that fails too, KeysUnmatched is raised rather than a guess made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sojourn.errors import KeysUnmatched

if TYPE_CHECKING:
    from collections.abc import Sequence


def order_of(entity: str, keys: list[Any], expected: int, *, descending: bool) -> list[int] | None:
    """Return the order in which the rows were counted: places in *keys*, none at all for "as they are".

    None means doubt: the order in which they came is not that of their keys, and the keys have gaps.
    """
    if len(keys) != expected:
        raise KeysUnmatched(entity, f"{expected} rows were sent and {len(keys)} came back")
    ordered = sorted(keys, reverse=descending)
    if len(set(keys)) != expected:
        raise KeysUnmatched(entity, "a key came back twice")
    if ordered == keys:
        return []
    step = abs(ordered[1] - ordered[0]) if isinstance(ordered[0], int) else 0
    if step and abs(ordered[-1] - ordered[0]) == step * (expected - 1):  # a gapless range arrived in disorder
        return sorted(range(expected), key=keys.__getitem__, reverse=descending)
    return None


def by_own_keys(
    rows: Sequence[tuple[Any, ...]], keys: Sequence[tuple[Any, ...]], width: int
) -> list[tuple[Any, ...]] | None:
    """Return *rows*, whose first *width* columns are the key, in the order of *keys*; None if one misses."""
    found = {tuple(row[:width]): row for row in rows}
    try:
        return [found[key] for key in keys]
    except (KeyError, TypeError):
        return None


def by_content(entity: str, sent: Sequence[tuple[Any, ...]], stored: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Return the keys of *stored* rows (key first, then the columns sent) in the order of *sent*."""
    waiting: dict[tuple[Any, ...], list[Any]] = {}
    for key, *values in stored:
        waiting.setdefault(tuple(map(comparable, values)), []).append(key)
    found = []
    for row in sent:
        keys = waiting.get(tuple(map(comparable, row)))
        if not keys:
            raise KeysUnmatched(entity, "the keys do not come in order, and stored values are not those sent")
        found.append(keys.pop(0))
    return found


def comparable(value: Any) -> Any:
    """Return something hashable that is equal for equal values."""
    try:
        hash(value)
    except TypeError:
        return repr(value)
    return value
