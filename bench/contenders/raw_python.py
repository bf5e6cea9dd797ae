"""The workloads that need no driver, done with plain Python: what the raw contenders share."""

from __future__ import annotations

from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from bench import data
from bench.contenders.base import Contender, construct

if TYPE_CHECKING:
    from collections.abc import Sequence

PERSON_SQL = "SELECT id, name, email, age, city FROM person"
WIDE_SQL = f"SELECT {', '.join(data.WIDE)} FROM wide"
TYPED_SQL = "SELECT id, born, seen, balance, active, settings FROM typed"
FOUR = itemgetter("name", "email", "age", "city")
FIVE = itemgetter("id", "name", "email", "age", "city")
POSITIONS = {
    names: {name: i for i, name in enumerate(names)} for names in (data.PERSON, data.WIDE, data.TYPED)
}


class Plain:
    """A class as one would write it without a mapper."""

    def __init__(self, name: str, email: str, age: int, city: str) -> None:
        self.name = name
        self.email = email
        self.age = age
        self.city = city


def flat(rows: Sequence[Any], pick: Any) -> list[Any]:
    """Put the picked values of all rows into one list, row by row."""
    return list(chain.from_iterable(map(pick, rows)))


def values_clause(mark: str, columns: int, rows: int) -> str:
    """Write `(?, ?), (?, ?)` for so many rows."""
    one = f"({', '.join([mark] * columns)})"
    return ", ".join([one] * rows)


class RawPython(Contender):
    """Base of the raw contenders: rows are tuples, nothing is tracked."""

    def values(self, row: Any, names: Sequence[str], new: bool = False) -> Sequence[Any]:
        if new:
            return [getattr(row, name) for name in names]
        for known, positions in POSITIONS.items():
            if len(known) == len(row) and all(name in positions for name in names):
                return [row[positions[name]] for name in names]
        return [row[data.PERSON.index(name)] for name in names]

    def a_construct(self, given: list[tuple[Any, ...]]) -> Any:
        return construct(Plain, given)

    def before_h_get_hot(self, given: list[int]) -> Any:
        return {(Plain, (key,)): data.person(key) for key in given}, given

    def h_get_hot(self, given: Any) -> Any:
        found, keys = given
        for _ in range(9):
            for key in keys:
                found[Plain, (key,)]
        return [found[Plain, (key,)] for key in keys]

    def before_q_get(self, given: int) -> Any:
        return Plain("a", "b", 1, "c"), given

    def q_get(self, given: Any) -> int:
        return read_ten(*given)

    before_q_set = before_q_get

    def q_set(self, given: Any) -> int:
        return set_ten(*given)


def read_ten(entity: Any, count: int) -> int:
    """Read an attribute ten times for each of `count`; unrolled, so that the loop hardly counts."""
    for _ in range(count):
        entity.age  # noqa: B018
        entity.age  # noqa: B018
        entity.age  # noqa: B018
        entity.age  # noqa: B018
        entity.age  # noqa: B018
        entity.age  # noqa: B018
        entity.age  # noqa: B018
        entity.age  # noqa: B018
        entity.age  # noqa: B018
        entity.age  # noqa: B018
    return count if type(entity.age) is int else -1


def set_ten(entity: Any, count: int) -> int:
    """Set an attribute ten times for each of `count`; all but the first find it changed already."""
    for i in range(count):
        entity.age = i
        entity.age = i
        entity.age = i
        entity.age = i
        entity.age = i
        entity.age = i
        entity.age = i
        entity.age = i
        entity.age = i
        entity.age = i
    return count if entity.age == count - 1 else -1
