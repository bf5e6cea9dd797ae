"""Contracts of Core's private names for statements taken apart and put together again."""

from __future__ import annotations

import json

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from sojourn import corelink

table = sa.table("t", sa.column("a", sa.Integer), sa.column("b", sa.String))


def test_comparisons_with_one_bind_are_told_from_others():
    """Only a binary expression with an anonymous bind on its right side can be copied with another value."""
    for simple in (table.c.a == 1, table.c.b.like("x"), table.c.a.in_([1])):
        assert corelink.compares_with(simple, simple.right)
    computed = table.c.a == sa.func.abs(1)
    assert not corelink.compares_with(computed, computed.right)
    named = table.c.a == sa.bindparam("n")
    assert not corelink.compares_with(named, named.right)
    assert not corelink.compares_with(~sa.exists(), None)


def test_a_copied_comparison_is_as_good_as_new():
    """It has a bind of its own with the value given, and is no relative of what it was copied from."""
    sample = table.c.a == 1
    one, two = corelink.compare_with(sample, 2), corelink.compare_with(sample, 3)

    assert sa.select(one, two).compile().params == {"a_1": 2, "a_2": 3}
    assert sample.right.value == 1
    assert one.compare(table.c.a == 2)
    assert not (one.right._cloned_set & two.right._cloned_set)
    assert not (one._cloned_set & two._cloned_set)
    assert bool(one) == bool(table.c.a == 2)
    members = corelink.compare_with(table.c.a.in_([1]), [2, 3])
    assert "(2, 3)" in str(members.compile(compile_kwargs={"literal_binds": True}))
    assert str(~members) == str(table.c.a.not_in([2, 3]))


def test_plain_parts_are_all_of_a_select_or_nothing():
    """Columns, criteria, order and limits are listed; any other part makes it None."""
    criterion = table.c.a == 1
    plain = sa.select(table).where(criterion).order_by(table.c.a).limit(1).offset(2)
    columns, criteria, order, limit, offset = corelink.plain_parts(plain)

    assert columns[0] is table
    assert criteria == (criterion,)
    assert order[0] is table.c.a
    assert (corelink.limit_value(limit), corelink.limit_value(offset)) == (1, 2)
    assert corelink.limit_value(sa.literal(1)) is None
    bare = sa.select(table)
    for other in (
        bare.distinct(), bare.fetch(1), bare.with_for_update(), bare.having(criterion), bare.prefix_with("x"),
        bare.select_from(table), bare.execution_options(x=1), bare.add_cte(sa.select(table).cte()),
        bare.set_label_style(sa.LABEL_STYLE_NONE), bare.correlate(table), bare.with_hint(table, "x"),
    ):  # fmt: skip
        assert corelink.plain_parts(other) is None


def test_an_engines_json_reader_is_known():
    """A dialect tells whether `json_deserializer` was given."""
    assert not corelink.has_json_reader(sqlite.dialect())
    assert corelink.has_json_reader(sqlite.dialect(json_deserializer=json.loads))
