"""Registries, bases, and the ways to map."""

import dataclasses
import gc
import sys
import weakref

import pytest
import sqlalchemy as sa

from sojourn.errors import MappedTwice, MappingError, NoTable, NotAColumn, NotYet, UnknownKeyword
from sojourn.mapping import (
    DeclarativeBase,
    DeclarativeMeta,
    Mapped,
    MappedAsDataclass,
    add_mapped_attribute,
    as_declarative,
    clear_mappers,
    column_property,
    declarative_base,
    deferred,
    inspect,
    mapped_column,
    registry,
)
from sojourn.mapping.declarative import DeclarativeBaseNoMeta


def new_table(metadata=None, name="thing"):
    return sa.Table(
        name,
        metadata if metadata is not None else sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String),
        sa.Column("age", sa.Integer),
    )


def test_a_base_takes_metadata_registry_and_types():
    """A base may bring its MetaData, its registry, or types; what it does not bring is made."""
    meta = sa.MetaData(schema="shop")

    class One(DeclarativeBase):
        metadata = meta
        type_annotation_map = {str: sa.String(9)}

    class Two(DeclarativeBase):
        registry = registry(metadata=meta)

    class Thing(One):
        __tablename__ = "thing"
        id: Mapped[str] = mapped_column(primary_key=True)

    assert One.registry.metadata is meta is Two.metadata
    assert One.registry is not Two.registry
    assert Thing.__table__.fullname == "shop.thing"
    assert Thing.__table__.c.id.type.length == 9
    assert Thing.registry.find_class("Thing") is Thing
    assert Thing.registry.find_class("Nothing") is None
    assert repr(One.registry) == "<registry of Thing>"


def test_a_base_with_two_metadatas_or_wrong_things_is_refused():
    """A base says its MetaData once, and with the right kind of object."""
    with pytest.raises(MappingError, match="Say it once"):
        type("B", (DeclarativeBase,), {"metadata": sa.MetaData(), "registry": registry()})
    with pytest.raises(MappingError, match="no registry"):
        type("B", (DeclarativeBase,), {"registry": 5})
    with pytest.raises(MappingError, match="no MetaData"):
        type("B", (DeclarativeBase,), {"metadata": 5})
    with pytest.raises(MappingError, match="no column type"):
        registry(type_annotation_map={int: 5})


def test_declarative_base_and_its_kin():
    """declarative_base(), generate_base(), as_declarative and a metaclass all give mapping bases."""

    class Mine:
        def greet(self):
            return f"I am {self.name}"

    mapper_registry = registry()

    @as_declarative(metadata=mapper_registry.metadata)
    class Decorated:
        pass

    class WithMeta(metaclass=DeclarativeMeta):
        __abstract__ = True
        registry = mapper_registry
        __init__ = mapper_registry.constructor

    class NoMeta(DeclarativeBaseNoMeta):
        registry = mapper_registry

    bases = [
        declarative_base(cls=Mine),
        mapper_registry.generate_base(name="Gen"),
        Decorated,
        WithMeta,
        NoMeta,
    ]
    for number, base in enumerate(bases):
        body = {
            "__tablename__": f"t{number}",
            "id": sa.Column(sa.Integer, primary_key=True),
            "name": mapped_column(sa.String),
        }
        cls = type(base)(f"Thing{number}", (base,), body)
        assert cls(name="Ann").name == "Ann"
        assert inspect(cls).local_table.name == f"t{number}"
    assert bases[0].__name__ == "Base"
    assert bases[1].__name__ == "Gen"
    assert issubclass(bases[0], Mine)
    with pytest.raises(MappingError, match="no registry"):
        DeclarativeMeta("Alone", (), {})


def test_a_plain_class_is_mapped_imperatively_with_its_own_init():
    """map_imperatively keeps a class's __init__; a class without one gets the registry's constructor."""

    class WithInit:
        def __init__(self, name):
            self.name = name.upper()

    class Without:
        pass

    table = new_table()
    mapper = registry().map_imperatively(WithInit, table)
    registry().map_imperatively(Without, table)

    assert WithInit("ann").name == "ANN"
    assert WithInit("ann").age is None
    assert Without(name="Ann", age=3).age == 3
    with pytest.raises(UnknownKeyword, match="Did you mean 'name'"):
        Without(nam="Ann")
    assert mapper is inspect(WithInit)
    assert sa.select(WithInit).compile().string == "SELECT thing.id, thing.name, thing.age \nFROM thing"


