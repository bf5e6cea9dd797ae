"""What a flush stores, on every database: keys, defaults, changes, deletions, refusals."""

from __future__ import annotations

import datetime
import decimal
import random
import uuid
import warnings

import pytest
import sqlalchemy as sa

from sojourn import errors, func, inspect, select, text
from sojourn.orm import Session
from tests.unitofwork.shop import (
    Base,
    Child,
    Colour,
    Counted,
    Keyed,
    Pair,
    Parent,
    Plain,
    Renamed,
    Stamped,
    Thing,
    Typed,
)

SIZES = (1, 2, 14, 16, 60, 430)


@pytest.fixture
def engine(db):
    """An engine on empty tables."""
    engine = db.create_engine()
    Base.metadata.create_all(engine)
    return engine


@pytest.fixture
def session(engine):
    """A session that is closed at the end."""
    with Session(engine) as session:
        yield session


def stored(session, entity, *columns):
    """Return rows as the table has them, past the session's entities."""
    table = entity.__table__
    return session.connection().execute(sa.select(*(columns or table.c)).order_by(*table.primary_key)).all()


@pytest.mark.parametrize("count", SIZES)
def test_generated_keys_belong_to_their_entities(session, count):
    """Whatever the technique, key k belongs to the entity whose row has key k (I1)."""
    things = [Thing(name=f"n{n}", rank=random.randrange(1000)) for n in range(count)]
    session.add_all(things)
    session.flush()
    rows = {row.id: row for row in stored(session, Thing)}
    assert len(rows) == count
    assert [(rows[t.id].name, rows[t.id].rank) for t in things] == [(t.name, t.rank) for t in things]
    assert [t.id for t in things] == sorted(t.id for t in things)
    assert all(inspect(t).persistent for t in things)
    assert session.get(Thing, things[-1].id) is things[-1]


@pytest.mark.parametrize("count", SIZES)
def test_changes_and_deletions_reach_their_rows(session, count):
    """UPDATE and DELETE of any number of entities hit the right rows and count them."""
    things = [Thing(name=f"n{n}", rank=n) for n in range(count + 5)]
    session.add_all(things)
    session.commit()
    random.shuffle(things)
    for n, thing in enumerate(things[:count]):
        thing.name = f"changed {n}"
    session.commit()
    rows = {row.id: row.name for row in stored(session, Thing)}
    assert [rows[t.id] for t in things] == [t.name for t in things]
    kept = things[count:]
    for thing in things[:count]:
        session.delete(thing)
    session.commit()
    assert {row.id for row in stored(session, Thing)} == {t.id for t in kept}
    assert all(inspect(t).detached for t in things[:count])


def test_own_keys_between_generated_ones(session):
    """Entities with a key of their own and without may come in any order."""
    things = [
        Thing(id=1000 + n, name=f"own {n}") if n % 3 == 0 else Thing(name=f"made {n}") for n in range(12)
    ]
    session.add_all(things)
    session.flush()
    rows = {row.id: row.name for row in stored(session, Thing)}
    assert [rows[t.id] for t in things] == [t.name for t in things]
    assert [t.id for t in things if t.name.startswith("own")] == [1000, 1003, 1006, 1009]


@pytest.mark.parametrize("count", [1, 3, 70])
def test_defaults_of_every_kind(session, count):
    """Python's, SQL's and the server's defaults are stored, and known to the entity without asking."""
    entities = [Stamped(name=f"n{n}") for n in range(count)]
    session.add_all(entities)
    session.flush()
    for entity, row in zip(entities, stored(session, Stamped), strict=True):
        assert (row.fixed, row.shout, row.expressed, row.served) == (
            "fixed", entity.name.upper(), "sql", "served",
        )  # fmt: skip
        assert (entity.fixed, entity.shout, entity.expressed, entity.served) == tuple(row)[2:3] + tuple(row)[
            4:7
        ]
        assert entity.called == row.called
    assert len({e.called for e in entities}) == count


def test_none_means_no_value_where_there_is_a_default(session):
    """An explicit None for a column with a default is "no value", as in SQLAlchemy; NULL elsewhere."""
    entity = Stamped(id=None, name=None, fixed=None, served=None, touched=None)
    session.add(entity)
    session.flush()
    assert (entity.name, entity.fixed, entity.served) == (None, "fixed", "served")


