"""Random expressions give the same rows through the plan cache and through plain Core (issue: statements)."""

from __future__ import annotations

import datetime as dt
import decimal
import operator
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sojourn.statements import and_, func, not_, or_, select
from tests.statements.world import Color, Thing, by_core, make_engine, run

NAMES = ("id", "n", "big", "s", "label_", "d", "at", "price", "weight", "on", "color")
COLUMN = {name: "label" if name == "label_" else name for name in NAMES}

LITERALS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-10, 10),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from(["", "a", "abc", "5", "ä_ö", "%", "a%", "ABC", "red"]),
    st.sampled_from([dt.date(2020, 1, 1), dt.date(1999, 12, 31)]),
    st.sampled_from([dt.datetime(2020, 1, 1), dt.datetime(2020, 1, 1, 12, tzinfo=dt.UTC)]),
    st.sampled_from([decimal.Decimal("1.50"), decimal.Decimal(5)]),
    st.sampled_from([0.5, 5.0, -2.0]),
    st.sampled_from(list(Color)),
)

LISTS = st.one_of(
    st.lists(st.integers(-10, 10), max_size=6),
    st.lists(st.sampled_from(["abc", "5", "", "ABC"]), max_size=6),
    st.lists(st.sampled_from(list(Color)), max_size=3),
    st.lists(st.one_of(st.integers(-5, 5), st.none(), st.sampled_from(["abc"])), max_size=4),
    st.lists(st.sampled_from([dt.date(2020, 1, 1), dt.date(1999, 12, 31)]), max_size=3),
    st.lists(st.one_of(st.integers(0, 5), st.integers(2**40, 2**41)), max_size=4),
)

COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")
TEXTS = ("like", "not_like", "ilike", "startswith", "endswith", "contains")

# An expression is a tree without literals: where one belongs it says ("?",) or ("?list",), filled afterwards.
HOLE, LIST = ("?",), ("?list",)


def value() -> st.SearchStrategy[Any]:
    """Draw something that has a value: an attribute, arithmetic, a function."""
    column = st.tuples(st.just("column"), st.sampled_from(NAMES))
    number = st.tuples(st.just("column"), st.sampled_from(("id", "n", "big", "weight")))
    return st.one_of(
        column,
        number,
        st.tuples(st.sampled_from(("add", "sub", "mul")), number, st.one_of(number, st.just(HOLE))),
        st.tuples(st.just("rsub"), number, st.just(HOLE)),
        st.tuples(st.just("coalesce"), column, st.just(HOLE)),
        st.tuples(st.just("lower"), st.tuples(st.just("column"), st.sampled_from(("s", "label_")))),
        st.tuples(st.just("neg"), number),
    )


def criterion() -> st.SearchStrategy[Any]:
    """Draw something that holds or does not."""
    simple = st.one_of(
        st.tuples(st.sampled_from(COMPARISONS), value(), st.one_of(st.just(HOLE), value())),
        st.tuples(st.sampled_from(TEXTS), value(), st.just(HOLE)),
        st.tuples(st.sampled_from(("is_", "is_not", "is_distinct_from")), value(), st.just(HOLE)),
        st.tuples(st.sampled_from(("in_", "not_in")), value(), st.just(LIST)),
        st.tuples(st.just("between"), value(), st.just(HOLE), st.just(HOLE)),
    )
    return st.recursive(
        simple,
        lambda inner: st.one_of(
            st.tuples(st.just("and"), inner, inner),
            st.tuples(st.just("or"), inner, inner),
            st.tuples(st.just("not"), inner),
        ),
        max_leaves=4,
    )


OURS = {"and": and_, "or": or_, "not": not_, "coalesce": func.coalesce, "lower": func.lower}
CORE = {"and": sa.and_, "or": sa.or_, "not": sa.not_, "coalesce": sa.func.coalesce, "lower": sa.func.lower}


def build(
    tree: Any, column: Callable[[str], Any], words: Any, literals: Iterator[Any], lists: Iterator[Any]
) -> Any:
    """Build an expression from a tree, over our attributes or over Core's columns."""
    if tree == HOLE:
        return next(literals)
    if tree == LIST:
        return list(next(lists))
    head, *rest = tree
    if head == "column":
        return column(rest[0])
    parts = [build(part, column, words, literals, lists) for part in rest]
    if head in words:
        return words[head](*parts)
    if head == "rsub":
        return parts[1] - parts[0]
    if hasattr(operator, head):
        return getattr(operator, head)(*parts)
    return getattr(parts[0], head)(*parts[1:])


def holes(tree: Any, kind: Any) -> int:
    """Count the holes of a tree."""
    if tree == kind:
        return 1
    return sum(holes(part, kind) for part in tree[1:]) if isinstance(tree, tuple) else 0


