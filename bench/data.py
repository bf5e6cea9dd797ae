"""The rows every contender works on: made from their number alone, so that a check can make them again."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

CITIES = ("Ulm", "Graz", "Brno", "Lyon", "Porto", "Turku", "Gent", "Split", "Bergen", "Cork")
PERSON = ("id", "name", "email", "age", "city")
WIDE = (
    "id",
    *(f"n{i}" for i in range(1, 8)),
    *(f"t{i}" for i in range(1, 8)),
    *(f"x{i}" for i in range(1, 6)),
)
TYPED = ("id", "born", "seen", "balance", "active", "settings")

_EPOCH = dt.datetime(2020, 1, 1, 8, 30)  # noqa: DTZ001 - what most columns hold


def person(key: int) -> tuple[Any, ...]:
    """Make row `key` of the five-column tables."""
    return (key, f"name-{key:06d}", f"user{key}@example.org", 18 + key % 60, CITIES[key % 10])


def wide(key: int) -> tuple[Any, ...]:
    """Make row `key` of the twenty-column table."""
    return (
        key,
        *(key * i % 100_003 for i in range(1, 8)),
        *(f"text-{i}-{key * i % 9973}" for i in range(1, 8)),
        *(key * i / 8 for i in range(1, 6)),
    )


def typed(key: int) -> tuple[Any, ...]:
    """Make row `key` of the table whose columns need conversion in Python."""
    return (
        key,
        dt.date(1950, 1, 1) + dt.timedelta(days=key % 20_000),
        _EPOCH + dt.timedelta(seconds=key * 61, microseconds=key * 7 % 1_000_000),
        Decimal(key * 37 % 1_000_000) / 100,
        key % 3 == 0,
        {"theme": "dark", "size": key % 10, "tags": ["a", "b"]},
    )


def person_dicts(count: int, keys: bool = False) -> list[dict[str, Any]]:
    """Make `count` new people as the dicts that inserts start from."""
    names = PERSON if keys else PERSON[1:]
    skip = 0 if keys else 1
    return [dict(zip(names, person(key)[skip:], strict=True)) for key in range(1, count + 1)]


def scattered(count: int, total: int) -> list[int]:
    """Choose `count` different keys of 1..total, out of order and the same each time."""
    step = max(1, total // count) | 1
    while total % step == 0 and step > 1:
        step += 2
    chosen: dict[int, None] = {}
    key = 0
    while len(chosen) < min(count, total):
        key = (key + step) % total
        while key + 1 in chosen:
            key = (key + 1) % total
        chosen[key + 1] = None
    return list(chosen)
