"""The two phases that make mappers."""

import copy

import pytest
import sqlalchemy as sa
from sqlalchemy.types import TypeDecorator

from sojourn.mapping import DeclarativeBase, Mapped, configure_mappers, inspect, mapped_column
from sojourn.statements.columns import InstrumentedAttribute


@pytest.fixture
def base():
    class Base(DeclarativeBase):
        pass

    return Base


def test_a_class_is_complete_when_its_statement_ends(base):
    """Table, mapper, layout and attributes are there before anything is configured."""

    class Thing(base):
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(primary_key=True)

    assert Thing.__mapper__.configured is False
    assert Thing.__table__ is base.metadata.tables["thing"]
    assert isinstance(Thing.id, InstrumentedAttribute)
    assert Thing.__sojourn_layout__.attributes == {"id": vars(Thing)["id"]}
    assert (Thing.id.key, Thing.id.class_, Thing.id.parent) == ("id", Thing, Thing.__mapper__)
    configure_mappers()
    assert Thing.__mapper__.configured is True


def test_hooks_run_once_around_configure(base):
    """__declare_first__ and __declare_last__ are called when the mappers are finished, once."""
    calls = []

    class Thing(base):
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(primary_key=True)

        @classmethod
        def __declare_first__(cls):
            calls.append(("first", cls.__mapper__.configured))

        @classmethod
        def __declare_last__(cls):
            calls.append(("last", cls.__mapper__.configured))

    assert calls == []
    configure_mappers()
    configure_mappers()
    assert calls == [("first", False), ("last", True)]


def test_a_foreign_key_column_gets_its_type_from_a_later_table(base):
    """An expression over a foreign key column has the target's type as soon as the target is mapped."""

    class Child(base):
        __tablename__ = "child"
        id: Mapped[int] = mapped_column(primary_key=True)
        parent_id = mapped_column(sa.ForeignKey("parent.id"))

    assert isinstance(Child.parent_id.type, sa.types.NullType)
    str(Child.parent_id == 5)

    class Parent(base):
        __tablename__ = "parent"
        id: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True)

    assert isinstance(Child.parent_id.type, sa.BigInteger)
    assert isinstance((Child.parent_id == 5).__clause_element__().right.type, sa.BigInteger)


def test_types_with_an_equality_of_their_own_are_told_to_the_kernel(base):
    """compare_values of a column's type decides whether a value changed."""

    class CaseBlind(TypeDecorator):
        impl = sa.String
        cache_ok = True

        def compare_values(self, x, y):
            return (x or "").lower() == (y or "").lower()

    class Plain(TypeDecorator):
        impl = sa.String
        cache_ok = True

    class Thing(base):
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(primary_key=True)
        a: Mapped[str] = mapped_column(CaseBlind)
        b: Mapped[str] = mapped_column(Plain)
        c: Mapped[object] = mapped_column(sa.PickleType(comparator=lambda x, y: False))

    compares = Thing.__sojourn_layout__.compares
    assert sorted(compares) == ["a", "c"]
    assert compares["a"]("A", "a")
    assert not compares["c"](1, 1)


def test_entities_of_mapped_classes_behave(base):
    """Attributes read None before they are set; copies and unknown attributes are Python's."""

    class Thing(base):
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(primary_key=True)
        a: Mapped[str | None]

    entity = Thing(id=1)
    assert entity.a is None
    entity.a = "x"
    twin = copy.copy(entity)
    twin.a = "y"
    assert (entity.a, twin.a) == ("x", "y")
    entity.note = "not mapped"
    del entity.a
    assert entity.a is None
    assert inspect(entity).transient
    with pytest.raises(AttributeError):
        entity.nothing
