"""Row loading: entities, values and mixtures of rows, on fresh, known, expired and changed entities."""

from __future__ import annotations

import gc
import sqlite3
from collections import namedtuple
from typing import Any

import pytest

from sojourn.kernel import COMPILED
from sojourn.kernel.identity import IdentityMap
from sojourn.kernel.layout import Layout
from sojourn.kernel.rows import ColumnSlot, EntitySlot, RowLoader
from sojourn.kernel.state import PERSISTENT, STATE, SharedState, state_of
from sojourn.symbols import REFRESH
from tests.kernel.entities import PERSON, POINT, Person, make_class


def person_slot(*, offset: int = 0, processors: tuple[Any, ...] | None = None) -> EntitySlot:
    places = (offset, offset + 1, offset + 2)
    return EntitySlot(PERSON, offset, PERSON.names, (offset,), places, processors)


def test_entities_are_made_without_init() -> None:
    """A single entity per row comes as itself, filled, clean and persistent."""
    identity = IdentityMap()
    loader = RowLoader([person_slot()])
    assert loader.is_entity
    people = loader.load([(1, "Ada", 36), (2, "Bob", None)], identity)
    assert [(type(p), p.id, p.name, p.age) for p in people] == [
        (Person, 1, "Ada", 36),
        (Person, 2, "Bob", None),
    ]
    assert type(vars(people[0])[STATE]) is SharedState
    assert state_of(people[0]).life == PERSISTENT
    assert not identity.dirty


def test_the_same_key_gives_the_same_entity() -> None:
    """Rows with one key, in one result or in two, give one entity."""
    identity = IdentityMap()
    loader = RowLoader([person_slot()])
    one, two = loader.load([(1, "Ada", 36), (1, "Ada", 36)], identity)
    assert one is two is loader.load([(1, "other", 0)], identity)[0]
    assert one.name == "Ada"


def test_key_of_none_is_no_entity() -> None:
    """An outer join that found nothing gives None; a composite key only when all of it is None."""
    identity = IdentityMap()
    assert RowLoader([person_slot()]).load([(None, None, None)], identity) == [None]
    slot = EntitySlot(POINT, 0, ("x", "y"), (0, 1), (0, 1))
    none, half = RowLoader([slot]).load([(None, None), (1, None)], identity)
    assert (none, half.x, state_of(half).key) == (None, 1, (1, None))


def test_any_sequence_is_a_row() -> None:
    """Tuples, their subclasses, lists and sqlite3.Row are rows."""
    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    cursor = connection.execute("select 3, 'Row', 5")
    named = namedtuple("named", "a b c")
    identity = IdentityMap()
    rows = [(1, "tuple", 1), named(2, "named", 2), [4, "list", 4], *cursor.fetchall()]
    assert [p.name for p in RowLoader([person_slot()]).load(rows, identity)] == [
        "tuple",
        "named",
        "list",
        "Row",
    ]
    assert RowLoader([ColumnSlot(1)]).load([[0, 5]], identity) == [(5,)]
    connection.close()


def test_processors_convert_values_and_keys() -> None:
    """A processor sees each value of its column once per new entity; keys in the map are converted too."""
    identity = IdentityMap()
    slot = person_slot(processors=(int, str.upper, None))
    loader = RowLoader([slot])
    (ada,) = loader.load([("1", "ada", 36)], identity)
    assert (ada.id, ada.name, identity.find(PERSON, 1)) == (1, "ADA", ada)
    assert loader.load([("1", "x", 0)], identity) == [ada]
    composite = EntitySlot(POINT, 0, ("x", "y"), (0, 1), (0, 1), (int, None))
    (point,) = RowLoader([composite]).load([("1", 2)], identity)
    assert state_of(point).key == (1, 2)


def test_columns_may_lie_anywhere_in_the_row() -> None:
    """Positions are absolute and in any order."""
    identity = IdentityMap()
    slot = EntitySlot(PERSON, 0, ("age", "id", "name"), (3,), (0, 3, 2))
    (ada,) = RowLoader([slot]).load([(36, None, "Ada", 1)], identity)
    assert (ada.id, ada.name, ada.age) == (1, "Ada", 36)


