"""The finished mapper."""

import pytest
import sqlalchemy as sa

from sojourn.errors import (
    FrozenMapper,
    KeyArity,
    MappingError,
    NoPrimaryKey,
    UnknownAttribute,
    UnknownColumn,
    UnknownMapperArgument,
)
from sojourn.mapping import ColumnProperty, DeclarativeBase, Mapped, inspect, mapped_column, registry


@pytest.fixture
def base():
    class Base(DeclarativeBase):
        pass

    return Base


@pytest.fixture
def line(base):
    class Line(base):
        __tablename__ = "line"
        number: Mapped[int] = mapped_column("no", primary_key=True)
        order: Mapped[str] = mapped_column(primary_key=True)
        text: Mapped[str | None] = mapped_column("body", deferred=True)
        __mapper_args__ = {"primary_key": [order, "number"], "eager_defaults": False}

    return Line


def test_facts_of_a_mapper(line):
    """The names that floors above rely on."""
    mapper = inspect(line)
    table = line.__table__

    assert (mapper.class_, mapper.mapper, mapper.entity) == (line, mapper, line)
    assert mapper.local_table is mapper.persist_selectable is mapper.selectable is table
    assert mapper.tables == [table]
    assert [(p.key, p.column) for p in mapper.columns] == [
        ("number", table.c.no),
        ("order", table.c.order),
        ("text", table.c.body),
    ]
    assert mapper.primary_key == (table.c.order, table.c.no)
    assert mapper.key_names == ("order", "number")
    assert mapper.name_of[table.c.body] == "text"
    assert mapper.column_of["text"] is table.c.body
    assert (mapper.layout.names, mapper.layout.keys) == (("number", "order", "text"), ("order", "number"))
    assert mapper.layout.mapper is mapper
    assert line.__sojourn_layout__ is mapper.layout
    assert mapper.eager_defaults is False
    assert (mapper.version_column, mapper.version_name) == (None, None)
    assert mapper.registry is line.registry
    assert mapper.registry.mappers == {mapper}
    assert str(mapper) == "Mapper[Line(line)]"
    assert repr(mapper) == "<Mapper of Line on line>"


def test_names_of_sqlalchemys_mapper(line):
    """attrs, column_attrs, c, columns, get_property and the rest answer as in SQLAlchemy."""
    mapper = inspect(line)

    assert mapper.attrs.keys() == mapper.column_attrs.keys() == mapper.c.keys() == ["number", "order", "text"]
    assert mapper.columns.keys() == ["number", "order", "text"]
    assert mapper.columns["text"] is mapper.columns.text is mapper.c.text is line.__table__.c.body
    assert "text" in mapper.columns
    assert line.__table__.c.body in mapper.columns
    assert "body" not in mapper.columns
    assert [p.name for p in mapper.columns] == ["no", "order", "body"]
    assert [p.key for p in mapper.attrs] == ["number", "order", "text"]
    assert mapper.attrs.text is mapper.attrs["text"] is mapper.get_property("text") is line.text.property
    assert mapper.get_property_by_column(line.__table__.c.no).key == "number"
    assert mapper.has_property("text")
    assert not mapper.has_property("body")
    assert isinstance(mapper.attrs.text, ColumnProperty)
    assert mapper.attrs.text.class_attribute is line.text
    assert mapper.attrs.text.parent is mapper
    assert str(mapper.attrs.text) == "Line.text"
    assert mapper.attrs.text.columns == [mapper.attrs.text.expression]
    assert mapper.all_orm_descriptors.keys() == ["number", "order", "text"]
    assert mapper.all_orm_descriptors.text is line.text
    assert list(mapper.relationships) == list(mapper.composites) == list(mapper.synonyms) == []
    assert mapper.isa(mapper)
    assert mapper.base_mapper is mapper
    assert list(mapper.iterate_to_root()) == list(mapper.polymorphic_iterator()) == [mapper]
    assert (mapper.inherits, mapper.single, mapper.polymorphic_on, mapper.is_mapper) == (
        None,
        False,
        None,
        True,
    )
    with pytest.raises(UnknownAttribute, match="Did you mean 'text'"):
        mapper.get_property("test")
    with pytest.raises(AttributeError, match="Line maps no attribute 'body'"):
        mapper.attrs.body
    with pytest.raises(AttributeError):
        mapper.attrs.text.nonsense


