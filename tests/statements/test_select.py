"""What `select` records means what Core's select means, and everything else continues there."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from sojourn.errors import UnknownAttribute, UnmappedClass
from sojourn.kernel.record import Node
from sojourn.statements import and_, asc, delete, desc, func, insert, not_, or_, select, update
from sojourn.statements.builders import Select
from tests.statements.world import Color, Part, Thing, by_core, make_engine, plan_of, run


@pytest.fixture(scope="module")
def engine() -> Any:
    made = make_engine()
    yield made
    made.dispose()


def ids(rows: list[Any]) -> list[int]:
    return [row.id for row in rows]


def test_entities_are_loaded(engine: Any) -> None:
    """`select(Thing)` gives entities, not rows of one."""
    things = run(engine, select(Thing).where(Thing.id == 1))
    assert [type(thing) for thing in things] == [Thing]
    assert things[0].color is Color.red
    assert things[0].label_ == "a%b"


def test_the_same_shape_is_the_same_object() -> None:
    """Two statements built alike share one shape whatever their literals, so the shape is the cache key."""
    assert select(Thing).where(Thing.id == 1).shape is select(Thing).where(Thing.id == 2).shape
    assert select(Thing).where(Thing.id == 1).shape is not select(Thing).where(Thing.n == 1).shape
    assert select(Thing).where(Thing.n == None).shape is not select(Thing).where(Thing.n == 1).shape  # noqa: E711


def test_columns_are_named_after_attributes(engine: Any) -> None:
    """A row's keys are attribute names, also where the column is called otherwise; columns are keys too."""
    row = run(engine, select(Thing.id, Thing.label_).where(Thing.id == 1))[0]
    assert row == (1, "a%b")
    assert row._fields == ("id", "label_")
    assert row.label_ == "a%b"
    assert row._mapping[Thing.__table__.c.label] == "a%b"


def test_mixed_rows(engine: Any) -> None:
    """Entities, attributes and Core expressions may stand in one row."""
    statement = select(Thing, Thing.n, func.length(Thing.s).label("size"), sa.literal(7).label("seven"))
    row = run(engine, statement.where(Thing.id == 1))[0]
    assert row.Thing.id == 1
    assert (row.n, row.size, row.seven) == (1, 3, 7)


def test_equal_names_are_told_apart(engine: Any) -> None:
    """Two attributes of one name keep their values apart."""
    row = run(engine, select(Thing.id, Part.id).join(Part).where(Part.id == 2))[0]
    assert tuple(row) == (3, 2)
    assert len(set(row._fields)) == 2


def test_deferred_columns_are_not_selected(engine: Any) -> None:
    """A deferred attribute is left out of `select(Part)` however the select was made."""
    for statement in (select(Part), sa.select(Part), select(Part).with_for_update()):
        plan, _ = plan_of(engine, statement)
        assert "notes" not in plan.text
        assert "notes" not in vars(run(engine, statement)[0])


def test_chain(engine: Any) -> None:
    """Each recorded step does what it does in Core."""
    statement = (
        select(Thing)
        .where(Thing.id > 0)
        .filter(Thing.id < 100, Thing.id != 2)
        .filter_by(on=True)
        .order_by(Thing.id.desc())
        .limit(5)
        .offset(1)
    )
    assert isinstance(statement, Select)
    assert ids(run(engine, statement)) == [1]


def test_group_having_distinct(engine: Any) -> None:
    """GROUP BY, HAVING and DISTINCT are recorded."""
    statement = (
        select(Part.thing_id, func.count(Part.id))
        .group_by(Part.thing_id)
        .having(func.count(Part.id) > 1)
        .order_by(asc(Part.thing_id))
    )
    assert [tuple(row) for row in run(engine, statement)] == [*[(1, 1)][1:], (2, 2), (3, 2), (4, 2)]
    assert len(run(engine, select(Part.thing_id).distinct())) == 4


def test_joins(engine: Any) -> None:
    """A class is joined by its foreign keys or a criterion; an outer join yields None for a missing one."""
    assert len(run(engine, select(Thing, Part).join(Part))) == 7
    assert (
        len(run(engine, select(Thing).join(Part, Part.thing_id == Thing.id).where(Part.name == "part 1")))
        == 1
    )
    rows = run(engine, select(Thing, Part).outerjoin(Part).where(Thing.id == 5))
    assert [(row.Thing.id, row.Part) for row in rows] == [(5, None)]
    assert len(run(engine, select(func.count(Part.id)).select_from(Thing).join(Part))) == 1


