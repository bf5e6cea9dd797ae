"""Plans as values: which statements a flush sends on which database, without one."""

from __future__ import annotations

import pytest

from sojourn.kernel.state import state_of
from sojourn.unitofwork.flush import plan_flush
from sojourn.unitofwork.order import order_writers
from sojourn.unitofwork.rowops import Slot, writer_for
from tests.unitofwork.scripted import TRAITS, engine_like, map_of
from tests.unitofwork.shop import Child, Counted, Keyed, Pair, Parent, Plain, Stamped, Thing, Typed


def technique(name, *entities):
    """Return the technique for a flush of new *entities* with that driver."""
    (batch,) = plan_flush(map_of(*entities), engine_like(name))
    return batch.technique


def things(count):
    """Return new things."""
    return [Thing(name=f"n{n}", rank=n) for n in range(count)]


def stored(*entities):
    """Return an identity map in which *entities* are persistent and clean."""
    identity = map_of()
    for n, entity in enumerate(entities, 1):
        state = state_of(entity)
        if "id" in state.layout.names and "id" not in entity.__dict__:
            entity.id = n
        state.key = state.layout.key_of(entity.__dict__)
        identity.add(state, entity)
    return identity


@pytest.mark.parametrize(
    ("name", "one", "few", "many"),
    [
        ("sqlite", "each, lastrowid", "each, lastrowid", "values, returning"),
        ("aiosqlite", "each, returning", "values, returning", "values, returning"),
        ("psycopg", "each, returning", "ordered values", "unnest, returning"),
        ("asyncpg", "each, returning", "ordered values", "unnest, returning"),
        ("psycopg2", "each, returning", "ordered values", "ordered values"),
        ("mariadb", "each, returning", "values, returning", "values, returning"),
        ("mysql", "range", "range", "range"),
    ],
)
def test_technique_by_database_and_size(name, one, few, many):
    """The fastest safe technique is chosen by driver and number of rows."""
    assert technique(name, *things(1)) == one
    assert technique(name, *things(10)) == few
    assert technique(name, *things(100)) == many


@pytest.mark.parametrize("name", TRAITS)
def test_own_keys_need_no_reply(name):
    """Rows whose keys are known are only sent."""
    assert technique(name, Plain(code="a")) == "each"
    assert technique(name, *(Plain(code=str(n)) for n in range(9))) == "values"
    assert technique(name, *(Plain(code=str(n)) for n in range(90))) == (
        "unnest" if "unnest" in technique(name, *things(100)) else "values"
    )


def test_values_that_do_not_fit_arrays_take_the_next_best():
    """Psycopg finds no wire type for a list of mixed types."""
    mixed = [Typed(weight=1.5 if n % 2 else 1) for n in range(100)]
    assert technique("psycopg", *mixed) == "ordered values"
    assert technique("psycopg", *(Typed(weight=1.5) for n in range(100))) == "unnest, returning"


def test_expressions_go_row_by_row_and_keep_the_order():
    """SQL expressions as values split a run; what surrounds them stays together."""
    entities = [*things(3), Thing(name=Thing.name), *things(2)]
    plan = plan_flush(map_of(*entities), engine_like("sqlite"))
    assert [(batch.technique, len(batch)) for batch in plan] == [
        ("each, lastrowid", 3), ("one by one", 1), ("each, lastrowid", 2),
    ]  # fmt: skip


def test_changes_techniques():
    """UPDATE and DELETE have theirs."""
    expected = {
        "sqlite": ("from values", "in"), "psycopg": ("from unnest", "any"), "asyncpg": ("from unnest", "any"),
        "psycopg2": ("from values", "in"), "mariadb": ("join values", "in"), "mysql": ("executemany", "in"),
    }  # fmt: skip
    for name, (update, delete) in expected.items():
        entities = things(20)
        identity = stored(*entities)
        for entity in entities[:10]:
            entity.name = "changed"
        for entity in entities[10:]:
            identity.deleted[state_of(entity)] = entity
        assert [batch.technique for batch in plan_flush(identity, engine_like(name))] == [update, delete], (
            name
        )


def test_a_plan_changes_nothing():
    """Planning twice gives the same plan, and entities know nothing of it."""
    entities = [Thing(name="a"), Stamped(name="b"), Keyed(name="c")]
    identity = map_of(*entities)
    before = [dict(entity.__dict__) for entity in entities]
    engine = engine_like("sqlite")
    first, second = str(plan_flush(identity, engine)), str(plan_flush(identity, engine))
    assert first == second
    assert [entity.__dict__ for entity in entities] == before
    assert len(identity.new) == 3


def test_a_plan_prints_itself():
    """The text names tables, columns, rows, what comes back and what is checked."""
    parent, child, counted = Parent(id=1), Child(id=1, parent_id=1), Counted(id=7, name="a", version=3)
    identity = stored(counted)
    for entity in (child, parent, Thing(name="x"), Thing(name="y")):
        identity.add(state_of(entity), entity)
    counted.name = "b"
    assert str(plan_flush(identity, engine_like("sqlite"))) == (
        "FlushPlan  4 batches, 5 rows\n"
        "  1  INSERT parent  (id)                                1 row\n"
        "  2  INSERT child  (id, parent_id)                      1 row\n"
        "  3  INSERT thing  (name, rank)                         2 rows          -> thing.id\n"
        "  4  UPDATE counted  (name, version) WHERE id, version  1 row, checked"
    )


def test_large_rows_take_smaller_pages():
    """No statement has more parameters than the database takes."""
    engine = engine_like("sqlite")
    engine.traits = type(engine.traits)(
        "sqlite", "pysqlite", "?", returning=True, values_from=True, max_parameters=7
    )
    (batch,) = plan_flush(map_of(*things(20)), engine)
    assert [len(params) for params in batch.params] == [6] * 6 + [4]


def test_long_values_are_cut_by_length():
    """A statement stays below the packet size of servers."""
    from sojourn.unitofwork.batches import statements

    entities = [Typed(text="x" * 1_500_000) for _ in range(5)]
    (batch,) = plan_flush(map_of(*entities), engine_like("mariadb"))
    assert [(start, stop) for start, stop, _ in statements(batch, len(batch.shape.binds))] == [
        (0, 2),
        (2, 4),
        (4, 5),
    ]


def test_order_follows_foreign_keys():
    """A table comes after those it refers to, and otherwise as it came."""
    engine = engine_like("sqlite")
    child, thing, parent = (writer_for(cls.__mapper__, engine) for cls in (Child, Thing, Parent))
    assert order_writers([child, thing, parent]) == [parent, child, thing]
    assert order_writers([thing, parent, thing]) == [thing, parent]


def test_slots_are_read_when_their_turn_comes():
    """A value that an earlier batch makes is put into the rows just before they are sent."""
    parent = Parent(id=1)
    (batch,) = plan_flush(map_of(Child(id=1, parent_id=0)), engine_like("sqlite"))
    parent.id = 5
    batch.slots = [(0, 1, Slot(lambda: parent.id))]
    batch.fill_slots()
    assert batch.rows == [(1, 5)]


def test_composite_key_rows():
    """Rows of an UPDATE end with the parts of the key."""
    pair = Pair(left=1, right="r", name="a")
    identity = stored(pair)
    pair.name = "b"
    (batch,) = plan_flush(identity, engine_like("sqlite"))
    assert batch.rows == [("b", 1, "r")]
