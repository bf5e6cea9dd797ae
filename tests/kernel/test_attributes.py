"""Attributes: reading, setting and deleting, history, and the keyword constructor."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from sojourn.errors import DetachedRead, UnknownKeyword
from sojourn.kernel.attributes import Attribute, construct
from sojourn.kernel.identity import IdentityMap
from sojourn.kernel.rows import EntitySlot, RowLoader
from sojourn.kernel.state import DETACHED, STATE, InstanceState, SharedState, state_of
from sojourn.symbols import NOT_LOADED
from tests.kernel.entities import PERSON, Person, instrument, make_class

ROWS = {1: (1, "Ada", 36), 2: (2, "Bob", 40)}


def loader_of(calls: list[tuple[int, str]]) -> Any:
    """Load an attribute from ROWS, as a session would from the database."""

    def load(entity: Any, state: InstanceState, name: str) -> Any:
        calls.append((state.key, name))
        slot = EntitySlot(PERSON, 0, PERSON.names, (0,), (0, 1, 2))
        RowLoader([slot]).load([ROWS[state.key]], state.owner)
        return vars(entity).get(name)

    return load


@pytest.fixture
def calls() -> list[tuple[int, str]]:
    return []


@pytest.fixture
def identity(calls: list[tuple[int, str]]) -> IdentityMap:
    made = IdentityMap()
    made.loader = loader_of(calls)
    return made


@pytest.fixture
def ada(identity: IdentityMap) -> Any:
    slot = EntitySlot(PERSON, 0, PERSON.names, (0,), (0, 1, 2))
    return RowLoader([slot]).load([ROWS[1]], identity)[0]


def test_the_class_attribute_is_the_descriptor() -> None:
    """On the class the attribute is itself, so that it can be used in expressions."""
    assert isinstance(Person.name, Attribute)
    assert Person.name is PERSON.attributes["name"]


def test_reading_what_a_new_entity_does_not_have() -> None:
    """An attribute never set on a transient entity reads None, and reading stores nothing."""
    new = Person()
    assert new.name is None
    assert "name" not in vars(new)


def test_none_and_notimplemented_are_values() -> None:
    """None is a loaded value like any other; so is NotImplemented, which the kernel uses inside."""
    new = Person(name=None, age=NotImplemented)
    assert new.name is None
    assert new.age is NotImplemented


def test_setting_a_loaded_attribute_keeps_the_old_value(identity: IdentityMap, ada: Any) -> None:
    """The first set keeps the old value and makes the entity dirty; later sets keep the first old value."""
    ada.age = 37
    ada.age = 38
    state = state_of(ada)
    assert state.committed == {"age": 36}
    assert identity.dirty == {state: ada}
    assert state.history("age") == ([38], (), [36])


def test_old_values_are_kept_by_reference(ada: Any) -> None:
    """No copy of the old value is made."""
    first = ["a"]
    state = state_of(ada)
    ada.name = first
    state.forget()
    ada.name = ["b"]
    assert state.committed["name"] is first


def test_setting_it_back_is_no_change(ada: Any) -> None:
    """A value that ends up as it was is no change in the history."""
    ada.age = 37
    ada.age = 36
    assert state_of(ada).history("age") == ((), [36], ())
    assert not state_of(ada).history("age").has_changes()


def test_transient_entities_record_nothing() -> None:
    """Everything a new entity has is added; there is nothing to keep."""
    new = Person(name="x")
    new.name = "y"
    assert state_of(new).committed is None
    assert state_of(new).history("name") == (["y"], (), ())
    assert state_of(new).history("age").empty()


def test_reading_an_expired_attribute_loads(identity: IdentityMap, ada: Any, calls: list[Any]) -> None:
    """A miss on a persistent entity asks the loader once; the other attributes come with it."""
    identity.expire_all()
    assert state_of(ada).expired
    assert (ada.name, ada.age) == ("Ada", 36)
    assert calls == [(1, "name")]
    assert not state_of(ada).expired


def test_setting_an_expired_attribute_does_not_load(
    identity: IdentityMap, ada: Any, calls: list[Any]
) -> None:
    """The old value is then NOT_LOADED; a load of the rest leaves the new value alone."""
    identity.expire_all()
    ada.age = 1
    assert state_of(ada).committed == {"age": NOT_LOADED}
    assert state_of(ada).history("age") == ([1], (), ())
    assert ada.name == "Ada"
    assert (ada.age, calls) == (1, [(1, "name")])


def test_active_history_loads_the_old_value(identity: IdentityMap, ada: Any, calls: list[Any]) -> None:
    """With active_history a set of an unloaded attribute loads what it replaces."""
    identity.expire_all()
    Person.age.active_history = True
    try:
        ada.age = 1
    finally:
        Person.age.active_history = False
    assert state_of(ada).committed == {"age": 36}
    assert (ada.age, calls) == (1, [(1, "age")])


def test_deleting_an_attribute(identity: IdentityMap, ada: Any) -> None:
    """A deleted attribute reads None without a load, and its history says what was deleted."""
    del ada.age
    assert ada.age is None
    assert state_of(ada).history("age") == ((), (), [36])
    assert state_of(ada) in identity.dirty
    new = Person(name="x")
    del new.name
    assert new.name is None
    with pytest.raises(AttributeError, match="name"):
        del new.name


def test_deleting_an_unloaded_attribute_loads_it_first(
    identity: IdentityMap, ada: Any, calls: list[Any]
) -> None:
    """`del` of an expired attribute knows what it deletes."""
    identity.expire_all()
    del ada.age
    assert (state_of(ada).history("age"), calls) == (((), (), [36]), [(1, "age")])


def test_reading_what_a_detached_entity_has_not_loaded(identity: IdentityMap, ada: Any) -> None:
    """The error names entity and attribute and says what to do; nothing is returned silently."""
    identity.expire_all()
    identity.detach_all()
    assert state_of(ada).life == DETACHED
    with pytest.raises(DetachedRead, match=r"Person\.name is not loaded") as caught:
        _ = ada.name
    assert (caught.value.entity, caught.value.attribute) == ("Person", "name")


def test_setting_on_a_detached_entity_is_kept_for_later(identity: IdentityMap, ada: Any) -> None:
    """Changes made while detached are dirty again once the entity is in a session."""
    identity.detach_all()
    ada.age = 1
    other = IdentityMap()
    other.add(state_of(ada), ada)
    assert other.dirty == {state_of(ada): ada}
    assert state_of(ada).history("age") == ([1], (), [36])


def test_comparing_values_of_awkward_types(ada: Any) -> None:
    """A comparison that fails, or is an expression, counts as a change."""

    class Awkward:
        def __eq__(self, other: object) -> bool:
            raise RuntimeError

        __hash__ = None  # type: ignore[assignment]

    class Expression:
        def __clause_element__(self) -> None: ...

        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = None  # type: ignore[assignment]

    for value in (Awkward(), Expression(), [1], float("nan")):
        ada.age = value
        assert state_of(ada).history("age") == ([value], (), [36])


def test_a_layout_may_compare_in_its_own_way() -> None:
    """`compares` holds a column type's own comparison."""
    _, layout = make_class()
    layout.compares = {"name": lambda old, new: old.lower() == new.lower()}
    slot = EntitySlot(layout, 0, layout.names, (0,), (0, 1, 2))
    (ada,) = RowLoader([slot]).load([(1, "Ada", 3)], IdentityMap())
    ada.name = "ADA"
    assert not state_of(ada).history("name").has_changes()


