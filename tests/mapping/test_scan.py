"""Class bodies and their mixins."""

import dataclasses
from typing import Any, Generic, TypeVar

import pytest
import sqlalchemy as sa

from sojourn.errors import (
    ColumnTwice,
    MappingError,
    NoTable,
    NotYet,
    ReservedName,
    TableTaken,
)
from sojourn.mapping import (
    DeclarativeBase,
    Mapped,
    column_property,
    declarative_mixin,
    declared_attr,
    deferred,
    has_inherited_table,
    inspect,
    later,
    mapped_column,
    registry,
)

T = TypeVar("T")


@pytest.fixture
def base():
    class Base(DeclarativeBase):
        pass

    return Base


def test_mixin_columns_are_copied_per_class(base):
    """Each class gets columns of its own, with foreign keys, defaults and options."""

    class Stamped:
        id: Mapped[int] = mapped_column(primary_key=True)
        parent_id = mapped_column(sa.ForeignKey("one.id"), index=True)
        kind = sa.Column("col_kind", sa.String(5), default="x")
        big = deferred(sa.Column(sa.Text))

    class One(Stamped, base):
        __tablename__ = "one"

    class Two(base, Stamped):
        __tablename__ = "two"
        kind: Mapped[int] = mapped_column(sa.Integer)

    assert One.__table__.c.keys() == ["id", "parent_id", "col_kind", "big"]
    assert Two.__table__.c.keys() == ["kind", "id", "parent_id", "big"]
    assert One.__table__.c.id is not Two.__table__.c.id
    assert isinstance(Two.__table__.c.parent_id.type, sa.Integer)
    assert One.__table__.c.col_kind.default.arg == "x"
    assert inspect(Two).attrs.big.deferred
    assert isinstance(Two.__table__.c.kind.type, sa.Integer)


def test_columns_keep_sqlalchemys_order(base):
    """CREATE TABLE lists columns as SQLAlchemy would: by lines as far as known, computed ones last."""

    class Mixin:
        @declared_attr
        def m2(cls):
            return sa.Column(sa.Integer)

        m1: Mapped[int]
        m3 = mapped_column(sa.Integer)

    class Thing(Mixin, base):
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(primary_key=True)
        c = mapped_column(sa.Integer)
        b: Mapped[int]
        e = sa.Column(sa.Integer)
        d: Mapped[int] = mapped_column()
        f: Mapped[str]
        g = sa.Column(sa.Integer)

    assert Thing.__table__.c.keys() == ["id", "b", "c", "e", "d", "g", "f", "m3", "m1", "m2"]


def test_declared_attr_computes_columns_and_directives(base):
    """declared_attr functions see the class; each runs once per scan, so one may name another's column."""
    calls = []

    @declarative_mixin
    class Mixin:
        @declared_attr.directive
        def __tablename__(cls) -> str:
            return cls.__name__.lower()

        @declared_attr
        def __table_args__(cls):
            return (sa.Index(f"ix_{cls.__tablename__}", cls.owner_id), {"info": {"of": cls.__name__}})

        @declared_attr.directive
        def __mapper_args__(cls) -> dict[str, Any]:
            return {"eager_defaults": True, "version_id_col": cls.version}

        @declared_attr
        def owner_id(cls) -> Mapped[int | None]:
            calls.append(cls)
            return mapped_column(sa.ForeignKey("owner.id"))

        @declared_attr
        @classmethod
        def version(cls):
            return sa.Column(sa.Integer)

        @declared_attr.cascading
        def label(cls) -> Mapped[str]:
            return column_property(mapped_column(f"{cls.__name__}_label"))

        id: Mapped[int] = mapped_column(primary_key=True)

    class Owner(Mixin, base):
        pass

    class Dog(Mixin, base):
        pass

    assert calls == [Owner, Dog]
    assert Dog.__table__.name == "dog"
    assert Dog.__table__.info == {"of": "Dog"}
    assert [i.name for i in Dog.__table__.indexes] == ["ix_dog"]
    assert Dog.__table__.c.owner_id.nullable is True
    assert (Dog.__mapper__.eager_defaults, Dog.__mapper__.version_name) == (True, "version")
    assert isinstance(Dog.__table__.c.Dog_label.type, sa.String)
    assert inspect(Dog).has_property("label")


def test_mapper_arguments_of_a_mixin_mean_the_copy(base):
    """`version_id_col` written in a mixin is the column of each class."""

    class Versioned:
        version = mapped_column(sa.Integer, nullable=False)
        __mapper_args__ = {"version_id_col": version}

    class Thing(Versioned, base):
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(primary_key=True)

    assert inspect(Thing).version_id_col is Thing.__table__.c.version


