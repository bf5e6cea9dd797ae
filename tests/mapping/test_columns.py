"""The column constructs: mapped_column, Column, column_property, deferred."""

import pytest
import sqlalchemy as sa

from sojourn.errors import DataclassArgument, NotAColumn, NotYet, TrailingComma
from sojourn.mapping import DeclarativeBase, Mapped, column_property, deferred, inspect, mapped_column


@pytest.fixture
def base():
    class Base(DeclarativeBase):
        pass

    return Base


def test_every_form_of_arguments(base):
    """Name, type and schema items come by position or by name, as in Column."""

    class Thing(base):
        __tablename__ = "thing"
        id = mapped_column(sa.Integer, sa.Identity(), primary_key=True)
        a = mapped_column("col_a", sa.String(5))
        b = mapped_column(name="col_b", type_=sa.String(6), key="key_b")
        c = mapped_column("col_c", sa.ForeignKey("thing.id"), type_=sa.Integer)
        d: Mapped[int] = mapped_column(sa.ForeignKey("thing.id", ondelete="CASCADE"))
        e: Mapped[int] = mapped_column(sa.Computed("id * 2"))
        f: Mapped[int] = mapped_column(sa.Sequence("f_seq"))
        g: Mapped[str]
        h = sa.Column("col_h", sa.Unicode)

    columns = Thing.__table__.c
    assert columns.keys() == ["id", "col_a", "key_b", "col_c", "d", "e", "f", "g", "col_h"]
    assert columns.id.identity is not None
    assert columns.key_b.name == "col_b"
    assert isinstance(columns.d.type, sa.Integer)  # taken from the column it points to
    assert columns.e.computed is not None
    assert isinstance(columns.f.default, sa.Sequence)
    assert inspect(Thing).attrs.keys() == ["id", "a", "b", "c", "d", "e", "f", "g", "h"]
    assert Thing.b.expression.name == "col_b"
    assert str(sa.select(Thing.a)) == "SELECT thing.col_a \nFROM thing"


def test_defaults_and_schema_options_reach_the_column(base):
    """Each default and option of Column is passed on."""

    class Thing(base):
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False, comment="key")
        a: Mapped[int] = mapped_column(default=1, onupdate=2)
        b: Mapped[int] = mapped_column(insert_default=lambda: 3)
        c: Mapped[int] = mapped_column(server_default="4", server_onupdate=sa.FetchedValue())
        d: Mapped[int] = mapped_column(default=9, insert_default=5)
        e: Mapped[int] = mapped_column(
            "e", index=True, unique=True, info={"k": 1}, doc="what e is", quote=True, use_existing_column=True
        )
        f: Mapped[int | None] = mapped_column(default=None)

    columns = Thing.__table__.c
    assert (columns.a.default.arg, columns.a.onupdate.arg) == (1, 2)
    assert columns.b.default.is_callable
    assert columns.c.server_default.arg == "4"
    assert columns.c.server_onupdate is not None
    assert columns.d.default.arg == 5
    assert (columns.e.index, columns.e.unique, columns.e.info) == (True, True, {"k": 1})
    assert columns.e.name.quote is True
    assert Thing.e.__doc__ == "what e is"
    assert inspect(Thing).attrs.e.info == {"k": 1}
    assert columns.f.default is None
    assert (columns.id.autoincrement, columns.id.comment) == (False, "key")


def test_deferred_in_its_spellings(base):
    """deferred(), mapped_column(deferred=...) and groups are told by the mapper."""

    class Thing(base):
        __tablename__ = "thing"
        id = sa.Column(sa.Integer, primary_key=True)
        a: Mapped[str] = mapped_column(deferred=True)
        b: Mapped[str] = mapped_column(deferred_group="big", deferred_raiseload=True)
        c = deferred(sa.Column(sa.Text), group="big")
        d: Mapped[str] = deferred(mapped_column(sa.Text, active_history=True), raiseload=True)
        e = column_property(sa.Column("col_e", sa.Text), active_history=True, info={"k": 2}, doc="e!")

    attrs = inspect(Thing).attrs
    assert [p.key for p in attrs if p.deferred] == ["a", "b", "c", "d"]
    assert (attrs.b.deferred_group, attrs.c.group, attrs.a.group) == ("big", "big", None)
    assert (attrs.b.raiseload, attrs.d.raiseload, attrs.a.raiseload) == (True, True, False)
    assert (attrs.e.active_history, attrs.e.info, attrs.e.doc) == (True, {"k": 2}, "e!")
    assert Thing.e.active_history is True
    assert Thing.__table__.c.d.nullable is False