def test_hooks_of_slow_attributes() -> None:
    """A subclass with `slow` sees each value before it is stored, and each deletion."""
    seen = []

    class Upper(Attribute):
        def set_hook(self, obj: Any, value: Any) -> Any:
            return value.upper()

        def delete_hook(self, obj: Any) -> None:
            seen.append(obj)

    cls, layout = make_class()
    cls.name = layout.attributes["name"] = Upper("name", layout)
    cls.name.slow = True
    one = cls(name="a")
    assert one.name == "A"
    one.name = "b"
    assert one.name == "B"
    del one.name
    assert seen == [one]


# -- the constructor ---------------------------------------------------------------------------------------


def test_the_constructor_refuses_unknown_names_with_a_suggestion() -> None:
    """A misspelt keyword is named together with the nearest mapped name."""
    with pytest.raises(UnknownKeyword, match="Did you mean 'name'") as caught:
        Person(nme="x")
    assert (caught.value.entity, caught.value.keyword) == ("Person", "nme")
    assert isinstance(caught.value, TypeError)


def test_the_constructor_refuses_positional_arguments() -> None:
    """Values are given by name only."""
    with pytest.raises(TypeError):
        Person("x")


def test_the_constructor_sets_other_attributes_of_the_class() -> None:
    """Names the class has besides the mapped ones are set as attributes."""

    class Thing:
        note = None
        name: str

        @property
        def loud(self) -> str:
            return self.name.upper()

        @loud.setter
        def loud(self, value: str) -> None:
            self.name = value.lower()

    instrument(Thing, "id name")
    thing = Thing(note=1, loud="X")  # type: ignore[call-arg]
    assert (thing.note, thing.name) == (1, "x")


