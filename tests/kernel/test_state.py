"""States: which one an entity has, what it says, and that no entity ever acts on another's."""

from __future__ import annotations

import copy
import dataclasses
import gc
import pickle
import weakref
from typing import Any

import pytest

from sojourn.errors import MappingError, UnmappedInstance
from sojourn.kernel.attributes import Attribute
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
    dict_of,
    state_of,
)
from sojourn.symbols import NOT_LOADED
from tests.kernel.entities import PERSON, Person, Point, instrument, make_class


def load(identity: IdentityMap, *rows: tuple[Any, ...]) -> list[Any]:
    slot = EntitySlot(PERSON, 0, PERSON.names, (0,), (0, 1, 2))
    return RowLoader([slot]).load(rows, identity)


def test_a_new_entity_is_transient() -> None:
    """An entity fresh from its constructor has a transient state of its own, without key and session."""
    ada = Person(name="Ada")
    state = state_of(ada)
    assert (state.life, state.key, state.session, state.obj()) == (TRANSIENT, None, None, ada)
    assert state.transient
    assert not (state.pending or state.persistent or state.deleted or state.detached)
    assert state is state_of(ada) is ada._sa_instance_state
    assert (state.identity, state.identity_key, state.has_identity) == (None, None, False)


def test_loaded_entities_share_a_state_until_one_needs_its_own() -> None:
    """Clean loaded entities carry one SharedState; asking for the state gives each its own, same meaning."""
    identity = IdentityMap()
    ada, bob = load(identity, (1, "Ada", 36), (2, "Bob", 40))
    assert type(vars(ada)[STATE]) is SharedState
    assert vars(ada)[STATE] is vars(bob)[STATE]
    assert vars(ada)[STATE].owner is identity
    state = state_of(ada)
    assert (state.life, state.key, state.owner, state.obj()) == (PERSISTENT, 1, identity, ada)
    assert type(vars(ada)[STATE]) is InstanceState
    assert type(vars(bob)[STATE]) is SharedState
    assert state.persistent
    assert state.identity_key == (Person, (1,), None)


def test_composite_keys_are_tuples() -> None:
    """A key of several columns is a tuple, in the state and in the identity key."""
    point = Point(x=1, y=2)
    state = state_of(point)
    state.key = (1, 2)
    IdentityMap().add(state, point)
    assert state.identity == (1, 2)
    assert state.identity_key == (Point, (1, 2), None)


def test_things_that_are_no_entities_are_refused() -> None:
    """state_of names what it was given; a mapped class itself is not touched."""
    for thing in (5, "x", None, object(), Person, type, [Person()]):
        with pytest.raises(UnmappedInstance):
            state_of(thing)
    assert isinstance(vars(Person)[STATE], object)
    assert Person._sa_instance_state is vars(Person)[STATE]


def test_classes_without_dict_or_weakref_are_refused_at_mapping() -> None:
    """A class with __slots__ cannot hold entities; the error names the missing slot and the remedy."""

    class Slotted:
        __slots__ = ("id",)

    class NoWeakref:
        __slots__ = ("__dict__",)

    @dataclasses.dataclass(slots=True)
    class Data:
        id: int

    for cls, missing in (
        (Slotted, "__dict__"),
        (NoWeakref, "__weakref__"),
        (Data, "__dict__"),
        (int, "__dict__"),
    ):
        with pytest.raises(MappingError, match=missing):
            Layout(cls, None, ("id",), ("id",))


def test_slots_with_dict_and_weakref_are_fine() -> None:
    """A class whose __slots__ keep a __dict__ and a __weakref__ works like any other."""

    class Mixed:
        __slots__ = ("__dict__", "__weakref__", "other")

    instrument(Mixed, "id name")
    mixed: Any = Mixed(name="x")
    mixed.other = 1
    assert (mixed.name, mixed.other) == ("x", 1)


# -- copies ------------------------------------------------------------------------------------------------