def test_given_values_win_over_defaults(session):
    """A value given is stored in place of each kind of default."""
    given = {"fixed": "f", "called": -1, "shout": "s", "expressed": "e", "served": "v"}
    session.add(Stamped(name="x", **given))
    session.flush()
    row = stored(session, Stamped)[0]._mapping
    assert {name: row[name] for name in given} == given


@pytest.mark.parametrize("count", [1, 3, 70])
def test_onupdate_of_every_kind(session, count):
    """A change of another column brings its onupdate values; untouched rows keep theirs."""
    entities = [Stamped(name=f"n{n}") for n in range(count)]
    session.add_all(entities)
    session.commit()
    assert {e.touched for e in entities} == {None}
    for entity in entities:
        entity.name += "!"
    session.flush()
    rows = {row.id: row for row in stored(session, Stamped)}
    for entity in entities:
        row = rows[entity.id]
        assert row.touched == entity.touched is not None
        assert row.touched_by == entity.touched_by == "update"


@pytest.mark.parametrize("count", [1, 40])
def test_keys_made_by_python_with_server_defaults(session, count):
    """Own keys find their entity again when other columns come back."""
    entities = [Keyed(name=f"n{n}") for n in range(count)]
    session.add_all(entities)
    session.flush()
    rows = {row.id: row for row in stored(session, Keyed)}
    assert [rows[e.id].name for e in entities] == [e.name for e in entities]
    assert {e.served for e in entities} == {"served"}
    assert all(isinstance(e.id, uuid.UUID) for e in entities)


def test_composite_keys(session):
    """Composite keys are inserted, updated, moved and deleted."""
    pairs = [Pair(left=n, right=f"r{n}", name="a") for n in range(30)]
    session.add_all(pairs)
    session.commit()
    for pair in pairs[:20]:
        pair.name = f"b{pair.left}"
    pairs[3].right = "moved"
    session.flush()
    assert session.get(Pair, (3, "moved")) is pairs[3]
    assert session.get(Pair, (3, "r3")) is None
    for pair in pairs[10:]:
        session.delete(pair)
    session.commit()
    assert [(row.left, row.right, row.name) for row in stored(session, Pair)] == [
        (n, "moved" if n == 3 else f"r{n}", f"b{n}") for n in range(10)
    ]


def test_key_change_moves_the_entity_and_rollback_moves_it_back(session):
    """A changed primary key is the identity from the flush on, until a rollback."""
    thing = Thing(name="x")
    session.add(thing)
    session.commit()
    old = thing.id
    thing.id = 5000
    session.flush()
    assert session.get(Thing, 5000) is thing
    session.rollback()
    assert thing.id == old
    assert session.get(Thing, old) is thing


def test_setting_the_same_value_sends_nothing(session):
    """A net-zero change is no change."""
    thing = Thing(name="x", rank=1)
    session.add(thing)
    session.commit()
    assert thing.name == "x"
    thing.name = "y"
    thing.name = "x"
    assert str(session.plan()) == "FlushPlan  0 batches, 0 rows"
    session.flush()
    assert not session.dirty


def test_deleted_attribute_becomes_null(session):
    """`del thing.name` stores NULL."""
    thing = Thing(name="x")
    session.add(thing)
    session.commit()
    assert thing.name == "x"
    del thing.name
    session.commit()
    assert thing.name is None