def test_imperative_properties_rename_defer_and_leave_out():
    """properties=, include_properties, exclude_properties and column_prefix choose the attributes."""
    table = new_table()

    def mapped(**arguments):
        cls = type("Thing", (), {})
        return registry().map_imperatively(cls, table, **arguments)

    assert mapped(properties={"title": table.c.name}).attrs.keys() == ["id", "title", "age"]
    assert mapped(properties={"title": [table.c.name]}).attrs.keys() == ["id", "title", "age"]
    assert mapped(properties={"name": deferred(table.c.name)}).attrs.name.deferred
    assert mapped(properties={"n": column_property(table.c.name)}).name_of[table.c.name] == "n"
    assert mapped(exclude_properties=["age"]).attrs.keys() == ["id", "name"]
    assert mapped(exclude_properties=[table.c.age]).attrs.keys() == ["id", "name"]
    assert mapped(include_properties=["id", "age"]).attrs.keys() == ["id", "age"]
    assert mapped(column_prefix="_").attrs.keys() == ["_id", "_name", "_age"]
    assert mapped(column_prefix="_", properties={"n": table.c.name}).attrs.keys() == ["_id", "n", "_age"]
    with pytest.raises(NotAColumn, match=r"Thing\.name is mapped to 'name'"):
        mapped(properties={"name": "name"})
    with pytest.raises(NotYet):
        mapped(properties={"both": [table.c.name, table.c.age]})


def test_a_property_of_the_class_wins_over_a_column():
    """A column whose name the class answers with a property is not mapped."""

    class Thing:
        @property
        def age(self):
            return 42

    mapper = registry().map_imperatively(Thing, new_table())

    assert mapper.attrs.keys() == ["id", "name"]
    assert Thing().age == 42


def test_a_dataclass_is_mapped_imperatively():
    """A dataclass keeps its constructor; an unhashable one (eq without hash) works."""

    @dataclasses.dataclass
    class Thing:
        name: str
        age: int = 1

    registry().map_imperatively(Thing, new_table())

    assert Thing("Ann") == Thing("Ann")
    assert vars(Thing("Ann"))["age"] == 1
    assert inspect(Thing("Ann")).transient


def test_other_selectables_can_be_mapped():
    """A subquery is mapped with a primary key said for it."""
    inner = sa.select(new_table()).where(sa.column("age") > 3).subquery("old")

    class Old:
        pass

    mapper = registry().map_imperatively(Old, inner, primary_key=[inner.c.id])

    assert mapper.attrs.keys() == ["id", "name", "age"]
    assert mapper.primary_key == (inner.c.id,)


def test_mapping_twice_or_without_table_is_refused():
    """A class has one mapper; an imperative mapping needs its table."""
    mapper_registry = registry()

    class Thing:
        pass

    with pytest.raises(NoTable):
        mapper_registry.map_imperatively(Thing)
    with pytest.raises(MappingError, match="is no table"):
        mapper_registry.map_imperatively(Thing, "thing")
    mapper_registry.map_imperatively(Thing, new_table())
    with pytest.raises(MappedTwice, match="Thing is already mapped, to thing"):
        registry().map_imperatively(Thing, new_table())
    with pytest.raises(MappedTwice):
        mapper_registry.mapped(Thing)


def test_a_failed_mapping_leaves_the_class_as_it_was():
    """Whatever is wrong with a mapping, the class is unmapped afterwards and can be mapped rightly."""

    class Thing:
        pass

    with pytest.raises(MappingError):
        registry().map_imperatively(Thing, new_table(), version_id_col="nothing")
    assert not [name for name in vars(Thing) if name.startswith(("__mapper", "_sa", "__sojourn", "name"))]
    assert registry().map_imperatively(Thing, new_table()).class_ is Thing


def test_a_class_without_room_for_values_is_refused():
    """__slots__ without __dict__ or __weakref__, as in dataclass(slots=True), cannot hold entities."""

    class Slotted:
        __slots__ = ("id", "name")

    @dataclasses.dataclass(slots=True)
    class Data:
        id: int

    for cls in (Slotted, Data):
        with pytest.raises(MappingError, match="slots"):
            registry().map_imperatively(cls, new_table())
        assert not hasattr(cls, "__mapper__")


