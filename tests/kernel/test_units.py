"""The flush's loops: collecting values, grouping changes, writing replies back."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from typing import Any

import pytest

from sojourn.kernel import units
from sojourn.kernel.identity import IdentityMap
from sojourn.kernel.rows import EntitySlot, RowLoader
from sojourn.kernel.state import DELETED, DETACHED, PERSISTENT, state_of
from tests.kernel.entities import PERSON, POINT, Person, Point


def load(identity: IdentityMap, *rows: tuple[Any, ...]) -> list[Any]:
    slot = EntitySlot(PERSON, 0, PERSON.names, (0,), (0, 1, 2))
    return RowLoader([slot]).load(rows, identity)


def added(identity: IdentityMap, *people: Any) -> Any:
    for person in people:
        identity.add(state_of(person), person)
    return list(people)


PLAIN: Any = defaultdict(int)  # all types are plain parameters


def test_collecting_parameters() -> None:
    """One tuple per entity, or one per page of entities; what is not set counts as None."""
    people = [Person(name="Ada", age=1), Person(name="Bob"), Person(name="Cy", age=3)]
    names = ("name", "age")
    rows = [("Ada", 1), ("Bob", None), ("Cy", 3)]
    assert units.collect_values(people, names, None, PLAIN) == rows
    assert units.collect_values(people, names, None, None) == rows
    assert units.collect_pages(people, None, names, None, PLAIN, 2) == [("Ada", 1, "Bob", None), ("Cy", 3)]
    assert units.collect_values([], names, None, PLAIN) == []


def test_processors_convert_parameters() -> None:
    """A processor per column, None where there is nothing to do; what it raises comes through."""
    people = [Person(name="Ada", age=1)]
    assert units.collect_values(people, ("name", "age"), (str.upper, None), PLAIN) == [("ADA", 1)]
    with pytest.raises(ValueError, match="invalid literal"):
        units.collect_values(people, ("name",), (int,), PLAIN)


def test_values_that_are_no_parameters() -> None:
    """A type that is an SQL expression, or needs a processor and has none, sends the caller the other way."""
    kinds: Any = defaultdict(int, {float: 1, bytes: 2})
    assert units.collect_values([Person(age=1.5)], ("age",), (str,), kinds) is None
    assert units.collect_values([Person(age=b"x")], ("age",), None, kinds) is None
    assert units.collect_values([Person(age=b"x")], ("age",), (bytes.decode,), kinds) == [("x",)]


def test_keys_follow_the_values_of_a_page() -> None:
    """With states the parts of each key follow the entity's values."""
    identity = IdentityMap()
    people = load(identity, (1, "a", 1), (2, "b", 2))
    states = [state_of(p) for p in people]
    assert units.collect_pages(people, states, ("age",), None, PLAIN, 2) == [(1, 1, 2, 2)]


def test_new_entities_group_by_class_and_the_optional_columns_they_have() -> None:
    """Per class in the order of adding, cut where the set of optional columns with a value changes."""
    identity = IdentityMap()
    a, b = Person(name="a"), Person(name="b")
    c, d = Person(name="c", age=1), Person(name="d", age=None)
    point = Point(x=1)
    added(identity, a, b, point, c, d)
    groups = units.group_inserts(
        identity.new, lambda layout: (("age",) if layout is PERSON else (), (False,))
    )
    assert groups == {
        PERSON: [(0, [a, b], [state_of(a), state_of(b)]), (1, [c], [state_of(c)]), (0, [d], [state_of(d)])],
        POINT: [(0, [point], [state_of(point)])],
    }


def test_changes_group_by_class_and_columns() -> None:
    """One group per class and set of changed columns, whatever the order of setting; net zero is left out."""
    identity = IdentityMap()
    a, b, c, d = load(identity, (1, "a", 1), (2, "b", 2), (3, "c", 3), (4, "d", 4))
    a.name, a.age = "x", 9
    b.age, b.name = 9, "x"
    c.age = 9
    d.age = 9
    d.age = 4
    changes = units.collect_changes(identity.dirty)
    assert changes == {
        (PERSON, ("name", "age")): ([a, b], [state_of(a), state_of(b)]),
        (PERSON, ("age",)): ([c], [state_of(c)]),
    }