def test_sort_order_moves_columns_in_the_table(base):
    """Columns are sorted by sort_order; equals keep their order: the class first, then its mixins."""

    class Mixin:
        id: Mapped[int] = mapped_column(primary_key=True, sort_order=-1)
        late: Mapped[int] = mapped_column(sort_order=1)
        created: Mapped[int]

    class Thing(Mixin, base):
        __tablename__ = "thing"
        name: Mapped[str]

    assert Thing.__table__.c.keys() == ["id", "name", "created", "late"]


def test_constructs_serve_as_columns_in_their_class_body(base):
    """Indexes, constraints and mapper arguments may name what stands above them."""

    class Thing(base):
        __tablename__ = "thing"
        id = mapped_column(sa.Integer, primary_key=True)
        name: Mapped[str] = mapped_column(sa.String(10))
        version = mapped_column(sa.Integer)
        __table_args__ = (
            sa.Index("ix_name", sa.func.lower(name), version.desc()),
            sa.CheckConstraint(version > 0),
        )
        __mapper_args__ = {"version_id_col": version}

    assert [str(e) for e in next(iter(Thing.__table__.indexes)).expressions] == [
        "lower(thing.name)",
        "thing.version DESC",
    ]
    assert inspect(Thing).version_id_col is Thing.__table__.c.version


def test_a_trailing_comma_is_named(base):
    """`id = Column(Integer),` is a tuple; the message says so."""
    with pytest.raises(
        TrailingComma, match=r"Thing\.name is a tuple holding a column: its line ends with a comma"
    ):

        class Thing(base):
            __tablename__ = "thing"
            id = mapped_column(sa.Integer, primary_key=True)
            name = (mapped_column(sa.String),)


def test_a_forgotten_call_and_a_default_without_mapped_column_are_named(base):
    """`id = mapped_column` and `x: Mapped[int] = 5` get the code to write instead."""
    with pytest.raises(NotAColumn, match=r"Call it: id = mapped_column\(\.\.\.\)"):
        type("Thing", (base,), {"__tablename__": "thing", "id": mapped_column})
    with pytest.raises(NotAColumn, match=r"mapped_column\(default=5\)"):
        type("Thing", (base,), {"__tablename__": "t", "x": 5, "__annotations__": {"x": Mapped[int]}})


def test_dataclass_arguments_need_a_mapped_dataclass(base):
    """init= and its kin are accepted by mapped_column() and refused for a plain class, as SQLAlchemy does."""
    with pytest.raises(
        DataclassArgument, match=r"Thing\.id has dataclass argument\(s\) init, kw_only"
    ) as caught:

        class Thing(base):
            __tablename__ = "thing"
            id: Mapped[int] = mapped_column(primary_key=True, init=False, kw_only=True)

    assert caught.value.names == ("init", "kw_only")
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        column_property(sa.Column(sa.Integer), colour=1)


def test_an_expression_as_column_property_is_not_there_yet(base):
    """column_property() over SQL expressions says that it is missing; over nonsense, that it is no column."""

    class Body:
        __tablename__ = "thing"
        id = mapped_column(sa.Integer, primary_key=True)

    with pytest.raises(NotYet, match=r"Thing\.twice: SQL expressions"):
        type("Thing", (base,), {"__tablename__": "t", "id": Body.id, "twice": column_property(Body.id * 2)})
    with pytest.raises(NotAColumn):
        type("Thing", (base,), {"__tablename__": "u", "id": Body.id, "twice": column_property("id")})