def test_filter_by_finds_the_entity_that_has_the_name(engine: Any) -> None:
    """`filter_by` looks at every entity of the statement; a name that two of them have is refused."""
    assert ids(run(engine, select(Thing).join(Part).filter_by(name="part 4"))) == [1]
    assert ids(run(engine, select(Thing).join(Part).filter_by(name="part 4", label_="a%b"))) == [1]
    with pytest.raises(sa.exc.AmbiguousColumnError, match="Thing"):
        select(Thing).join(Part).filter_by(id=1)
    assert ids(run(engine, select(Thing).join(Part).filter_by_last(id=4))) == [1]
    assert ids(run(engine, select(Thing).filter_by_last(id=4))) == [4]


def test_filter_by_knows_attribute_names_everywhere(engine: Any) -> None:
    """Attribute names stay known where the statement is Core's own, columns where no class is."""
    for statement in (
        select(Thing).with_for_update().filter_by(label_="a%b"),
        select(Thing.id).with_for_update().filter_by(label_="a%b"),
        sa.select(Thing).filter_by(label_="a%b"),
        select(Thing.__table__).filter_by(label="a%b"),
        select(Thing.__table__.c.id).filter_by(label="a%b"),
    ):
        assert run(engine, statement)[0].id == 1


def test_core_continues(engine: Any) -> None:
    """What is not recorded answers with Core's select, and entities stay entities."""
    statement = select(Thing).where(Thing.id == 1).with_for_update().where(Thing.n == 1)
    assert isinstance(statement, sa.Select)
    assert [type(thing) for thing in run(engine, statement)] == [Thing]
    rows = run(engine, select(Thing).add_columns(Thing.n).where(Thing.id == 1))
    assert rows[0].Thing.n == rows[0].n == 1


def test_core_select_of_a_class(engine: Any) -> None:
    """SQLAlchemy's own `select(Thing)` gives entities as well."""
    assert ids(run(engine, sa.select(Thing).where(Thing.id == 3))) == [3]
    first, second = (plan_of(engine, sa.select(Thing).where(Thing.id == n))[0] for n in (1, 2))
    assert first is second


def test_subqueries_unions_and_exists(engine: Any) -> None:
    """Recorded selects stand wherever Core takes a select."""
    inner = select(Part.thing_id).where(Part.id < 3)
    assert sorted(ids(run(engine, select(Thing).where(Thing.id.in_(inner))))) == [2, 3]
    sub = inner.subquery()
    assert sorted(ids(run(engine, select(Thing).join(sub, sub.c.thing_id == Thing.id)))) == [2, 3]
    cte = inner.cte("parts")
    assert sorted(ids(run(engine, select(Thing).where(Thing.id.in_(select(cte.c.thing_id)))))) == [2, 3]
    exists = sa.exists().where(Part.thing_id == Thing.id)
    assert sorted(ids(run(engine, select(Thing).where(exists)))) == [1, 2, 3, 4]
    union = sa.union(select(Thing.id).where(Thing.id == 1), select(Thing.id).where(Thing.id == 2))
    assert sorted(tuple(row) for row in run(engine, union)) == [(1,), (2,)]
    assert run(engine, select(select(func.count(Part.id)).scalar_subquery()))[0][0] == 7


def test_two_subqueries_built_alike_are_two(engine: Any) -> None:
    """An alias is an object, not a name: rebuilding the same join does not add a second copy of it."""
    for low in (1, 5):
        sub = select(Part).where(Part.id >= low).subquery()
        statement = select(Thing.id).join(sub, sub.c.thing_id == Thing.id).where(sub.c.name != "x")
        assert len(run(engine, statement)) == len(
            by_core(engine, statement.core() if isinstance(statement, Select) else statement)
        )
    left, right = sa.alias(Thing.__table__), sa.alias(Thing.__table__)
    statement = select(left.c.id, right.c.id).where(left.c.id == right.c.id)
    assert len(run(engine, statement)) == 5


def test_labels_are_ordered_by(engine: Any) -> None:
    """A label in ORDER BY is the label in the columns."""
    label = func.abs(Thing.n).label("size")
    statement = select(Thing.id, label).where(Thing.n.is_not(None)).order_by(desc(label))
    assert "ORDER BY size DESC" in str(statement)
    assert [row.id for row in run(engine, statement)] == [4, 3, 5, 1]


def test_text(engine: Any) -> None:
    """text() gives rows named by the cursor; its columns() give types."""
    rows = run(engine, sa.text("SELECT id, d FROM thing WHERE id = :id").bindparams(id=1))
    assert (rows[0].id, rows[0].d) == (1, "2020-01-01")
    typed = sa.text("SELECT id, d FROM thing WHERE id = 1").columns(id=sa.Integer, d=sa.Date)
    assert run(engine, typed)[0].d.year == 2020