def test_partial_loads_are_completed_later() -> None:
    """Attributes left out by one load are filled in by the next; loaded ones stay."""
    identity = IdentityMap()
    narrow = EntitySlot(PERSON, 0, ("id", "name"), (0,), (0, 1))
    (ada,) = RowLoader([narrow]).load([(1, "Ada")], identity)
    assert "age" not in vars(ada)
    RowLoader([person_slot()]).load([(1, "other", 36)], identity)
    assert (ada.name, ada.age) == ("Ada", 36)
    assert type(vars(ada)[STATE]) is SharedState


def test_changes_survive_a_load() -> None:
    """A load does not touch what was set or deleted; REFRESH overwrites it and the entity is clean."""
    identity = IdentityMap()
    loader = RowLoader([person_slot()])
    (ada,) = loader.load([(1, "Ada", 36)], identity)
    ada.age = 40
    del ada.name
    loader.load([(1, "Ada", 36)], identity)
    assert (ada.age, ada.name, state_of(ada).committed) == (40, None, {"age": 36, "name": "Ada"})
    loader.load([(1, "Eve", 37)], identity, REFRESH)
    assert (ada.age, ada.name, state_of(ada).committed, identity.dirty) == (37, "Eve", None, {})


def test_refresh_of_clean_entities() -> None:
    """REFRESH overwrites values of clean entities without giving them a state of their own."""
    identity = IdentityMap()
    loader = RowLoader([person_slot()])
    (ada,) = loader.load([(1, "Ada", 36)], identity)
    loader.load([(1, "Eve", 37)], identity, REFRESH)
    assert ada.name == "Eve"
    assert type(vars(ada)[STATE]) is SharedState


def test_rows_of_values() -> None:
    """Columns alone come as tuples in the order of the slots, processed."""
    identity = IdentityMap()
    assert RowLoader([ColumnSlot(0), ColumnSlot(1)]).load([(1, 2), (3, 4)], identity) == [(1, 2), (3, 4)]
    assert RowLoader([ColumnSlot(0)]).load([(1, 2)], identity) == [(1,)]
    assert RowLoader([ColumnSlot(1), ColumnSlot(0, str)]).load([(1, 2)], identity) == [(2, "1")]


def test_mixed_rows() -> None:
    """Entities and values side by side; make_row wraps each tuple."""
    identity = IdentityMap()
    loader = RowLoader([ColumnSlot(0), person_slot(offset=1), ColumnSlot(4, str)], make_row=list)
    (row,) = loader.load([(9, 1, "Ada", 36, 5)], identity)
    assert row == [9, identity.find(PERSON, 1), "5"]
    assert RowLoader([ColumnSlot(0), ColumnSlot(1)], make_row=list).load([(1, 2)], identity) == [[1, 2]]


def test_scalars_are_the_first_elements() -> None:
    """scalars() gives the first element of each row: entity or value."""
    identity = IdentityMap()
    rows = [(1, "Ada", 36, 5)]
    assert RowLoader([person_slot(), ColumnSlot(3)]).scalars(rows, identity) == [identity.find(PERSON, 1)]
    assert RowLoader([ColumnSlot(3), person_slot()]).scalars(rows, identity) == [5]
    assert RowLoader([ColumnSlot(1, str.upper)]).scalars(rows, identity) == ["ADA"]


def test_rows_that_are_too_short() -> None:
    """A row with fewer columns than the slots need is an error, not a crash."""
    identity = IdentityMap()
    with pytest.raises(IndexError, match="a row of 2 columns"):
        RowLoader([person_slot()]).load([(1, "x")], identity)
    with pytest.raises(IndexError):
        RowLoader([ColumnSlot(3)]).scalars([(1,)], identity)
    with pytest.raises(IndexError):
        RowLoader([ColumnSlot(0), person_slot(offset=1)]).load([(1,)], identity)


def test_slots_check_what_they_are_given() -> None:
    """Counts that differ and negative positions are refused when the slot is made."""
    for arguments in (
        (PERSON, 0, ("id",), (0,), (0, 1)),
        (PERSON, 0, ("id",), (0,), (-1,)),
        (PERSON, 0, ("id",), (), (0,)),
        (PERSON, 0, ("id", "name"), (0,), (0, 1), (None,)),
    ):
        with pytest.raises(ValueError):
            EntitySlot(*arguments)
    with pytest.raises(ValueError):
        ColumnSlot(-1)