def test_columns_can_be_added_to_a_mapped_class():
    """`User.extra = mapped_column(...)` adds column and attribute, also after the mapper is finished."""

    class Base(DeclarativeBase):
        pass

    class User(Base):
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)

    before = str(sa.select(User))
    old = User(id=1)
    assert inspect(User).configured
    User.extra = mapped_column(sa.String)
    User.other = sa.Column("col_other", sa.Integer)
    add_mapped_attribute(User, "third", mapped_column("col_3", sa.Integer, deferred=True))
    User.plain = 5

    assert User.__table__.c.keys() == ["id", "extra", "col_other", "col_3"]
    assert inspect(User).attrs.keys() == ["id", "extra", "other", "third"]
    assert inspect(User).attrs.third.deferred
    assert User(extra="x", other=2).extra == "x"
    assert old.extra is None
    assert str(sa.select(User)) != before
    assert User.__sojourn_layout__.names == ("id", "extra", "other", "third")
    assert User.plain == 5
    with pytest.raises(MappingError, match="both stand for the column 'extra'"):
        User.again = mapped_column("extra", sa.Integer)
    with pytest.raises(MappingError):
        User.extra = mapped_column(sa.Integer)
    with pytest.raises(MappingError, match="cannot be deleted"):
        del User.extra
    del User.plain
    with pytest.raises(NotAColumn):
        add_mapped_attribute(User, "x", 5)
    with pytest.raises(MappingError, match="not mapped itself"):
        add_mapped_attribute(Base, "x", mapped_column(sa.Integer))


def test_constructors():
    """The keyword constructor is the registry's unless the class has its own; super().__init__ reaches it."""

    def shouting(self, **values):
        for name, value in values.items():
            setattr(self, name, value.upper())

    loud = registry(constructor=shouting).generate_base()

    class Base(DeclarativeBase):
        pass

    class Loud(loud):
        __tablename__ = "loud"
        name = sa.Column(sa.String, primary_key=True)

    class Own(Base):
        __tablename__ = "own"
        name: Mapped[str] = mapped_column(primary_key=True)
        size: Mapped[int | None]

        def __init__(self, name: str, **values):
            super().__init__(name=name + "!", **values)

        @property
        def both(self):
            return None

        @both.setter
        def both(self, value):
            self.name, self.size = value

    assert Loud(name="ann").name == "ANN"
    assert Own("Ann", size=3).name == "Ann!"
    assert Own("Ann", both=("Bob", 2)).name == "Bob"
    with pytest.raises(UnknownKeyword, match=r"Own\(\) got an unknown keyword 'sise'. Did you mean 'size'"):
        Own("Ann", sise=3)
    with pytest.raises(TypeError):
        Own("Ann", sise=3)


def test_dispose_gives_plain_classes_back(monkeypatch):
    """registry.dispose() and clear_mappers() unmap; the class can be mapped anew."""

    class Thing:
        pass

    mapper_registry = registry()
    mapper_registry.map_imperatively(Thing, new_table())
    mapper_registry.dispose()

    assert not hasattr(Thing, "__mapper__")
    assert not hasattr(Thing, "name")
    other = registry()
    other.map_imperatively(Thing, new_table())
    assert other.mappers == {inspect(Thing)}
    module = sys.modules["sojourn.mapping.registry"]
    monkeypatch.setattr(module, "_REGISTRIES", [other])  # the classes of other tests stay mapped
    clear_mappers()
    assert other.mappers == frozenset()


def test_a_registry_does_not_keep_classes_alive():
    """A mapped class that nobody uses any more can be collected."""
    mapper_registry = registry()

    class Thing:
        pass

    mapper_registry.map_imperatively(Thing, new_table())
    gone = weakref.ref(Thing)
    del Thing
    gc.collect()

    assert gone() is None
    assert not mapper_registry.mappers


def test_mapped_dataclasses_are_not_there_yet():
    """MappedAsDataclass and mapped_as_dataclass say what to write instead."""
    with pytest.raises(NotYet, match="above @dataclass"):
        type("Base", (MappedAsDataclass, DeclarativeBase), {})
    with pytest.raises(NotYet):
        registry().mapped_as_dataclass(object)
