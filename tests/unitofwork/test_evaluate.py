"""Criteria evaluated in Python: the same answer as the database's, or none."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from sojourn import inspect
from sojourn.errors import NotEvaluable
from sojourn.unitofwork.evaluate import EXPIRED, Evaluators
from tests.unitofwork.shop import Base, Thing

C = Thing.__table__.c


def evaluate(clause, thing, **options):
    """Return what Python makes of *clause* for *thing*."""
    return Evaluators(inspect(Thing), **options).make(clause)(thing)


numbers = st.one_of(st.none(), st.integers(-3, 3))


@st.composite
def criteria(draw, depth=2):
    """Draw a criterion over rank and id."""
    column = draw(st.sampled_from([C.rank, C.id, C.rank + 1, C.rank * C.id - 2]))
    value = draw(st.integers(-3, 3))
    leaf = draw(
        st.sampled_from(
            [
                column == value, column != value, column < value, column >= value, column.is_(None),
                column.is_not(None), column.in_([value, 1]), column.not_in([value]), column.in_([]),
                sa.true(), column == None,  # noqa: E711 - SQL's IS NULL
            ]
        )
    )  # fmt: skip
    if depth == 0:
        return leaf
    kind = draw(st.sampled_from(["leaf", "and", "or", "not"]))
    if kind == "leaf":
        return leaf
    other = draw(criteria(depth=depth - 1))
    return {"and": sa.and_, "or": sa.or_}[kind](leaf, other) if kind != "not" else sa.not_(other)


@settings(max_examples=150, deadline=None)
@given(criterion=criteria(), rank=numbers)
def test_python_agrees_with_the_database(criterion, rank):
    """Any criterion that is evaluated gives SQLite's answer, NULL included."""
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        Base.metadata.tables["thing"].create(connection)
        connection.execute(sa.insert(Thing.__table__).values(id=1, rank=rank))
        answer = connection.execute(
            sa.select(sa.literal(1)).select_from(Thing.__table__).where(criterion)
        ).first()
    engine.dispose()
    assert bool(evaluate(criterion, Thing(id=1, rank=rank))) == (answer is not None)


def test_what_is_not_loaded_cannot_be_told():
    """A missing attribute makes the answer unknown, unless the rest decides it."""
    assert evaluate(C.rank == 1, Thing(id=1)) is EXPIRED
    assert evaluate(sa.and_(C.id == 2, C.rank == 1), Thing(id=1)) is False
    assert evaluate(sa.or_(C.id == 1, C.rank == 1), Thing(id=1)) is True


@pytest.mark.parametrize(
    "clause",
    [
        sa.func.abs(C.rank) == 1, C.name.like("a%"), sa.case((C.rank == 1, True), else_=False),
        sa.exists().where(C.rank == 1), C.rank == sa.bindparam("x", required=True), C.rank / 2 == 1,
    ],
)  # fmt: skip
def test_the_rest_is_refused(clause):
    """What Python might compute otherwise is not evaluated."""
    with pytest.raises(NotEvaluable):
        evaluate(clause, Thing(id=1, rank=1))


def test_collations_are_left_to_the_database():
    """Strict mode does not compare text where a collation decides."""
    thing = Thing(name="b")
    assert evaluate(C.name > "a", thing) is True
    with pytest.raises(NotEvaluable):
        evaluate(C.name > "a", thing, strict=True)
    assert evaluate(C.name == "b", thing, strict=True) is True
    with pytest.raises(NotEvaluable):
        evaluate(C.name == "b", thing, strict=True, dialect="mariadb")
