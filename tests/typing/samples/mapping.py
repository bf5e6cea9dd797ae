"""Mapped classes as users write them; a type checker must agree with every `assert_type`."""

from __future__ import annotations

import datetime
from typing import Annotated, Any, assert_type

import sqlalchemy as sa

from sojourn.mapping import (
    ColumnProperty,
    DeclarativeBase,
    Mapped,
    Mapper,
    class_mapper,
    column_property,
    declared_attr,
    deferred,
    inspect,
    mapped_column,
    object_mapper,
    registry,
)
from sojourn.statements import InstrumentedAttribute

Key = Annotated[int, mapped_column(primary_key=True)]


class Base(DeclarativeBase):
    """A base with types of its own."""

    metadata = sa.MetaData()
    type_annotation_map = {str: sa.String(50), dict[str, Any]: sa.JSON}


class Stamped:
    """A mixin."""

    created: Mapped[datetime.datetime] = mapped_column(server_default=sa.func.now())

    @declared_attr
    def owner_id(cls) -> Mapped[int | None]:
        return mapped_column(sa.ForeignKey("user.id"))

    @declared_attr.directive
    def __tablename__(cls) -> str:
        return "user"


class User(Stamped, Base):
    """A user."""

    id: Mapped[Key]
    name: Mapped[str] = mapped_column("user_name", sa.String(20), index=True)
    age: Mapped[int | None]
    body: Mapped[str] = deferred(mapped_column(sa.Text))
    note: Mapped[str] = column_property(sa.Column(sa.Text))
    version: Mapped[int] = mapped_column(default=1)

    __table_args__ = (sa.Index("ix_name", name), {"schema": None})
    __mapper_args__ = {"version_id_col": version}


user = User(name="Ann", age=3)
assert_type(User.name, InstrumentedAttribute[str])
assert_type(User.age, InstrumentedAttribute[int | None])
assert_type(User.owner_id, InstrumentedAttribute[int | None])
assert_type(user.name, str)
assert_type(user.age, int | None)
assert_type(user.created, datetime.datetime)
assert_type(user.owner_id, int | None)
user.name = "Bob"
user.age = None
user.version = User.version + 1
user.name = 5  # error: Incompatible types in assignment
user.version = "x"  # error: Incompatible types in assignment

criterion: sa.ColumnElement[bool] = User.name == "Ann"
ordered = sa.select(User.name, User.age).where(User.age > 3, User.name.like("A%")).order_by(User.name.desc())

assert_type(inspect(User), Mapper[User])
assert_type(class_mapper(User), Mapper[User])
assert_type(object_mapper(user), Mapper[User])
assert_type(inspect(User).attrs.name, ColumnProperty)
assert_type(inspect(User).class_, type[User])
assert_type(inspect(User).identity_key_from_instance(user)[0], type[User])
assert_type(User.registry, registry)


@User.registry.mapped
class Decorated:
    """A class mapped by decorator."""

    __tablename__ = "decorated"
    id: Mapped[int] = mapped_column(primary_key=True)


assert_type(Decorated().id, int)