def test_deleted_and_unloaded_attributes_are_changes() -> None:
    """A deleted value becomes NULL; a value set over an unloaded one is a change whatever it is."""
    identity = IdentityMap()
    a, b = load(identity, (1, "a", 1), (2, "b", None))
    del a.age
    del b.age  # NULL already
    assert list(units.collect_changes(identity.dirty)) == [(PERSON, ("age",))]
    identity.expire_all()
    a.age = 1
    assert list(units.collect_changes(identity.dirty)) == [(PERSON, ("age",))]


def test_settling_an_insert_with_generated_keys() -> None:
    """Keys and generated values go to the right entities, which are persistent, clean and in the map."""
    identity = IdentityMap()
    a, b = added(identity, Person(name="a"), Person(name="b"))
    states = list(identity.new)
    units.settle_inserted(identity, PERSON, [a, b], states, [10, 11], ("age",), [(1,), (2,)])
    assert [(p.id, p.name, p.age) for p in (a, b)] == [(10, "a", 1), (11, "b", 2)]
    assert identity.find(PERSON, 11) is b
    assert identity.new == {}
    for state, key in zip(states, (10, 11), strict=True):
        assert (state.life, state.key, state.owner, state.committed) == (PERSISTENT, key, identity, None)


def test_settling_an_insert_with_own_keys() -> None:
    """Without keys from the database the entities' own are used; columns left out are known to be NULL."""
    identity = IdentityMap()
    (point,) = added(identity, Point(x=1, y=2))
    units.settle_inserted(identity, POINT, [point], [state_of(point)], nulls=("label", "x"))
    assert (identity.find(POINT, (1, 2)), vars(point)["label"], point.x) == (point, None, 1)
    (other,) = added(identity, Point())
    units.settle_inserted(identity, POINT, [other], [state_of(other)], [(3, 4)])
    assert (other.x, other.y, state_of(other).key) == (3, 4, (3, 4))


def test_an_insert_over_a_key_whose_row_was_gone() -> None:
    """The entity that had the key before is let go; the inserted one takes its place."""
    identity = IdentityMap()
    (old,) = load(identity, (1, "old", 1))
    (new,) = added(identity, Person(id=1, name="new"))
    units.settle_inserted(identity, PERSON, [new], [state_of(new)])
    assert identity.find(PERSON, 1) is new
    assert state_of(old).life == DETACHED


def test_settling_changes() -> None:
    """After a flush the current values are the database's."""
    identity = IdentityMap()
    a, b = load(identity, (1, "a", 1), (2, "b", 2))
    a.age = b.age = 9
    units.settle_clean(identity, [state_of(a)])
    assert (state_of(a).committed, list(identity.dirty.values())) == (None, [b])
    units.settle_clean(identity)
    assert (state_of(b).committed, identity.dirty) == (None, {})


def test_settling_a_changed_key() -> None:
    """An entity whose key was updated is found under the new one only, and keeps its other changes."""
    identity = IdentityMap()
    a, b = load(identity, (1, "a", 1), (2, "b", 2))
    a.id = 5
    units.settle_rekeyed(identity, state_of(a), a)
    units.settle_rekeyed(identity, state_of(b), b)
    assert (identity.find(PERSON, 5), identity.find(PERSON, 1), state_of(a).key) == (a, None, 5)
    assert state_of(a).committed == {"id": 1}
    assert identity.find(PERSON, 2) is b


def test_settling_a_delete() -> None:
    """A deleted entity leaves the map and is DELETED until its transaction ends."""
    identity = IdentityMap()
    a, b = load(identity, (1, "a", 1), (2, "b", 2))
    a.age = 5
    identity.deleted[state_of(a)] = a
    units.settle_deleted(identity, [state_of(a)])
    assert (state_of(a).life, state_of(a).deleted, identity.find(PERSON, 1)) == (DELETED, True, None)
    assert (identity.deleted, identity.dirty, identity.find(PERSON, 2)) == ({}, {}, b)


def test_run_each_returns_each_row_id() -> None:
    """One INSERT per row, and its id for each; an error in the middle comes through."""
    connection = sqlite3.connect(":memory:")
    connection.execute("create table t (id integer primary key, a unique)")
    insert = "insert into t (a) values (?)"
    assert units.run_each(connection.cursor(), insert, [("x",), ("y",)]) == [1, 2]
    with pytest.raises(sqlite3.IntegrityError):
        units.run_each(connection.cursor(), insert, [("z",), ("x",)])
    connection.close()