def test_a_copy_of_a_session_entity_is_a_new_entity() -> None:
    """Copy and deepcopy of a persistent entity, clean or changed, give transient ones."""
    for change in (False, True):
        for duplicate in (copy.copy, copy.deepcopy):
            identity = IdentityMap()
            (ada,) = load(identity, (1, "Ada", 36))
            if change:
                ada.age = 37
            twin = duplicate(ada)
            twin.name = "Twin"
            assert state_of(twin).transient
            assert state_of(twin) is not state_of(ada)
            assert (twin.name, twin.age, ada.name) == ("Twin", ada.age, "Ada")
            assert state_of(ada).persistent
            assert state_of(ada).obj() is ada


def test_a_copy_of_a_new_entity_has_its_own_state() -> None:
    """Adding the copy of a transient or pending entity adds a second one."""
    ada = Person(name="Ada")
    identity = IdentityMap()
    identity.add(state_of(ada), ada)
    twin = copy.copy(ada)
    identity.add(state_of(twin), twin)
    assert list(identity.new.values()) == [ada, twin]


def test_a_copied_dict_does_not_carry_the_state_over() -> None:
    """vars(b).update(vars(a)) leaves two entities with two states."""
    identity = IdentityMap()
    (ada,) = load(identity, (1, "Ada", 36))
    ada.age = 37
    other = Person()
    vars(other).update(vars(ada))
    assert state_of(other).transient
    assert list(identity.dirty.values()) == [ada]


def test_a_copy_outlives_its_original_without_taking_its_place() -> None:
    """When the original has died, its copy still is not the persistent entity."""
    identity = IdentityMap()
    (ada,) = load(identity, (1, "Ada", 36))
    state_of(ada)
    twin = copy.copy(ada)
    del ada
    assert identity.find(PERSON, 1) is None
    assert state_of(twin).transient


@pytest.mark.parametrize("change", [False, True])
def test_pickled_entities_come_back_detached(change: bool) -> None:
    """A pickled persistent entity is detached with its key, its values and what was changed."""
    identity = IdentityMap()
    (ada,) = load(identity, (1, "Ada", 36))
    if change:
        ada.age = 37
    back = pickle.loads(pickle.dumps(ada))
    state = state_of(back)
    assert (state.life, state.key, state.owner, state.obj()) == (DETACHED, 1, None, back)
    assert (back.name, back.age) == ("Ada", 37 if change else 36)
    assert state.history("age").deleted == ([36] if change else ())
    IdentityMap().add(state, back)
    assert state.persistent


def test_pickled_not_loaded_old_values_stay_the_sentinel() -> None:
    """NOT_LOADED is the same object after a pickle."""
    identity = IdentityMap()
    (ada,) = load(identity, (1, "Ada", 36))
    identity.expire_all()
    ada.age = 1
    back = pickle.loads(pickle.dumps(ada))
    assert state_of(back).committed == {"age": NOT_LOADED}
    assert state_of(back).committed["age"] is NOT_LOADED
    assert state_of(back).expired


def test_pickled_transient_entities_stay_transient() -> None:
    """A pending entity comes back transient: its session did not travel."""
    ada = Person(name="Ada")
    IdentityMap().add(state_of(ada), ada)
    back = pickle.loads(pickle.dumps(ada))
    assert (state_of(back).life, back.name) == (TRANSIENT, "Ada")


# -- what users' classes do --------------------------------------------------------------------------------


def test_dataclasses_that_compare_and_do_not_hash() -> None:
    """Equal, unhashable dataclass entities are kept apart by identity."""

    @dataclasses.dataclass
    class Item:
        id: int | None
        name: str

    instrument(Item, "id name")
    identity = IdentityMap()
    one, two = Item(None, "x"), Item(None, "x")
    assert one == two
    for item in (one, two):
        identity.add(state_of(item), item)
    assert len(identity.new) == 2
    assert dataclasses.replace(one, name="y").name == "y"


def test_object_setattr_is_seen() -> None:
    """attrs, frozen dataclasses and pydantic set through object.__setattr__; the change is recorded."""
    identity = IdentityMap()
    (ada,) = load(identity, (1, "Ada", 36))
    object.__setattr__(ada, "age", 37)
    assert state_of(ada).history("age").has_changes()
    assert list(identity.dirty.values()) == [ada]


