"""The identity map: one entity per key, weakly, and what expiry and detaching leave behind."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from sojourn.errors import IdentityConflict, OtherSession
from sojourn.kernel.identity import IdentityMap
from sojourn.kernel.layout import Layout
from sojourn.kernel.rows import EntitySlot, RowLoader
from sojourn.kernel.state import (
    DELETED,
    DETACHED,
    PENDING,
    PERSISTENT,
    STATE,
    TRANSIENT,
    InstanceState,
    SharedState,
    state_of,
)
from tests.kernel.entities import PERSON, POINT, Person, Point, instrument


def load(identity: IdentityMap, *rows: tuple[Any, ...]) -> list[Any]:
    slot = EntitySlot(PERSON, 0, PERSON.names, (0,), (0, 1, 2))
    return RowLoader([slot]).load(rows, identity)


def test_find_returns_the_entity_of_a_key() -> None:
    """Find knows what was loaded, by bare key; find_loaded does not count expired entities."""
    identity = IdentityMap()
    (ada,) = load(identity, (1, "Ada", 36))
    assert identity.find(PERSON, 1) is ada
    assert identity.find_loaded(PERSON, 1) is ada
    assert identity.find(PERSON, 2) is None
    assert identity.find(POINT, 1) is None
    identity.expire_all()
    assert identity.find(PERSON, 1) is ada
    assert identity.find_loaded(PERSON, 1) is None


def test_composite_keys() -> None:
    """A key of two columns is found as a tuple."""
    identity = IdentityMap()
    slot = EntitySlot(POINT, 0, ("x", "y", "label"), (0, 1), (0, 1, 2))
    (point,) = RowLoader([slot]).load([(1, 2, "a")], identity)
    assert identity.find(POINT, (1, 2)) is point
    assert state_of(point).key == (1, 2)


def test_a_hierarchy_shares_its_keys() -> None:
    """Classes of one root are in one map; asking for a subclass does not find an entity of another."""

    class Animal:
        pass

    class Dog(Animal):
        pass

    class Cat(Animal):
        pass

    root = instrument(Animal, "id")
    dog_layout = instrument(Dog, "id bark", root=root)
    cat_layout = instrument(Cat, "id purr", root=root)
    identity = IdentityMap()
    (dog,) = RowLoader([EntitySlot(dog_layout, 0, ("id", "bark"), (0,), (0, 1))]).load([(1, "w")], identity)
    assert identity.find(root, 1) is dog
    assert identity.find(dog_layout, 1) is dog
    assert identity.find(cat_layout, 1) is None


def test_dead_entities_are_not_found_and_swept() -> None:
    """An entity that nobody holds is gone; its entries are swept before the map doubles."""
    identity = IdentityMap()
    kept = load(identity, (0, "kept", 0))
    for n in range(10):
        load(identity, *[(n * 1000 + i, "x", i) for i in range(1, 1000)])
    assert (len(identity), list(identity)) == (1, kept)
    assert identity.find(PERSON, 5) is None
    assert len(identity.maps[PERSON]) < 4500


def test_add_takes_new_and_persistent_entities() -> None:
    """A state without key becomes pending, one with a key persistent; both know their map."""
    identity = IdentityMap()
    new = Person(name="x")
    identity.add(state_of(new), new)
    assert (state_of(new).life, state_of(new).owner, list(identity.new.values())) == (
        PENDING,
        identity,
        [new],
    )
    old = Person(name="y")
    state_of(old).key = 7
    identity.add(state_of(old), old)
    assert (state_of(old).life, identity.find(PERSON, 7)) == (PERSISTENT, old)
    identity.add(state_of(old), old)
    assert identity.holds(old)
    assert not identity.holds(new)
    assert not identity.holds(Person())


def test_a_second_entity_with_the_same_key_is_refused() -> None:
    """Two entities for one row would lose changes of one of them."""
    identity = IdentityMap()
    (ada,) = load(identity, (1, "Ada", 36))
    twin = Person(name="Twin")
    state_of(twin).key = 1
    with pytest.raises(IdentityConflict, match="another Person with key 1"):
        identity.add(state_of(twin), twin)
    assert identity.find(PERSON, 1) is ada


def test_an_entity_of_another_session_is_refused() -> None:
    """An entity is in one session at a time."""
    new = Person()
    first = IdentityMap()
    first.add(state_of(new), new)
    with pytest.raises(OtherSession):
        IdentityMap().add(state_of(new), new)
    assert state_of(new).owner is first


def test_new_dirty_and_deleted_hold_entities() -> None:
    """A changed, new or to-be-deleted entity lives as long as its change is not flushed."""
    identity = IdentityMap()
    ada, bob = load(identity, (1, "Ada", 36), (2, "Bob", 40))
    new = Person()
    identity.add(state_of(new), new)
    ada.age = 1
    identity.deleted[state_of(bob)] = bob
    refs = [weakref.ref(e) for e in (ada, bob, new)]
    del ada, bob, new
    gc.collect()
    assert all(ref() is not None for ref in refs)


def test_discard_lets_go() -> None:
    """A discarded new entity is transient, a persistent one detached, a deleted one knows that it was."""
    identity = IdentityMap()
    ada, bob = load(identity, (1, "Ada", 36), (2, "Bob", 40))
    new = Person()
    identity.add(state_of(new), new)
    ada.age = 1
    state_of(bob).life = DELETED
    for entity in (ada, bob, new):
        identity.discard(state_of(entity))
    assert [state_of(e).life for e in (ada, bob, new)] == [DETACHED, DETACHED, TRANSIENT]
    assert [state_of(e).was_deleted for e in (ada, bob, new)] == [False, True, False]
    assert (len(identity), identity.new, identity.dirty, state_of(ada).owner) == (0, {}, {}, None)
    assert state_of(ada).history("age").has_changes()


def test_discard_leaves_the_successor_alone() -> None:
    """Discarding a state whose key another entity has taken does not remove that one."""
    identity = IdentityMap()
    (ada,) = load(identity, (1, "Ada", 36))
    other = Person()
    state_of(other).key = 1
    identity.discard(state_of(other))
    assert identity.find(PERSON, 1) is ada


def test_expire_all_forgets_values_and_changes() -> None:
    """Expired entities keep their key, have no loaded values, and are not dirty."""
    identity = IdentityMap()
    ada, bob = load(identity, (1, "Ada", 36), (2, "Bob", 40))
    ada.age = 1
    identity.expire_all()
    for entity, key in ((ada, 1), (bob, 2)):
        state = state_of(entity)
        assert (list(vars(entity)), state.key, state.expired, state.committed) == ([STATE], key, True, None)
        assert state.persistent
    assert identity.dirty == {}
    assert load(identity, (1, "Ada", 37)) == [ada]
    assert (ada.age, state_of(ada).expired) == (37, False)


def test_expire_of_one_entity() -> None:
    """Expire forgets all of one entity, or only the named attributes with their changes."""
    identity = IdentityMap()
    ada, bob = load(identity, (1, "Ada", 36), (2, "Bob", 40))
    ada.age = 1
    ada.name = "x"
    identity.expire(state_of(ada), ada, ["age"])
    assert (sorted(vars(ada)), state_of(ada).committed) == (sorted([STATE, "id", "name"]), {"name": "Ada"})
    assert state_of(ada) in identity.dirty
    identity.expire(state_of(ada), ada, ["name"])
    assert identity.dirty == {}
    bob.age = 1
    identity.expire(state_of(bob), bob)
    assert (list(vars(bob)), state_of(bob).expired, identity.dirty) == ([STATE], True, {})


def test_detach_all_empties_the_map() -> None:
    """After detach_all every entity is out of the session: clean, changed, new and deleted ones."""
    identity = IdentityMap()
    ada, bob, eve = load(identity, (1, "Ada", 36), (2, "Bob", 40), (3, "Eve", 1))
    new = Person()
    identity.add(state_of(new), new)
    ada.age = 1
    identity.deleted[state_of(eve)] = eve
    identity.detach_all()
    assert [state_of(e).life for e in (ada, bob, eve, new)] == [DETACHED, DETACHED, DETACHED, TRANSIENT]
    assert [state_of(e).owner for e in (ada, bob, eve, new)] == [None] * 4
    assert (len(identity), identity.new, identity.dirty, identity.deleted) == (0, {}, {}, {})
    (again,) = load(identity, (1, "Ada", 36))
    assert again is not ada
    assert state_of(bob).detached


def test_a_detached_clean_entity_can_return() -> None:
    """The state of a clean entity, released with all others, still knows its key and can be added."""
    identity = IdentityMap()
    (ada,) = load(identity, (1, "Ada", 36))
    assert type(vars(ada)[STATE]) is SharedState
    identity.detach_all()
    identity.add(state_of(ada), ada)
    assert identity.find(PERSON, 1) is ada


def test_finalizers_may_use_the_map_while_it_works() -> None:
    """Code that runs when values die, in the middle of expiry or detaching, may load and find entities."""
    identity = IdentityMap()
    found = []

    class Value:
        def __del__(self) -> None:
            load(identity, (len(found) + 5000, "x", 1))
            found.append(identity.find(PERSON, 1))

    people = load(identity, *[(n, Value(), n) for n in range(50)])
    identity.expire_all()
    assert len(found) == 50
    load(identity, *[(n, Value(), n) for n in range(50)])
    identity.detach_all()
    assert people[0].__class__ is Person


def test_the_session_is_held_weakly() -> None:
    """The map does not keep its session alive."""

    class Session:
        pass

    session = Session()
    identity = IdentityMap(session)
    assert identity.session is session
    del session
    gc.collect()
    assert identity.session is None
    assert "0 entities" in repr(identity)


def test_unhashable_keys_raise() -> None:
    """A key that cannot be hashed is the driver's or the mapping's fault and says so."""
    identity = IdentityMap()
    load(identity, (1, "Ada", 36))
    with pytest.raises(TypeError, match="unhashable"):
        identity.find(PERSON, [1])


def test_layouts_are_compared_by_identity() -> None:
    """Two layouts of one class are two hierarchies."""
    other = Layout(Point, None, ("x",), ("x",))
    assert other != POINT
    assert isinstance(state_of(Point()), InstanceState)
