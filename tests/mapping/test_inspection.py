"""inspect() and its relatives."""

import pytest
import sqlalchemy as sa

from sojourn.errors import NotInspectable, UnmappedClass, UnmappedInstance
from sojourn.kernel.state import InstanceState
from sojourn.mapping import DeclarativeBase, Mapped, class_mapper, inspect, mapped_column, object_mapper


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "user"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]


class Special(User.__mro__[1]):
    __abstract__ = True


def test_inspect_answers_for_classes_entities_and_itself():
    """A class gives its mapper, an entity its state; mappers, states and attributes give themselves."""
    user = User(name="Ann")
    mapper, state = inspect(User), inspect(user)

    assert mapper is User.__mapper__
    assert mapper.configured
    assert isinstance(state, InstanceState)
    assert state.mapper is mapper
    assert (state.transient, state.object, state.identity) == (True, user, None)
    assert state.attrs.name.value == "Ann"
    assert inspect(mapper) is mapper
    assert inspect(state) is state
    assert inspect(User.name) is User.name


def test_inspect_hands_the_rest_to_core():
    """Tables and engines are inspected by Core; unknown things are an error of both kinds."""
    assert inspect(User.__table__) is User.__table__
    assert inspect(sa.create_engine("sqlite://")).get_table_names() == []
    for unknown in (object, 5, Base, Special):
        with pytest.raises(NotInspectable) as caught:
            inspect(unknown)
        assert isinstance(caught.value, sa.exc.NoInspectionAvailable)
        assert inspect(unknown, raiseerr=False) is None


def test_class_mapper_and_object_mapper():
    """They give the mapper, or say that nothing is mapped."""
    assert class_mapper(User) is class_mapper(User.__mapper__) is object_mapper(User()) is inspect(User)
    assert object_mapper(inspect(User())) is inspect(User)
    with pytest.raises(UnmappedClass, match="object is not a mapped class"):
        class_mapper(object)
    with pytest.raises(UnmappedClass):
        class_mapper(User())
    for unmapped in (5, User, object()):
        with pytest.raises(UnmappedInstance):
            object_mapper(unmapped)