@pytest.mark.parametrize("count", [28, 29, 40])
def test_wide_classes(count: int) -> None:
    """Classes with more columns than instance dicts can share keys for load the same way."""
    names = " ".join(["id", *(f"c{n}" for n in range(1, count))])
    cls, layout = make_class(names)
    slot = EntitySlot(layout, 0, layout.names, (0,), tuple(range(count)))
    one, two = RowLoader([slot]).load([tuple(range(count)), tuple(range(100, 100 + count))], IdentityMap())
    assert [getattr(one, name) for name in layout.names] == list(range(count))
    assert (two.id, two.c1) == (100, 101)
    one.c1 = 5
    assert (two.c1, state_of(one).committed) == (101, {"c1": 1})
    assert type(one) is cls


def test_errors_in_the_middle_leave_a_usable_map() -> None:
    """A processor or an iterator that raises does so at once; what was loaded before is in the map."""
    identity = IdentityMap()

    def rows() -> Any:
        yield (1, "Ada", 36)
        raise RuntimeError("gone")

    enabled = gc.isenabled()
    with pytest.raises(RuntimeError, match="gone"):
        RowLoader([person_slot()]).load(rows(), identity)
    with pytest.raises(ValueError, match="invalid literal"):
        RowLoader([person_slot(processors=(None, int, None))]).load([(3, "x", 1)], identity)
    assert gc.isenabled() == enabled
    assert identity.find(PERSON, 1) is None  # nobody holds it
    assert identity.find(PERSON, 3) is None


def test_a_collector_that_is_off_stays_off() -> None:
    """Loading restores the collector to what it was."""
    gc.disable()
    try:
        RowLoader([person_slot()]).load([(n, "x", n) for n in range(500)], IdentityMap())
        assert not gc.isenabled()
    finally:
        gc.enable()
    RowLoader([person_slot()]).load([(n, "x", n) for n in range(500)], IdentityMap())
    assert gc.isenabled()


def test_rows_may_load_while_they_are_loaded() -> None:
    """A row source that uses the same map in between does no harm."""
    identity = IdentityMap()
    loader = RowLoader([person_slot()])

    def rows() -> Any:
        for n in range(3):
            loader.load([(n, "inner", n), (n + 100, "inner", n)], identity)
            yield (n, "outer", n)

    people = loader.load(rows(), identity)
    assert [p.id for p in people] == [0, 1, 2]
    assert all(identity.find(PERSON, p.id) is p for p in people)


def test_many_dead_entities_during_a_load() -> None:
    """Entities that die while others load leave no entry that stands for a wrong one."""
    identity = IdentityMap()
    loader = RowLoader([person_slot()])
    for n in range(50):
        people = loader.load([(i, str(n), i) for i in range(100)], identity)
        assert people[7].name == str(n)
        assert identity.find(PERSON, 7) is people[7]
        del people
        gc.collect(0)


def test_layouts_without_names_are_allowed_only_with_a_key() -> None:
    """An entity of which only the key is loaded is a valid slot."""
    identity = IdentityMap()
    (ada,) = RowLoader([EntitySlot(PERSON, 0, ("id",), (0,), (0,))]).load([(1,)], identity)
    assert (ada.id, sorted(state_of(ada).unloaded)) == (1, ["age", "name"])
    assert isinstance(PERSON, Layout)


@pytest.mark.skipif(not COMPILED, reason="not applicable: plain Python can't tell the collector")
def test_rows_of_plain_values_are_none_of_the_collector_s_business() -> None:
    """A row that can't be part of a cycle is not tracked, as with tuples; one that might be is."""
    loader = RowLoader([ColumnSlot(0), ColumnSlot(1)], make_row=lambda row: [row])
    plain, holding = loader.load([(1, "a"), (2, [])], IdentityMap())
    assert not gc.is_tracked(plain)
    assert gc.is_tracked(holding)
    people = RowLoader([ColumnSlot(0), person_slot(offset=1)], make_row=lambda row: [row])
    assert gc.is_tracked(people.load([(1, 2, "Ada", 36)], IdentityMap())[0])