def outcome(function: Callable[[], list[Any]]) -> Any:
    """Return rows in order of the key, or the class of the error."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return sorted(function())
    except Exception as error:  # noqa: BLE001 - both sides must fail alike
        if isinstance(error, sa.exc.StatementError) and error.orig is not None:
            error = error.orig
        return type(error)


ENGINE = make_engine()


def ours(tree: Any, literals: list[Any], lists: list[Any]) -> list[Any]:
    """Run a tree through recording and plan cache."""
    expression = build(tree, lambda name: getattr(Thing, name), OURS, iter(literals), iter(lists))
    return [tuple(row) for row in run(ENGINE, select(Thing.id).where(expression))]


def cores(tree: Any, literals: list[Any], lists: list[Any]) -> list[Any]:
    """Run a tree through Core, its compiled cache off."""
    table = Thing.__table__
    expression = build(tree, lambda name: table.c[COLUMN[name]], CORE, iter(literals), iter(lists))
    statement = sa.select(table.c.id).where(expression)
    with ENGINE.connect().execution_options(compiled_cache=None) as connection:
        return [tuple(row) for row in connection.execute(statement)]


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(criterion(), st.data())
def test_same_rows_whatever_ran_before(tree: Any, data: Any) -> None:
    """A tree is run with several sets of literals: the later ones meet plans made for the earlier."""
    for _ in range(3):
        literals = data.draw(st.lists(LITERALS, min_size=holes(tree, HOLE), max_size=holes(tree, HOLE)))
        lists = data.draw(st.lists(LISTS, min_size=holes(tree, LIST), max_size=holes(tree, LIST)))
        assert outcome(partial(ours, tree, literals, lists)) == outcome(partial(cores, tree, literals, lists))


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(value(), st.data())
def test_same_values(tree: Any, data: Any) -> None:
    """Selected expressions give the same Python values, converted by the same types."""
    for _ in range(2):
        literals = data.draw(st.lists(LITERALS, min_size=holes(tree, HOLE), max_size=holes(tree, HOLE)))

        def mine(literals: list[Any] = literals) -> list[Any]:
            built = build(tree, lambda name: getattr(Thing, name), OURS, iter(literals), iter(()))
            return [
                repr(row[1]) for row in run(ENGINE, select(Thing.id, built.label("x")).order_by(Thing.id))
            ]

        def core(literals: list[Any] = literals) -> list[Any]:
            table = Thing.__table__
            built = build(tree, lambda name: table.c[COLUMN[name]], CORE, iter(literals), iter(()))
            rows = by_core(ENGINE, sa.select(table.c.id, built.label("x")).order_by(table.c.id))
            return [repr(row[1]) for row in rows]

        assert outcome(mine) == outcome(core)


@pytest.mark.parametrize("length", [0, 1, 2, 3, 100, 1000, 5000])
def test_lists_of_any_length(length: int) -> None:
    """One statement serves lists of any length, in any order of lengths."""
    for items in (list(range(length)), list(range(3)), [], list(range(length + 1))):
        expected = [n for n in range(1, 6) if n in items]
        assert [row[0] for row in run(ENGINE, select(Thing.id).where(Thing.id.in_(items)))] == expected
        left = [row[0] for row in run(ENGINE, select(Thing.id).where(Thing.id.not_in(items)))]
        assert left == [n for n in range(1, 6) if n not in items]


def test_lists_beyond_the_driver_s_parameters() -> None:
    """A list longer than the driver's parameters is written into the text, or refused with a remedy."""
    numbers = list(range(40_000))
    assert len(run(ENGINE, select(Thing.id).where(Thing.id.in_(numbers)))) == 5
    texts = [f"it's {n}" for n in range(40_000)] + ["abc"]
    assert [row[0] for row in run(ENGINE, select(Thing.id).where(Thing.s.in_(texts), Thing.n == 1))] == [1]
    sets = {dt.date(2020, 1, 1)} | {dt.date(1900, 1, 1) + dt.timedelta(days=n) for n in range(34_000)}
    assert len(run(ENGINE, select(Thing.id).where(Thing.d.in_(sets)))) >= 2


def test_list_kinds() -> None:
    """Tuples, sets, ranges, generators and dictionary views are lists as well."""
    for items in ((1, 2), {1, 2}, frozenset((1, 2)), range(1, 3), (n for n in (1, 2)), {1: 0, 2: 0}.keys()):
        assert len(run(ENGINE, select(Thing.id).where(Thing.id.in_(items)))) == 2


def test_a_list_of_lists() -> None:
    """Two lists in one statement keep their lengths apart."""
    statement = lambda a, b: select(Thing.id).where(Thing.id.in_(a), or_(Thing.n.in_(b), Thing.n == 5))
    for a, b in (([1, 2, 3], [1]), ([1], [1, 2, 3]), ([], [1]), ([1, 5], [])):
        expected = [n for n, v in ((1, 1), (3, -7), (4, 1000), (5, 5)) if n in a and (v in b or v == 5)]
        assert [row[0] for row in run(ENGINE, statement(a, b))] == expected