@pytest.mark.parametrize("count", [1, 2, 70])
def test_converted_types_round_trip(session, count):
    """Types that convert in Python pass through every technique unharmed."""
    entities = []
    for n in range(count):
        some = n % 4 != 3  # every fourth row is all NULL
        entities.append(
            Typed(
                day=datetime.date(2020, 1, 1 + n % 28) if some else None,
                at=datetime.datetime(2020, 1, 1, 2, 3, n % 60) if some else None,
                price=decimal.Decimal(n) / 4 if some else None,
                weight=n / 8 if some else None,
                flag=n % 2 == 0 if some else None,
                colour=Colour.RED if some else None,
                data={"n": n, "list": [1, None]} if some else None,
                blob=bytes([n % 256, 0, 255]) if some else None,
                guid=uuid.UUID(int=n) if some else None,
                text="ä" * n + "%s %(x)s $1 ?" if some else None,
            )
        )
    session.add_all(entities)
    session.commit()
    columns = [c.key for c in Typed.__table__.c]
    before = {e.id: [getattr(e, name) for name in columns] for e in entities}
    session.expire_all()
    assert {e.id: [getattr(e, name) for name in columns] for e in entities} == before
    for entity in entities:
        entity.price = decimal.Decimal("1.25")
        entity.data = {"changed": True}
        entity.flag = None
        entity.at = datetime.datetime(2021, 1, 1)
    session.commit()
    session.expire_all()
    assert {(e.price, e.data["changed"], e.flag, e.at) for e in entities} == {
        (decimal.Decimal("1.25"), True, None, datetime.datetime(2021, 1, 1))
    }


def test_sql_expressions_as_values(session):
    """An SQL expression is computed by the database, row by row, and its value read when asked for."""
    things = [Thing(name="a"), Thing(name=func.upper("b")), Thing(name="c")]
    session.add_all(things)
    session.flush()
    assert [t.name for t in things] == ["a", "B", "c"]
    assert [t.id for t in things] == sorted(t.id for t in things)
    things[0].rank = 5
    session.flush()
    things[0].rank = Thing.rank + 1
    things[1].rank = 7
    session.commit()
    assert [t.rank for t in things] == [6, 7, None]


def test_tables_in_the_order_of_their_foreign_keys(session):
    """Parents are inserted before their children and deleted after them, however they were added."""
    session.add_all([Child(id=1, parent_id=1), Parent(id=1)])
    assert [(b.kind, b.writer.entity) for b in session.plan()] == [("INSERT", "Parent"), ("INSERT", "Child")]
    session.commit()
    for entity in (session.get(Parent, 1), session.get(Child, 1)):
        session.delete(entity)
    assert [(b.kind, b.writer.entity) for b in session.plan()] == [("DELETE", "Child"), ("DELETE", "Parent")]
    session.commit()


def test_rows_of_a_deleted_key_are_taken_over(session):
    """Deleting an entity and adding another under its key in one flush updates the row."""
    session.add(Plain(code="a", name="old"))
    session.commit()
    old = session.get(Plain, "a")
    new = Plain(code="a", name="new")
    session.delete(old)
    session.add(new)
    session.commit()
    assert session.get(Plain, "a") is new
    assert new.name == "new"
    assert inspect(old).detached


def test_names_of_columns_and_attributes_may_differ(session):
    """Values go to the column an attribute stands for, however it is named."""
    first = Renamed(title="x")
    session.add_all([first, *(Renamed(title=str(n)) for n in range(70))])
    session.commit()
    first.title = "y"
    session.commit()
    rows = stored(session, Renamed)
    assert rows[0][1] == first.title == "y"
    assert len(rows) == 71


# -- versions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3, 70])
def test_versions_count(session, count):
    """A version starts at 1 and rises with each UPDATE; the statement checks it (G8)."""
    entities = [Counted(name="a") for _ in range(count)]
    session.add_all(entities)
    session.commit()
    assert {e.version for e in entities} == {1}
    for entity in entities:
        entity.name = "b"
    session.flush()
    assert {e.version for e in entities} == {2}
    session.commit()
    for entity in entities:  # expired: their versions are read before the statement
        entity.name = "c"
    session.commit()
    assert {row.version for row in stored(session, Counted)} == {3}
    assert {e.version for e in entities} == {3}
    for entity in entities:
        session.delete(entity)
    session.commit()
    assert stored(session, Counted) == []


@pytest.mark.parametrize("count", [1, 5])
def test_stale_version_is_refused_and_named(session, engine, count):
    """An entity changed by somebody else since it was loaded is not overwritten (G8)."""
    entities = [Counted(name="a") for _ in range(count)]
    session.add_all(entities)
    session.commit()
    assert {e.version for e in entities} == {1}
    key = entities[0].id
    session.rollback()
    for entity in entities:
        entity.name = "mine"
        assert entity.version == 1
    table = Counted.__table__
    session.connection().execute(
        sa.update(table).where(table.c.id == key).values(version=9)
    )  # as if somebody else had committed it
    with pytest.raises(errors.StaleDataError, match=f"in another version: Counted {key}"):
        session.flush()
    session.rollback()
    assert {e.name for e in entities} == {"a"}