def test_abstract_bases_and_the_base_itself_share_columns():
    """Columns of the base and of `__abstract__` classes go to each class below; those are not mapped."""
    other = sa.MetaData()

    class Base(DeclarativeBase):
        id: Mapped[int] = mapped_column(primary_key=True)

    class Logged(Base):
        __abstract__ = True
        metadata = other
        note = sa.Column(sa.Text)

    class Thing(Logged):
        __tablename__ = "thing"
        name: Mapped[str]

    class Plain(Base):
        __tablename__ = "plain"

    assert Thing.__table__.c.keys() == ["name", "note", "id"]
    assert Thing.__table__.metadata is other
    assert Plain.__table__.metadata is Base.metadata
    assert not hasattr(Logged, "__mapper__")
    assert not has_inherited_table(Thing)


def test_a_subclass_may_switch_a_mixin_column_off(base):
    """A name that the class sets itself is not taken from a mixin."""

    class Mixin:
        note: Mapped[str]
        size: Mapped[int] = mapped_column()

    class Thing(Mixin, base):
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(primary_key=True)
        note = None
        size = property(lambda self: 3)

    assert Thing.__table__.c.keys() == ["id"]
    assert (Thing.note, Thing().size) == (None, 3)


def test_a_given_table_is_used_and_may_be_renamed(base):
    """`__table__` brings all its columns; attributes may give them other names or options."""
    table = sa.Table(
        "thing",
        base.metadata,
        sa.Column("thing_id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String),
        sa.Column("body", sa.Text),
        sa.Column("b", sa.Integer, key="bee"),
    )

    class Mixin:
        name = sa.Column(sa.Integer)

    class Thing(Mixin, base):
        __table__ = table
        id = table.c.thing_id
        body = deferred(table.c.body)
        bee: Mapped[int]

    assert inspect(Thing).attrs.keys() == ["id", "name", "body", "bee"]
    assert inspect(Thing).columns.keys() == inspect(Thing).c.keys() == ["id", "name", "body", "bee"]
    assert inspect(Thing).attrs.body.deferred
    with pytest.raises(MappingError, match=r"Wrong\.extra is a new column"):

        class Wrong(base):
            __table__ = table
            extra = mapped_column(sa.Integer)

    with pytest.raises(MappingError, match="is no table"):
        type("Worse", (base,), {"__table__": "thing"})


def test_table_arguments_in_their_forms(base):
    """A tuple, a dict, or a tuple that ends with a dict; anything else is an error."""

    class One(base):
        __tablename__ = "one"
        __table_args__ = {"schema": "shop", "comment": "c"}
        id: Mapped[int] = mapped_column(primary_key=True)

    class Two(base):
        __tablename__ = "two"
        __table_args__ = (sa.UniqueConstraint("a", "b", name="uq"), {"schema": "shop"})
        a: Mapped[int] = mapped_column(primary_key=True)
        b: Mapped[int]

    assert One.__table__.fullname == "shop.one"
    assert "uq" in {c.name for c in Two.__table__.constraints}
    with pytest.raises(MappingError, match="neither a tuple nor a dict"):
        type("Three", (base,), {"__tablename__": "three", "__table_args__": sa.Index("x", "a")})


def test_table_cls_makes_the_table(base):
    """`__table_cls__` is called in place of Table."""

    class Thing(base):
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(primary_key=True)

        @classmethod
        def __table_cls__(cls, name, metadata, *items, **kw):
            return sa.Table(f"my_{name}", metadata, *items, **kw)

    assert Thing.__table__.name == "my_thing"


def test_a_class_without_table_is_named(base):
    """Neither __tablename__ nor __table__: the message shows both, and __abstract__."""
    with pytest.raises(NoTable, match=r'__tablename__ = "user"'):
        type("User", (base,), {"id": mapped_column(sa.Integer, primary_key=True)})


def test_a_table_taken_by_another_class_is_named(base):
    """Two classes with one __tablename__ in one MetaData: both are named."""
    body = {"__tablename__": "thing", "id": mapped_column(sa.Integer, primary_key=True)}
    one = type("One", (base,), dict(body))
    with pytest.raises(TableTaken, match=r"Two declares the table 'thing', which One already declared"):
        type("Two", (base,), body | {"id": mapped_column(sa.Integer, primary_key=True)})
    assert one.__table__.name == "thing"


def test_two_attributes_with_one_column_name_are_named(base):
    """Two columns of one name, or one Column under two names, are refused."""
    with pytest.raises(ColumnTwice, match=r"Thing\.a and Thing\.b both stand for the column 'x'"):

        class Thing(base):
            __tablename__ = "thing"
            id: Mapped[int] = mapped_column(primary_key=True)
            a = mapped_column("x", sa.Integer)
            b = mapped_column("x", sa.Integer)


@pytest.mark.parametrize("name", ["metadata", "registry"])
def test_reserved_names_keep_their_column(base, name):
    """`metadata` and `registry` cannot be attributes; the column may have the name."""
    with pytest.raises(ReservedName, match=rf'{name}_ = mapped_column\("{name}", \.\.\.\)'):
        type("Thing", (base,), {"__tablename__": "t", name: mapped_column(sa.Integer, primary_key=True)})


def test_a_refused_class_leaves_no_table_behind(base):
    """After a refusal the corrected class can be written, with the same table name."""
    with pytest.raises(MappingError):
        type("Thing", (base,), {"__tablename__": "thing", "name": mapped_column(sa.String)})
    assert "thing" not in base.metadata.tables
    type("Thing", (base,), {"__tablename__": "thing", "name": mapped_column(sa.String, primary_key=True)})


def test_reserved_names_of_a_given_table(base):
    """A column `metadata` of a given table needs another attribute."""
    table = sa.Table("t", base.metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("metadata"))
    with pytest.raises(ReservedName):
        type("Thing", (base,), {"__table__": table})
    thing = type("Thing", (base,), {"__table__": table, "metadata_": table.c.metadata})
    assert inspect(thing).attrs.keys() == ["id", "metadata_"]


def test_inheritance_between_mapped_classes_is_not_there_yet(base):
    """A class below a mapped class says what is missing and what to write instead."""

    class Person(base):
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)

    with pytest.raises(NotYet, match=r"Boss\(Person\): mapped classes that inherit") as caught:

        class Boss(Person):
            pass

    assert isinstance(caught.value, NotImplementedError)
    with pytest.raises(NotYet, match="polymorphic_on"):
        type(
            "Animal",
            (base,),
            {
                "__tablename__": "animal",
                "id": mapped_column(sa.Integer, primary_key=True),
                "__mapper_args__": {"polymorphic_on": "kind"},
            },
        )


