"""Core selects made of recorded parts: the recorded plan, the same rows, nothing taken for what it is not."""

from __future__ import annotations

import gc
import pickle
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.sql import visitors

from sojourn.plans import plan_for_core, plan_for_recording
from sojourn.statements import func, select
from sojourn.statements.recognition import recorded_form
from tests.statements.world import Part, Thing, make_engine


@pytest.fixture
def engine() -> Any:
    made = make_engine()
    yield made
    made.dispose()


RECOGNISED = [
    (lambda: sa.select(Thing), lambda: select(Thing)),
    (lambda: sa.select(Thing).where(Thing.s == "x"), lambda: select(Thing).where(Thing.s == "x")),
    (
        lambda: (
            sa.select(Thing.id, Thing.s).where(Thing.n > 1, Thing.s.like("a%")).where(Thing.id.in_([1, 2]))
        ),
        lambda: select(Thing.id, Thing.s).where(Thing.n > 1, Thing.s.like("a%"), Thing.id.in_([1, 2])),
    ),
    (
        lambda: sa.select(Thing).order_by(Thing.n.desc(), Thing.id).limit(2).offset(1),
        lambda: select(Thing).order_by(Thing.n.desc(), Thing.id).limit(2).offset(1),
    ),
    (
        lambda: sa.select(Thing, Part.name).where(~(Thing.id == Part.thing_id), func.lower(Part.name) == "x"),
        lambda: select(Thing, Part.name).where(~(Thing.id == Part.thing_id), func.lower(Part.name) == "x"),
    ),
]


@pytest.mark.parametrize(("core", "recorded"), RECOGNISED)
def test_the_recorded_plan_is_used(engine: Any, core: Any, recorded: Any) -> None:
    """A Core select of recorded parts only has the plan and the literals of the recorded select."""
    twin = recorded()
    plan, params = plan_for_core(core(), engine)
    assert plan is plan_for_recording(twin, engine)
    assert params == twin.params


@pytest.mark.parametrize(
    "make",
    [
        lambda: sa.select(Thing).where(Thing.__table__.c.n == 1),
        lambda: sa.select(Thing).where(sa.or_(Thing.n == 1, Thing.n == 2)),
        lambda: sa.select(Thing).distinct(),
        lambda: sa.select(Thing).join(Part),
        lambda: sa.select(Thing).fetch(1),
        lambda: sa.select(Thing).limit(sa.literal(1)),
        lambda: sa.select(Thing).with_for_update(),
        lambda: sa.select(Thing).execution_options(yield_per=1),
        lambda: sa.select(Thing).set_label_style(sa.LABEL_STYLE_TABLENAME_PLUS_COL),
        lambda: sa.select(Thing).group_by(Thing.id),
        lambda: sa.select(Thing.__table__),
        lambda: sa.select(sa.literal(1)),
        lambda: sa.union(sa.select(Thing.id), sa.select(Part.id)),
        lambda: sa.text("SELECT 1"),
    ],
)
def test_anything_else_is_left_to_core(make: Any) -> None:
    """One part that was not recorded, or one that a recording has no word for, and Core's key decides."""
    assert recorded_form(make()) is None


def test_what_core_changed_is_not_recognised(engine: Any) -> None:
    """Core copies an element with all that is in it, then changes the copy: the copy must count."""
    statement = sa.select(Thing.id).where(Thing.id == 1)
    assert recorded_form(statement) is not None

    def to_three(part: Any, **_: Any) -> Any:
        return sa.literal(3) if getattr(part, "__visit_name__", "") == "bindparam" else None

    changed: Any = visitors.replacement_traverse(statement, {}, to_three)  # type: ignore[call-overload]
    assert recorded_form(changed) is None
    assert plan_for_core(changed, engine)[1] == (3,)
    moved = visitors.cloned_traverse(statement, {}, {"bindparam": lambda bind: setattr(bind, "value", 2)})
    assert plan_for_core(moved, engine)[1] == (2,)


@pytest.mark.parametrize(
    "make",
    [
        lambda value: Thing.s == value,
        lambda value: Thing.s != value,
        lambda value: Thing.s.ilike(value),
        lambda value: Thing.s.startswith(value),
        lambda value: Thing.s.in_([value, "other"]),
        lambda value: Thing.s.not_in([value]),
        lambda value: Thing.s + value,
        lambda value: -Thing.n == len(value),
        lambda value: func.coalesce(Thing.s, value),
    ],
)
def test_elements_of_one_shape_are_strangers(make: Any) -> None:
    """The second element of a shape is what Core would have made: its own bind, its own name, its value."""
    make("first").__clause_element__()
    one, two = make("one").__clause_element__(), make("second").__clause_element__()
    given = sa.select(one, two).compile().params
    expected = sa.select(*[make(each).__clause_element__() for each in ("one", "second")]).compile().params
    assert given == expected
    assert len(given) == 2
    assert not one.compare(two)
    assert one.compare(make("one").__clause_element__())
    assert str(sa.select(~(one == two))) == str(sa.select(~(make("a") == make("b"))))


def test_elements_are_true_of_themselves_only() -> None:
    """`==` of elements is true for the same element, as Core has it: lists of criteria can be searched."""
    one, other = (Thing.s == "x").__clause_element__(), (Thing.s == "x").__clause_element__()
    assert bool(one.left == one.left)
    assert [one, other].index(other) == 1
    assert bool(one) is False
    assert hash(one) != hash(other)


def test_elements_travel() -> None:
    """An expression of plain Core columns that went through a recording can be pickled."""
    from sojourn.statements.replay import origin_of

    element = (Thing.s == "x").__clause_element__()
    origin = next(value for value in vars(element).values() if type(value).__name__ == "_Origin")
    vars(element)["sojourn_origin"] = pickle.loads(pickle.dumps(origin))
    assert origin_of(element) is None


def test_nothing_is_left_to_the_collector() -> None:
    """Building such a select makes no reference cycles."""
    sa.select(Thing).where(Thing.s == "x")
    gc.collect()
    gc.disable()
    try:
        for n in range(50):
            sa.select(Thing).where(Thing.s == str(n))
        assert gc.collect() == 0
    finally:
        gc.enable()