def test_from_statement(engine: Any) -> None:
    """Entities are made from the rows of another statement, matched by column name."""
    text = sa.text(
        "SELECT color, label, on_ AS 'on', id, n, big, s, d, at, price, weight "
        'FROM (SELECT *, "on" AS on_ FROM thing) WHERE id = 3'
    )
    thing = run(engine, select(Thing).from_statement(text))[0]
    assert (thing.id, thing.label_, thing.color) == (3, "ä_ö", Color.blue)


def test_named_parameters(engine: Any) -> None:
    """A `bindparam` takes its value at execution; without one nothing is sent."""
    statement = select(Thing).where(Thing.id == sa.bindparam("wanted"))
    core = statement.core()
    assert ids(run(engine, core, {"wanted": 3})) == [3]
    assert ids(run(engine, core, {"wanted": 4})) == [4]
    with pytest.raises(sa.exc.InvalidRequestError, match="wanted"):
        run(engine, statement)
    many = select(Thing).where(Thing.id.in_(sa.bindparam("ids", expanding=True))).core()
    assert len(run(engine, many, {"ids": [1, 2, 9]})) == 2


def test_callable_parameters_are_asked_each_time(engine: Any) -> None:
    """A bindparam with a callable gets its value when the statement runs."""
    values = iter([1, 3])
    bind = sa.bindparam("wanted", callable_=lambda: next(values), type_=sa.Integer)
    statement = sa.select(Thing).where(Thing.id == bind)
    assert [ids(run(engine, statement)), ids(run(engine, statement))] == [[1], [3]]


def test_combinations() -> None:
    """and_, or_ and not_ are recorded where all of their parts are, and are Core's elsewhere."""
    assert isinstance(and_(Thing.n == 1, Thing.s == "x"), Node)
    assert isinstance(or_(Thing.n == 1, Thing.s == "x"), Node)
    assert str(not_(Thing.n == 1)) == "thing.n != :n_1"
    assert not isinstance(or_(Thing.n == 1, sa.true()), Node)
    assert (
        str(and_(Thing.n == 1, or_(Thing.n == 2, Thing.n == 3)))
        == "thing.n = :n_1 AND (thing.n = :n_2 OR thing.n = :n_3)"
    )


def test_func_without_attributes_is_core_s() -> None:
    """func.now() may serve as a column default: it is Core's own function."""
    assert isinstance(func.now(), sa.sql.functions.Function)
    assert isinstance(func.lower(Thing.s), Node)
    sa.Column("at", sa.DateTime, server_default=func.now())


def test_attributes_inside_core_constructs(engine: Any) -> None:
    """case, cast, functions, windows and tuples of Core take attributes."""
    statement = sa.select(
        sa.case((Thing.n > 0, "plus"), else_="rest"),
        sa.cast(Thing.n, sa.String),
        sa.func.row_number().over(order_by=Thing.id),
    ).where(sa.tuple_(Thing.id, Thing.n).in_([(1, 1), (5, 5)]))
    assert [tuple(row) for row in run(engine, statement)] == by_core(engine, statement)
    assert run(engine, select(func.max(Thing.n).over()).limit(1))[0][0] == 1000


def test_column_membership_in_a_list() -> None:
    """`attribute in [attributes]` compares identity, as Core's columns do."""
    assert Thing.id in [Thing.n, Thing.id]
    assert Thing.id != Thing.n
    with pytest.raises(TypeError):
        bool(Thing.id == 1)


def test_insert_update_delete_take_attribute_names() -> None:
    """values() takes attribute names, attributes and columns, filter_by attribute names."""
    assert str(insert(Thing).values(label_="x")).startswith("INSERT INTO thing (label)")
    assert str(update(Thing).values({"label_": "x"}).filter_by(label_="y")) == (
        "UPDATE thing SET label=:label WHERE thing.label = :label_1"
    )
    assert "label" in str(update(Thing).values({Thing.label_: "x"}))
    assert str(delete(Thing).where(Thing.n == 1)) == "DELETE FROM thing WHERE thing.n = :n_1"
    assert "VALUES (:label_m0), (:label_m1)" in str(insert(Thing).values([{"label_": "x"}, {"label_": "y"}]))


def test_refusals() -> None:
    """Mistakes are told where they are made."""
    with pytest.raises(UnmappedClass):
        select(int)
    with pytest.raises(UnknownAttribute, match="label_"):
        select(Thing).filter_by(labl_=1)
    with pytest.raises(UnmappedClass):
        insert(int)
    with pytest.raises(sa.exc.ArgumentError):
        Thing.n < None  # noqa: B015
    with pytest.raises(sa.exc.ArgumentError):
        select(Thing).where(5)
    with pytest.raises(AttributeError):
        select(Thing).no_such_step()
