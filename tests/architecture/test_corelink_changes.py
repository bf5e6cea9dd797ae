"""Contracts of Core's private names for INSERT, UPDATE and DELETE: what the unit of work reads of them."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as postgresql_insert

from sojourn import corelink

table = sa.table("t", sa.column("a"), sa.column("b"))


def test_given_values_are_read_and_replaced():
    """`values()` of one row and of several can be read, and replaced without touching the original."""
    one = sa.insert(table).values(a=1)
    values, rows = corelink.given_values(one)
    assert list(values) == ["a"]
    assert rows == []
    _, rows = corelink.given_values(sa.insert(table).values([{"a": 1}, {"a": 2}]))
    assert rows == [{"a": 1}, {"a": 2}]
    assert "(b)" in str(corelink.with_given_values(one, {"b": 2}, []))
    assert "(a)" in str(one)
    assert "SET a=" in str(corelink.with_given_values(sa.update(table).values(b=1), {"a": values["a"]}, []))


def test_extensions_of_an_insert_are_seen():
    """ON CONFLICT, FROM SELECT, prefixes: an INSERT with any of them is more than its values."""
    plain = sa.insert(table)
    assert not corelink.has_extensions(plain)
    assert corelink.has_extensions(postgresql_insert(table).on_conflict_do_nothing())
    assert corelink.has_extensions(plain.from_select(["a"], sa.select(sa.literal(1))))
    assert corelink.has_extensions(plain.prefix_with("OR IGNORE"))