def test_a_user_setattr_that_calls_super_is_seen() -> None:
    """A class's own __setattr__ sits above the attribute."""

    class Loud:
        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, value if name == "id" else f"<{value}>")

    instrument(Loud, "id name")
    loud: Any = Loud()
    loud.name = "x"
    assert loud.name == "<x>"


def test_user_new_runs_for_loaded_entities() -> None:
    """A class's own __new__ is honoured on load; what it sets stays, and __init__ does not run."""

    class Tagged:
        tag: str

        def __new__(cls, *args: object, **names: object) -> Any:
            made: Any = super().__new__(cls)
            made.tag = "t"
            made.name = "from new"
            return made

    layout = instrument(Tagged, "id name")
    identity = IdentityMap()
    (one,) = RowLoader([EntitySlot(layout, 0, ("id", "name"), (0,), (0, 1))]).load([(1, "row")], identity)
    assert (one.tag, one.name, state_of(one).life) == ("t", "row", PERSISTENT)
    assert not identity.dirty


def test_user_new_that_returns_something_else_is_an_error() -> None:
    """A __new__ that hands out another object cannot be used to load entities."""

    class Odd:
        def __new__(cls) -> Any:
            return object.__new__(Person)

    layout = instrument(Odd, "id")
    with pytest.raises(TypeError, match=r"Odd\.__new__ returned an object of type Person"):
        layout.allocate()


def test_a_new_with_arguments_says_so_at_load() -> None:
    """A __new__ with required arguments raises its own TypeError."""

    class Strict:
        def __new__(cls, given: int) -> Any:
            return object.__new__(cls)

    layout = instrument(Strict, "id")
    with pytest.raises(TypeError, match="given"):
        layout.allocate()


def test_priming_runs_no_code_of_the_user() -> None:
    """No throw-away instance is made of a class with __new__ or __del__ of its own."""
    seen = []

    class Counted:
        def __del__(self) -> None:
            seen.append(self)

    instrument(Counted, "id name")
    gc.collect()
    assert seen == []


def test_subclass_instances_use_the_mapped_layout() -> None:
    """An instance of a subclass that is not mapped itself has the state of its mapped base."""

    class Child(Person):
        pass

    child = Child(name="x")
    assert state_of(child).layout is PERSON
    assert state_of(child).class_ is Person


def test_values_outside_the_mapping_stay() -> None:
    """What a program keeps in unmapped attributes survives expiry."""
    identity = IdentityMap()
    (ada,) = load(identity, (1, "Ada", 36))
    ada.cache = [1]
    identity.expire_all()
    assert (ada.cache, "name" in vars(ada)) == ([1], False)


def test_a_key_written_straight_into_the_dict_does_not_lose_the_entity() -> None:
    """The state of a clean entity whose __dict__ was edited is still the one of the map."""
    identity = IdentityMap()
    (ada,) = load(identity, (1, "Ada", 36))
    vars(ada)["id"] = 99
    assert (state_of(ada).key, state_of(ada).life) == (1, PERSISTENT)
    (bob,) = load(identity, (2, "Bob", 1))
    del vars(bob)["id"]
    assert state_of(bob).key == 2


def test_rubbish_under_the_state_key_is_replaced() -> None:
    """Whatever else stands in the __dict__ under the state's key, the entity gets a proper state."""
    ada = Person(name="Ada")
    vars(ada)[STATE] = "rubbish"
    ada.age = 3
    assert state_of(ada).transient
    with pytest.raises(TypeError, match="sojourn's own"):
        ada._sa_instance_state = "rubbish"
    del ada._sa_instance_state
    assert state_of(ada).transient


def test_a_replaced_dict_is_followed() -> None:
    """Assigning __dict__ replaces the values; reading and setting go on."""
    ada = Person(name="Ada")
    ada.__dict__ = {"name": "Eve"}
    assert ada.name == "Eve"
    ada.age = 1
    assert dict_of(ada)["age"] == 1


# -- lifetime ----------------------------------------------------------------------------------------------


