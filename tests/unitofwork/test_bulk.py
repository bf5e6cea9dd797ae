"""Statements and rows in bulk, on every database."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from sojourn import delete, errors, func, insert, inspect, select, update
from sojourn.orm import Session
from tests.unitofwork.shop import Base, Counted, Pair, Renamed, Stamped, Thing, Typed


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


@pytest.fixture
def things(session):
    """Five stored things, loaded."""
    things = [Thing(name=f"n{n}", rank=n) for n in range(5)]
    session.add_all(things)
    session.commit()
    assert session.scalars(select(Thing).order_by(Thing.id)).all() == things
    return things


def rows_of(session, entity):
    """Return the table's rows as dictionaries, past the session's entities."""
    table = entity.__table__
    found = session.connection().execute(sa.select(table).order_by(*table.primary_key)).mappings()
    return [dict(row) for row in found]


# -- rows as dictionaries ------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 3, 60, 450])
def test_insert_of_dictionaries(session, count):
    """A list of dictionaries becomes rows, in few statements."""
    given = [{"name": f"n{n}", "rank": n} for n in range(count)]
    if count:
        assert session.execute(insert(Thing), given).rowcount == count
    else:
        session.bulk_insert_mappings(Thing, given)
    assert [(row["name"], row["rank"]) for row in rows_of(session, Thing)] == [
        (f"n{n}", n) for n in range(count)
    ]
    assert given == [{"name": f"n{n}", "rank": n} for n in range(count)]


def test_dictionaries_with_different_keys(session):
    """Rows need not have the same keys; what is missing gets its default, or NULL."""
    session.bulk_insert_mappings(
        Thing, [{"name": "a"}, {"rank": 2}, {"rank": 3}, {"name": "d", "rank": 4}, {"id": 77, "name": "e"}]
    )
    stored = {(row["name"], row["rank"]) for row in rows_of(session, Thing)}
    assert stored == {("a", None), (None, 2), (None, 3), ("d", 4), ("e", None)}
    assert rows_of(session, Thing)[-1]["id"] == 77


@pytest.mark.parametrize("count", [1, 60])
def test_dictionaries_get_defaults(session, count):
    """Defaults of every kind are filled in, also for an explicit None (I2, CF-11)."""
    session.bulk_insert_mappings(Stamped, [{"name": f"n{n}", "fixed": None} for n in range(count)])
    for n, row in enumerate(rows_of(session, Stamped)):
        assert (row["fixed"], row["shout"], row["expressed"], row["served"]) == (
            "fixed",
            f"N{n}",
            "sql",
            "served",
        )
        assert row["called"] is not None


def test_nulls_on_request(session):
    """`render_nulls` stores None as NULL in place of a default."""
    session.bulk_insert_mappings(Stamped, [{"name": "x", "fixed": None}], render_nulls=True)
    assert rows_of(session, Stamped)[0]["fixed"] is None


@pytest.mark.parametrize("count", [1, 30])
def test_defaults_written_into_dictionaries(session, count):
    """`return_defaults` tells the dictionaries their keys."""
    given = [{"name": f"n{n}"} for n in range(count)]
    session.bulk_insert_mappings(Thing, given, return_defaults=True)
    names = {row["id"]: row["name"] for row in rows_of(session, Thing)}
    assert [names[row["id"]] for row in given] == [f"n{n}" for n in range(count)]


def test_unknown_key_is_named_before_anything_is_sent(session):
    """A misspelt key is reported with its row (I3)."""
    given = [{"name": "a"}] * 4 + [{"nmae": "b"}]
    with pytest.raises(errors.BulkKey, match=r"Row 5 has the key 'nmae'.*Did you mean 'name'") as caught:
        session.execute(insert(Thing), given)
    assert (caught.value.key, caught.value.row) == ("nmae", 5)
    with pytest.raises(errors.BulkKey, match="Row 2"):
        session.bulk_update_mappings(Thing, [{"id": 1, "name": "a"}, {"id": 2, "nmae": "b"}])
    assert rows_of(session, Thing) == []


def test_refused_value_in_a_dictionary(session):
    """A value its type refuses is reported by attribute, and nothing is sent."""
    with pytest.raises(errors.ValueRefused, match=r"Typed\.colour"):
        session.bulk_insert_mappings(Typed, [{"text": "fine"}, {"colour": 5, "text": "x"}])
    assert rows_of(session, Typed) == []


def test_expressions_in_dictionaries(session):
    """SQL expressions are values too."""
    session.execute(insert(Thing), [{"name": "a"}, {"name": func.upper("b")}, {"name": "c"}])
    assert [row["name"] for row in rows_of(session, Thing)] == ["a", "B", "c"]


@pytest.mark.parametrize("count", [1, 3, 80])
def test_update_by_dictionaries(session, count):
    """Rows are found by the key in each dictionary; entities of the session learn the new values."""
    things = [Thing(name=f"n{n}", rank=n) for n in range(count)]
    session.add_all(things)
    session.commit()
    keys = [t.id for t in things]
    session.execute(update(Thing), [{"id": key, "name": f"new {key}"} for key in keys])
    assert [t.name for t in things] == [f"new {key}" for key in keys]
    session.bulk_update_mappings(Thing, [{"id": key, "rank": -key} for key in keys])
    session.commit()
    assert [(t.name, t.rank) for t in things] == [(f"new {key}", -key) for key in keys]


def test_update_by_dictionaries_checks_rows(session, things):
    """A key without a row is named."""
    with pytest.raises(errors.StaleDataError, match="gone: Thing 4711"):
        session.execute(update(Thing), [{"id": things[0].id, "name": "x"}, {"id": 4711, "name": "y"}])


def test_update_by_dictionaries_checks_versions(session):
    """The version in a dictionary is the one expected; it rises."""
    session.add(Counted(id=1, name="a"))
    session.commit()
    session.bulk_update_mappings(Counted, [{"id": 1, "name": "b", "version": 1}])
    assert rows_of(session, Counted)[0] == {"id": 1, "name": "b", "version": 2}
    with pytest.raises(errors.StaleDataError):
        session.bulk_update_mappings(Counted, [{"id": 1, "name": "c", "version": 1}])


def test_bulk_save_objects(session, things):
    """Entities are written without becoming part of the session."""
    things[0].name = "changed"
    session.expunge(things[0])
    new = [Thing(name=f"new {n}") for n in range(30)]
    session.bulk_save_objects([*new, things[0]])
    stored = {row["name"] for row in rows_of(session, Thing)}
    assert {"changed", "new 0", "new 29"} <= stored
    assert all(inspect(t).transient for t in new)
    again = [Thing(name="told")]
    session.bulk_save_objects(again, return_defaults=True)
    assert again[0].id == rows_of(session, Thing)[-1]["id"]


def test_names_of_columns_and_attributes_may_differ(session):
    """Keys are attribute names, in dictionaries and in values()."""
    session.execute(insert(Renamed), [{"title": "a"}, {"title": "b"}])
    session.execute(insert(Renamed).values(title="c"))
    session.execute(update(Renamed).where(Renamed.title == "a").values(title="A"))
    session.execute(update(Renamed).where(Renamed.title == "b").values({Renamed.title: "B"}))
    assert [row["the title"] for row in rows_of(session, Renamed)] == ["A", "B", "c"]


# -- INSERT statements ---------------------------------------------------------------------------


def test_insert_values(session):
    """insert(Thing).values(...) fills defaults, one row or several."""
    session.execute(insert(Stamped).values(name="a"))
    session.execute(insert(Stamped).values([{"name": "b", "shout": "x"}, {"name": "c", "shout": "y"}]))
    assert [(row["name"], row["fixed"]) for row in rows_of(session, Stamped)] == [
        ("a", "fixed"), ("b", "fixed"), ("c", "fixed"),
    ]  # fmt: skip


def test_insert_returning_entities(session):
    """RETURNING hands out entities of the session."""
    found = session.scalars(insert(Thing).returning(Thing), [{"name": "a"}, {"name": "b"}]).all()
    assert sorted(t.name for t in found) == ["a", "b"]
    assert all(session.get(Thing, t.id) is t for t in found)
    ((key, name),) = session.execute(insert(Thing).values(name="c").returning(Thing.id, Thing.name)).all()
    assert (key, name) == (rows_of(session, Thing)[-1]["id"], "c")


# -- UPDATE and DELETE statements ----------------------------------------------------------------

HOW = ["auto", "evaluate", "fetch"]


@pytest.mark.parametrize("how", HOW)
def test_update_tells_loaded_entities(session, things, how):
    """Matching entities have the new values, whichever way they are found."""
    statement = update(Thing).where(Thing.rank >= 3).values(rank=Thing.rank + 10, name="big")
    result = session.execute(statement, execution_options={"synchronize_session": how})
    assert result.rowcount == 2
    assert [(t.name, t.rank) for t in things] == [("n0", 0), ("n1", 1), ("n2", 2), ("big", 13), ("big", 14)]
    assert not session.dirty
    session.commit()
    assert [t.rank for t in things] == [0, 1, 2, 13, 14]


def test_update_without_synchronising(session, things):
    """False leaves loaded entities as they are."""
    session.execute(update(Thing).values(name="x"), execution_options={"synchronize_session": False})
    assert things[0].name == "n0"
    session.expire_all()
    assert things[0].name == "x"


def test_criteria_only_the_database_can_evaluate(session, things):
    """The word "auto" asks the database, "evaluate" refuses and names the way out."""
    statement = update(Thing).where(func.length(Thing.name) == 2, Thing.rank > 3).values(name=func.upper("x"))
    with pytest.raises(errors.SojournError, match="fetch"):
        session.execute(statement, execution_options={"synchronize_session": "evaluate"})
    assert session.execute(statement).rowcount == 1
    assert [t.name for t in things] == ["n0", "n1", "n2", "n3", "X"]


def test_update_expires_what_the_database_sets(session):
    """Columns with onupdate are read again after an UPDATE by criteria."""
    entity = Stamped(name="a")
    session.add(entity)
    session.commit()
    assert entity.touched_by is None
    session.execute(update(Stamped).where(Stamped.id == entity.id).values(name="b"))
    assert (entity.name, entity.touched_by) == ("b", "update")


def test_expired_entities_are_read_again(session, things):
    """An entity of which the criteria cannot be told is expired, not guessed at."""
    session.expire(things[1])
    session.execute(update(Thing).where(Thing.rank == 1).values(name="x"))
    assert [t.name for t in things] == ["n0", "x", "n2", "n3", "n4"]


@pytest.mark.parametrize("how", HOW)
def test_delete_takes_entities_out(session, things, how):
    """Deleted entities leave the session; a rollback brings them back."""
    keys = [t.id for t in things]
    statement = delete(Thing).where(Thing.rank.in_([1, 2]))
    assert session.execute(statement, execution_options={"synchronize_session": how}).rowcount == 2
    assert [t in session for t in things] == [True, False, False, True, True]
    assert inspect(things[1]).deleted
    session.rollback()
    assert [session.get(Thing, key) for key in keys] == things
    session.execute(statement)
    session.commit()
    assert inspect(things[1]).detached


def test_composite_keys_are_synchronised(session):
    """Entities with composite keys are found by "fetch" as well."""
    pairs = [Pair(left=n, right="r", name="a") for n in range(3)]
    session.add_all(pairs)
    session.commit()
    statement = update(Pair).where(Pair.left > 0).values(name="b")
    session.execute(statement, execution_options={"synchronize_session": "fetch"})
    assert [p.name for p in pairs] == ["a", "b", "b"]


def test_text_is_compared_as_the_database_does(session, db):
    """On MariaDB "BOB" equals "bob"; "auto" leaves that to the database."""
    thing = Thing(name="Bob")
    session.add(thing)
    session.commit()
    assert thing.name == "Bob"
    matched = session.execute(update(Thing).where(Thing.name == "bob").values(rank=1)).rowcount
    assert matched == (1 if db.dialect == "mysql" else 0)
    assert thing.rank == (1 if matched else None)


def test_update_returning_entities(session, things, db):
    """RETURNING hands out the session's entities with their new values."""
    if db.dialect == "mysql":
        pytest.skip("not applicable: MariaDB has no UPDATE ... RETURNING")
    found = session.scalars(update(Thing).where(Thing.rank < 2).values(name="low").returning(Thing)).all()
    assert sorted(found, key=lambda t: t.id) == things[:2]
    assert [t.name for t in things] == ["low", "low", "n2", "n3", "n4"]


def test_wrong_word_for_synchronising(session, things):
    """An unknown synchronize_session is refused."""
    with pytest.raises(errors.WrongStatement, match="synchronize_session='later'"):
        session.execute(update(Thing).values(name="x"), execution_options={"synchronize_session": "later"})