def test_keys_of_entities_and_rows(line):
    """Identity keys are (class, key values, None), from an entity, from values, from a row."""
    mapper = inspect(line)
    entity = line(number=1, order="a")

    assert mapper.primary_key_from_instance(entity) == ["a", 1]
    assert mapper.primary_key_from_instance(line(number=1)) == [None, 1]
    assert mapper.identity_key_from_instance(entity) == (line, ("a", 1), None)
    assert mapper.identity_key_from_primary_key(["a", 1]) == (line, ("a", 1), None)
    with pytest.raises(KeyArity, match=r"order, number"):
        mapper.identity_key_from_primary_key([1])
    engine = sa.create_engine("sqlite://")
    with engine.connect() as connection:
        line.metadata.create_all(connection)
        connection.execute(sa.insert(line.__table__).values(no=2, order="b"))
        row = connection.execute(sa.select(line.__table__)).one()
    assert mapper.identity_key_from_row(row) == (line, ("b", 2), None)


def test_a_class_stands_for_its_table_in_core(line):
    """Core's select() takes class, mapper and attributes; an entity is no selectable."""
    assert sa.select(line).compile().string == sa.select(inspect(line)).compile().string
    assert sa.select(line.text).where(line.number == 1).compile().string == (
        "SELECT line.body \nFROM line \nWHERE line.no = :no_1"
    )
    assert sa.delete(line).compile().string == "DELETE FROM line"
    assert not hasattr(line(), "__clause_element__")


def test_a_finished_mapper_is_frozen(line):
    """After configure nothing of a mapper can be set; its memo is for floors above."""
    mapper = inspect(line)

    assert mapper.configured
    with pytest.raises(FrozenMapper, match="its local_table cannot be set"):
        mapper.local_table = None
    with pytest.raises(FrozenMapper):
        mapper.columns = ()
    with pytest.raises(FrozenMapper):
        del mapper.class_
    mapper.memo["plan"] = 1


def test_versions(base):
    """version_id_col and its generator: counting, a function of one's own, or the database's."""

    class Thing(base):
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(primary_key=True)
        version: Mapped[int] = mapped_column()
        __mapper_args__ = {"version_id_col": version}

    class Own(base):
        __tablename__ = "own"
        id: Mapped[int] = mapped_column(primary_key=True)
        stamp = mapped_column(sa.String)
        __mapper_args__ = {"version_id_col": stamp, "version_id_generator": lambda old: f"{old}+"}

    class Server(base):
        __tablename__ = "server"
        id: Mapped[int] = mapped_column(primary_key=True)
        xmin = mapped_column(sa.Integer, system=True, server_default=sa.FetchedValue())
        __mapper_args__ = {"version_id_col": xmin, "version_id_generator": False}

    generate = inspect(Thing).version_id_generator
    assert inspect(Thing).version_column is Thing.__table__.c.version
    assert (inspect(Thing).version_name, generate(None), generate(4)) == ("version", 1, 5)
    assert inspect(Own).version_generator("a") == "a+"
    assert inspect(Server).version_generator is False


def test_a_primary_key_is_needed(base):
    """Without a key the message shows how to give one, in each way of mapping."""
    with pytest.raises(NoPrimaryKey, match=r"name: Mapped\[int\] = mapped_column\(primary_key=True\)"):
        type("Thing", (base,), {"__tablename__": "thing", "name": mapped_column(sa.String)})
    table = sa.Table("log", sa.MetaData(), sa.Column("line", sa.Integer))
    with pytest.raises(NoPrimaryKey, match=r"primary_key=\[log\.c\.line\]"):
        registry().map_imperatively(type("Log", (), {}), table)
    mapper = registry().map_imperatively(type("Log", (), {}), table, primary_key=table.c.line)
    assert mapper.key_names == ("line",)


def test_arguments_are_checked(base):
    """Unknown mapper arguments and unknown columns are named, with a suggestion."""

    def mapped(**arguments):
        body = {"__tablename__": f"t{len(base.metadata.tables)}", "__mapper_args__": arguments}
        return type("Thing", (base,), body | {"id": mapped_column(sa.Integer, primary_key=True)})

    with pytest.raises(UnknownMapperArgument, match="Did you mean 'eager_defaults'"):
        mapped(eager_default=True)
    with pytest.raises(UnknownColumn, match="version_id_col of Thing names versoin"):
        mapped(version_id_col="versoin")
    with pytest.raises(UnknownColumn, match="The primary key of Thing"):
        mapped(exclude_properties=["id"])
    with pytest.raises(MappingError, match="is no dict"):
        type(
            "Thing",
            (base,),
            {"__tablename__": "x", "id": mapped_column(primary_key=True), "__mapper_args__": 5},
        )
    assert (
        inspect(mapped(polymorphic_on=None, concrete=False, confirm_deleted_rows=False)).confirm_deleted_rows
        is False
    )