def test_nothing_keeps_an_entity_alive() -> None:
    """Neither its state nor the identity map holds a clean entity."""
    identity = IdentityMap()
    (ada,) = load(identity, (1, "Ada", 36))
    state = state_of(ada)
    gone = weakref.ref(ada)
    del ada
    assert gone() is None
    assert (state.obj(), state.object, state.dict) == (None, None, {})


def test_a_changed_entity_and_its_map_are_one_collectable_circle() -> None:
    """Dropping session and entities frees all of them."""
    identity = IdentityMap()
    (ada,) = load(identity, (1, "Ada", 36))
    ada.age = 1
    ada.friend = ada
    gone = weakref.ref(ada)
    del ada, identity
    gc.collect()
    assert gone() is None


def test_a_dead_session_leaves_detached_entities() -> None:
    """When the session has been dropped, its entities are detached and pending ones transient."""

    class Session:
        pass

    session = Session()
    identity = IdentityMap(session)
    (ada,) = load(identity, (1, "Ada", 36))
    new = Person(name="New")
    identity.add(state_of(new), new)
    assert state_of(ada).session is session
    assert (state_of(ada).persistent, state_of(new).pending) == (True, True)
    del session
    assert (state_of(ada).detached, state_of(new).transient, state_of(ada).session) == (True, True, None)


def test_clean_entities_of_a_dropped_map_are_detached() -> None:
    """A loaded entity outlives its identity map, with its key."""
    (ada,) = load(IdentityMap(), (1, "Ada", 36))
    gc.collect()
    assert (state_of(ada).life, state_of(ada).key) == (DETACHED, 1)


# -- the surface of inspect() ------------------------------------------------------------------------------


def test_attrs_show_value_and_history_without_loading() -> None:
    """`inspect(obj).attrs` gives each attribute's value, loaded value and history."""
    identity = IdentityMap()
    (ada,) = load(identity, (1, "Ada", 36))
    ada.age = 37
    attrs = state_of(ada).attrs
    assert sorted(attrs) == ["age", "id", "name"]
    assert (attrs.age.value, attrs["age"].loaded_value) == (37, 37)
    assert attrs.age.history == ([37], (), [36])
    assert attrs.name.history == ((), ["Ada"], ())
    assert attrs.name.load_history() == ((), ["Ada"], ())
    assert attrs.age.state is state_of(ada)
    with pytest.raises(AttributeError):
        _ = attrs.nothing


def test_modified_unloaded_and_info() -> None:
    """The other words of the state: modified, unloaded, expired_attributes, info, mapper."""
    identity = IdentityMap()
    (ada,) = load(identity, (1, "Ada", 36))
    state = state_of(ada)
    assert (state.modified, state.unloaded, state.mapper) == (False, set(), None)
    ada.age = 36
    assert state.modified
    identity.expire_all()
    assert (state.modified, state.unloaded) == (False, {"id", "name", "age"})
    assert state.expired_attributes == {"id", "name", "age"}
    state.info["a"] = 1
    assert state.info == {"a": 1}
    assert "Person 1, persistent" in repr(state)


def test_lives_are_told_as_sqlalchemy_does() -> None:
    """Exactly one of the five words is true of each life."""
    identity = IdentityMap()
    (ada,) = load(identity, (1, "Ada", 36))
    state = state_of(ada)
    words = ("transient", "pending", "persistent", "deleted", "detached")
    for life in (TRANSIENT, PENDING, PERSISTENT, DELETED, DETACHED):
        state.life = life
        assert [getattr(state, word) for word in words] == [n == life for n in range(5)]


def test_names_of_str_subclasses_become_plain() -> None:
    """Column keys may be quoted names; attributes are kept under plain strings."""

    class Quoted(str):
        __slots__ = ()

    class Row:
        pass

    layout = Layout(Row, None, (Quoted("id"), Quoted("name")), (Quoted("id"),))
    assert {type(n) for n in (*layout.names, *layout.keys)} == {str}
    assert type(Attribute(Quoted("id"), layout).name) is str


def test_make_class_gives_independent_classes() -> None:
    """Layouts of two classes do not mix."""
    one, _ = make_class()
    two, _ = make_class("id other")
    assert state_of(one(name="x")).layout is not state_of(two(other="x")).layout