def test_constructors_of_subclasses_call_super() -> None:
    """`super().__init__(**names)` and mapped subclasses work; an own __init__ replaces it."""

    class Child(Person):
        def __init__(self, name: str) -> None:
            super().__init__(name=name)

    assert Child("x").name == "x"  # type: ignore[attr-defined]

    class Plain(Person):
        pass

    assert Plain(name="y").name == "y"

    class Other:
        def __init__(self) -> None:
            self.called = True

    class Both(Other, Person):
        pass

    assert Both().called
    both: Any = Both()
    Person.__init__(both, name="z")
    assert both.name == "z"
    construct(both, name="q")
    assert both.name == "q"


def test_an_init_assigned_later_wins() -> None:
    """Assigning __init__ to a mapped class replaces the constructor for it and for its subclasses."""
    cls, _ = make_class()

    class Sub(cls):  # type: ignore[misc, valid-type]
        pass

    def init(self: Any, name: str) -> None:
        self.name = f"<{name}>"

    cls.__init__ = init
    assert cls("x").name == "<x>"
    assert Sub("x").name == "<x>"


def test_constructing_again_keeps_the_state() -> None:
    """Calling __init__ of an existing entity sets values and nothing else."""
    new = Person(name="x")
    state = state_of(new)
    new.__init__(name="y")  # type: ignore[misc]
    assert state_of(new) is state
    assert new.name == "y"


def test_unhashable_and_weird_keywords() -> None:
    """Keywords that are no identifiers are refused like unknown ones."""
    with pytest.raises(UnknownKeyword):
        Person(**{"a b": 1})


# -- safety ------------------------------------------------------------------------------------------------


def test_descriptors_called_with_foreign_objects() -> None:
    """Misusing the descriptor raises; it does not crash."""
    for thing in (5, object(), "x"):
        with pytest.raises(Exception):  # noqa: B017
            Person.name.__get__(thing, type(thing))
        with pytest.raises(Exception):  # noqa: B017
            Person.name.__set__(thing, 1)

    class Bag:
        pass

    bag: Any = Bag()
    with pytest.raises(Exception):  # noqa: B017
        Person.name.__set__(bag, 1)
    assert vars(bag) == {}


def test_threads_that_upgrade_the_same_states(identity: IdentityMap) -> None:
    """Two threads asking for states of the same clean entities end with one state per entity."""
    slot = EntitySlot(PERSON, 0, PERSON.names, (0,), (0, 1, 2))
    people = RowLoader([slot]).load([(n, "x", n) for n in range(500)], identity)
    found: list[list[InstanceState]] = [[], []]

    def ask(n: int) -> None:
        for person in people:
            found[n].append(state_of(person))

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [type(vars(p)[STATE]) for p in people] == [InstanceState] * 500
    assert not any(type(vars(p)[STATE]) is SharedState for p in people)
    assert all(state_of(p).key == p.id for p in people)