def test_relationships_are_not_there_yet(base):
    """relationship() and annotations with mapped classes say what is missing."""

    class Parent(base):
        __tablename__ = "parent"
        id: Mapped[int] = mapped_column(primary_key=True)

    with pytest.raises(NotYet, match=r"relationship\(\): relationships are not there yet"):
        later.relationship("Parent")
    for annotation in (
        Mapped[Parent],
        Mapped[list[Parent]],
        Mapped[Parent | None],
        later.DynamicMapped[Parent],
    ):
        with pytest.raises(NotYet, match=r"Child\.parent: relationships are"):
            type("Child", (base,), {"__tablename__": "child", "__annotations__": {"parent": annotation}})


def test_generic_mapped_classes_and_mixins(base):
    """A mapped class may be generic; a mixin's `Mapped[T]` needs its column type."""

    class Box(Generic[T]):
        value: Mapped[T] = mapped_column(sa.Integer)

    class Thing(Box[int], base, Generic[T]):
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(primary_key=True)

    assert Thing.__table__.c.keys() == ["id", "value"]
    assert Thing[str](value=3).value == 3


def test_a_decorated_dataclass_is_mapped_with_a_given_table():
    """@registry.mapped above @dataclass keeps the dataclass's constructor and equality."""
    mapper_registry = registry()

    @mapper_registry.mapped
    @dataclasses.dataclass
    class User:
        __table__ = sa.Table(
            "user",
            mapper_registry.metadata,
            sa.Column("id", sa.Integer, primary_key=True),
            sa.Column("name", sa.String),
        )
        id: int = dataclasses.field(init=False)
        name: str = "nobody"
        tags: list = dataclasses.field(default_factory=list)

    assert User("Ann") != User()
    assert User().name == "nobody"
    assert User(name="Ann").tags == []
    assert str(User.name == "x") == '"user".name = :name_1'


def test_columns_in_dataclass_field_metadata():
    """`__sa_dataclass_metadata_key__` names where fields keep columns; a mixin's are made by a function."""
    mapper_registry = registry()

    @dataclasses.dataclass
    class Mixin:
        __sa_dataclass_metadata_key__ = "sa"
        id: int = dataclasses.field(
            init=False, metadata={"sa": lambda: sa.Column(sa.Integer, primary_key=True)}
        )

    @mapper_registry.mapped
    @dataclasses.dataclass
    class User(Mixin):
        __tablename__ = "user"
        name: str = dataclasses.field(default="", metadata={"sa": sa.Column(sa.String(50))})

    assert User.__table__.c.keys() == ["id", "name"]
    assert User("Ann").name == "Ann"