@pytest.mark.parametrize("count", [1, 5, 70])
def test_updated_row_that_is_gone(session, count):
    """An UPDATE that finds fewer rows than entities raises StaleDataError and names the missing."""
    things = [Thing(name="a") for _ in range(count)]
    session.add_all(things)
    session.commit()
    for thing in things:
        thing.name = "b"
    gone = things[count // 2].id
    session.connection().execute(sa.delete(Thing.__table__).where(Thing.__table__.c.id == gone))
    with pytest.raises(
        errors.StaleDataError, match=f"{count - 1} were matched. gone: Thing {gone}"
    ) as caught:
        session.flush()
    assert caught.value.keys == [gone]


def test_deleted_row_that_is_gone(session):
    """A DELETE that finds fewer rows than entities warns, as SQLAlchemy does."""
    things = [Thing(name="a") for _ in range(3)]
    session.add_all(things)
    session.commit()
    for thing in things:
        session.delete(thing)
    session.connection().execute(sa.delete(Thing.__table__).where(Thing.__table__.c.id == things[1].id))
    with pytest.warns(sa.exc.SAWarning, match="expected to delete 3 row"):
        session.flush()


def test_updating_to_the_stored_value_counts_as_matched(session):
    """Rows whose value is already the new one are found (MariaDB counts changed rows by default)."""
    things = [Thing(name="a") for _ in range(3)]
    session.add_all(things)
    session.commit()
    session.connection().execute(sa.update(Thing.__table__).values(name="b"))
    for thing in things:
        thing.name = "b"
    session.commit()


# -- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attribute", "value"), [("day", "not a date"), ("colour", 5), ("data", {"x": object()}), ("guid", 5)]
)
def test_refused_value_is_named_and_nothing_is_lost(session, attribute, value, db):
    """A value its type refuses is reported before anything is sent; pending work stays."""
    if (attribute in ("day", "guid") and db.dialect != "sqlite") or (attribute, db.name) == (
        "data",
        "psycopg",
    ):
        pytest.skip("not applicable: the driver converts this type, not Python")
    session.add(Thing(name="first"))
    bad = Typed(**{attribute: value})
    session.add_all([Typed(), bad, Typed()])
    with pytest.raises(errors.ValueRefused) as caught:
        session.flush()
    assert (caught.value.entity, caught.value.attribute) == ("Typed", attribute)
    assert len(session.new) == 4
    setattr(bad, attribute, None)
    session.commit()
    assert len(stored(session, Typed)) == 3


def test_entity_as_a_value_is_refused(session):
    """An entity is no column value."""
    session.add(Thing(name=Thing(name="x")))
    with pytest.raises(errors.ValueRefused, match=r"Thing\.name"):
        session.flush()
    assert len(session.new) == 1


def test_missing_key_is_named_before_anything_is_sent(session):
    """A key that neither the program nor the database makes is asked for by name."""
    session.add_all([Thing(name="x"), Plain(name="y")])
    with pytest.raises(errors.FlushKeyMissing, match=r"A new Plain has no value for its key code"):
        session.flush()
    assert len(session.new) == 2
    assert stored(session, Thing) == []


# -- rollback ------------------------------------------------------------------------------------


def test_rollback_restores_states(session):
    """After a rollback inserted entities are transient, deleted ones persistent, changed ones as stored."""
    kept, gone = Thing(name="kept"), Thing(name="gone")
    session.add_all([kept, gone])
    session.commit()
    kept.name = "changed"
    session.delete(gone)
    new = [Thing(name="new") for _ in range(20)]
    session.add_all(new)
    session.flush()
    assert inspect(gone).deleted
    session.rollback()
    assert all(inspect(t).transient for t in new)
    assert inspect(gone).persistent
    assert (kept.name, gone.name, new[0].name) == ("kept", "gone", "new")
    assert session.get(Thing, gone.id) is gone


def test_failed_statement_restores_everything(session):
    """A flush that fails half-way leaves no entity half-stored."""
    session.add(Plain(code="a", name="there"))
    session.commit()
    thing, twin = Thing(name="x"), Plain(code="a", name="twin")
    session.expunge_all()
    session.add_all([thing, twin])
    with pytest.raises(sa.exc.IntegrityError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        session.flush()
    session.rollback()
    assert inspect(thing).transient
    assert inspect(twin).transient
    session.add(thing)
    session.commit()
    assert thing.name == "x"
    assert session.scalars(select(Plain.name)).all() == ["there"]


# -- triggers ------------------------------------------------------------------------------------

ECHO = (
    "CREATE TRIGGER t_after AFTER INSERT ON thing WHEN NEW.name LIKE 'n%' "
    "BEGIN INSERT INTO thing (name) VALUES ('echo'); END"
)
CHOOSE = (
    "CREATE FUNCTION choose() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN NEW.id := 1000000 - mod(NEW.id * 7919, 65537); RETURN NEW; END $$"
)
FIRE = "CREATE TRIGGER t_before BEFORE INSERT ON thing FOR EACH ROW"
TRIGGERS = {
    "sqlite": [ECHO],  # a row of its own in the same table for each one
    "postgresql": [CHOOSE, f"{FIRE} EXECUTE FUNCTION choose()"],  # keys whose order says nothing
    "mysql": [f"{FIRE} SET NEW.rank = NEW.rank + 1"],
}


@pytest.mark.parametrize("count", [1, 10, 30, 200])
def test_keys_are_right_under_triggers(session, engine, db, count):
    """Triggers that add rows or choose keys do not mix up which key belongs to which entity."""
    with engine.begin() as connection:
        for statement in TRIGGERS[db.dialect]:
            connection.exec_driver_sql(statement)
    things = [Thing(name=f"n{n}", rank=n) for n in range(count)]
    session.add_all(things)
    session.commit()
    rows = dict(session.connection().execute(sa.select(Thing.__table__.c.id, Thing.__table__.c.name)).all())
    assert [rows[t.id] for t in things] == [f"n{n}" for n in range(count)]
    more = [Thing(name=f"n{n} again", rank=n) for n in range(count)]
    session.add_all(more)
    session.commit()
    rows = dict(session.connection().execute(sa.select(Thing.__table__.c.id, Thing.__table__.c.name)).all())
    assert [rows[t.id] for t in more] == [f"n{n} again" for n in range(count)]


def test_skipped_row_is_noticed(engine, db):
    """A trigger that drops a row never gives its entity another row's key."""
    if db.dialect != "sqlite":
        pytest.skip("not applicable: written for SQLite's RAISE(IGNORE)")
    with engine.begin() as connection:
        connection.execute(
            text(
                "CREATE TRIGGER t BEFORE INSERT ON thing WHEN NEW.name = 'no' BEGIN SELECT RAISE(IGNORE); END"
            )
        )
    for count in (2, 40):
        with Session(engine) as session:
            session.add_all([Thing(name="yes"), Thing(name="no"), *(Thing(name="x") for _ in range(count))])
            with pytest.raises(errors.KeysUnmatched):
                session.flush()


def test_concurrent_inserts_keep_keys_apart(engine, db):
    """Two sessions that insert in turn each get their own keys."""
    if db.dialect == "sqlite":
        pytest.skip("not applicable: one writer at a time")
    with Session(engine) as one, Session(engine) as two:
        mine = [Thing(name=f"one {n}") for n in range(120)]
        others = [Thing(name=f"two {n}") for n in range(120)]
        for start in range(0, 120, 30):
            one.add_all(mine[start : start + 30])
            one.flush()
            two.add_all(others[start : start + 30])
            two.flush()
        one.commit()
        two.commit()
        rows = {row.id: row.name for row in stored(one, Thing)}
        assert [rows[t.id] for t in mine] == [f"one {n}" for n in range(120)]
        two.expire_all()
        assert [rows[t.id] for t in others] == [f"two {n}" for n in range(120)]
