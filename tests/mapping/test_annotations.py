"""What annotations say about columns."""
# ruff: noqa: UP007, UP045  -- the spellings are what is tested

import datetime
import decimal
import enum
import uuid
from typing import Annotated, Any, ClassVar, Literal, NewType, Optional, Union

import pytest
import sqlalchemy as sa

from sojourn.errors import MappingError, NotMapped, UnknownType, UnresolvedAnnotation
from sojourn.mapping import DeclarativeBase, Mapped, mapped_column

UserId = NewType("UserId", int)
Name50 = Annotated[str, 50]
Key = Annotated[int, mapped_column(primary_key=True)]
Created = Annotated[
    datetime.datetime, mapped_column(nullable=True, server_default=sa.func.now(), deferred=True)
]


class Colour(enum.Enum):
    RED = "r"
    BLUE = "b"


def new_base(types: dict[Any, Any] | None = None) -> Any:
    class Base(DeclarativeBase):
        type_annotation_map = types or {}

    return Base


def column_for(annotation: Any, *, types: dict[Any, Any] | None = None, **kw: Any) -> sa.Column[Any]:
    body = {
        "__tablename__": "thing",
        "__module__": __name__,
        "__annotations__": {"id": Mapped[int], "x": annotation},
        "id": mapped_column(primary_key=True),
    }
    if kw:
        body["x"] = mapped_column(**kw)
    return type("Thing", (new_base(types),), body).__table__.c.x


@pytest.mark.parametrize(
    ("python_type", "sql_type"),
    [
        (int, sa.Integer),
        (str, sa.String),
        (bool, sa.Boolean),
        (float, sa.Double),
        (bytes, sa.LargeBinary),
        (decimal.Decimal, sa.Numeric),
        (datetime.date, sa.Date),
        (datetime.datetime, sa.DateTime),
        (datetime.time, sa.Time),
        (datetime.timedelta, sa.Interval),
        (uuid.UUID, sa.Uuid),
        (Colour, sa.Enum),
        (Literal["a", "b"], sa.Enum),
        (UserId, sa.Integer),
    ],
)
def test_a_python_type_gives_the_column_type(python_type, sql_type):
    """`Mapped[T]` alone makes a NOT NULL column of the type that stands for T."""
    column = column_for(Mapped[python_type])

    assert type(column.type) is sql_type
    assert column.nullable is False


def test_an_enum_class_becomes_its_enum_type():
    """An Enum class gives sqlalchemy.Enum over that class; a Literal gives its words, not a native type."""
    assert column_for(Mapped[Colour]).type.enum_class is Colour
    words = column_for(Mapped[Literal["a", "b"]]).type
    assert words.enums == ["a", "b"]
    assert words.native_enum is False


@pytest.mark.parametrize(
    "annotation",
    [
        Mapped[Optional[int]],
        Mapped[int | None],
        Mapped[Union[None, int]],
        Mapped["int | None"],
        Mapped["Optional[int]"],
        Mapped[Optional["int"]],
        "Mapped[int | None]",
        "Mapped['int | None']",
        Mapped[Annotated[int | None, "note"]],
        Mapped[Optional[Annotated[int, "note"]]],
    ],
)
def test_optional_in_every_spelling_is_nullable(annotation):
    """Optional, `X | None` and texts of them make a nullable column of the inner type."""
    column = column_for(annotation)

    assert isinstance(column.type, sa.Integer)
    assert column.nullable is True


def test_an_explicit_nullable_and_type_win_over_the_annotation():
    """What mapped_column() says is kept; the annotation only fills in."""
    assert column_for(Mapped[int], nullable=True).nullable is True
    assert column_for(Mapped[int | None], nullable=False).nullable is False
    column = column_for(Mapped[str], type_=sa.String(7))
    assert column.type.length == 7


def test_the_type_map_is_asked_first_for_annotated_newtype_and_generics():
    """type_annotation_map may name Annotated, NewType, unions, generics and base classes."""
    types = {
        Name50: sa.String(50),
        UserId: sa.BigInteger,
        dict[str, Any]: sa.JSON,
        int | str: sa.Text,
        enum.Enum: sa.Enum(enum.Enum, native_enum=False, length=9),
        datetime.datetime: sa.DateTime(timezone=True),
    }
    assert column_for(Mapped[Name50], types=types).type.length == 50
    assert column_for(Mapped[Name50 | None], types=types).nullable is True
    assert isinstance(column_for(Mapped[UserId], types=types).type, sa.BigInteger)
    assert isinstance(column_for(Mapped[dict[str, Any]], types=types).type, sa.JSON)
    assert isinstance(column_for(Mapped[int | str | None], types=types).type, sa.Text)
    assert column_for(Mapped[datetime.datetime], types=types).type.timezone is True
    colour = column_for(Mapped[Colour], types=types).type
    assert (colour.enum_class, colour.native_enum, colour.length) == (Colour, False, 9)


def test_annotated_brings_a_column_along():
    """A mapped_column() inside Annotated gives each class its own copy; the right-hand side may add to it."""
    base = new_base()

    class One(base):
        __tablename__ = "one"
        id: Mapped[Key]
        at: Mapped[Created]

    class Two(base):
        __tablename__ = "two"
        id: Mapped[Key] = mapped_column("two_id")
        at: Mapped[Created] = mapped_column(sa.Date, deferred=False)

    assert One.__table__.c.id.primary_key
    assert One.__table__.c.at.server_default is not None
    assert One.__table__.c.at.nullable is True
    assert One.__mapper__.attrs.at.deferred is True
    assert Two.__table__.c.keys() == ["two_id", "at"]
    assert isinstance(Two.__table__.c.at.type, sa.Date)
    assert Two.__mapper__.attrs.at.deferred is False
    assert Two.__table__.c.at.server_default is not One.__table__.c.at.server_default


def test_class_variables_and_plain_values_are_left_alone():
    """ClassVar annotations and attributes that ask for no mapping stay what they are."""

    class Thing(new_base()):
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(primary_key=True)
        limit: ClassVar[int] = 5
        kind: "ClassVar[str]"
        count: int = 7

    assert Thing.__table__.c.keys() == ["id"]
    assert (Thing.limit, Thing.count) == (5, 7)


def test_a_bare_annotation_is_refused_with_the_code_to_write():
    """`name: str` in a mapped class says neither column nor not; __allow_unmapped__ silences that."""
    with pytest.raises(NotMapped, match=r"name: Mapped\[str\]; no column: name: ClassVar\[str\]") as caught:
        type("Thing", (new_base(),), {"__tablename__": "t", "__annotations__": {"name": str}})
    assert (caught.value.entity, caught.value.attribute) == ("Thing", "name")
    with pytest.raises(NotMapped):
        type("Thing", (new_base(),), {"__annotations__": {"id": int}, "id": mapped_column(primary_key=True)})

    class Old(new_base()):
        __tablename__ = "old"
        __allow_unmapped__ = True
        id: int = mapped_column(sa.Integer, primary_key=True)
        note: str

    assert Old.__table__.c.keys() == ["id"]


def test_an_unmapped_python_type_names_both_remedies():
    """A type without a column type says where to give one."""
    with pytest.raises(UnknownType, match=r"type_annotation_map = \{list: JSON\}") as caught:
        column_for(Mapped[list])
    assert caught.value.python_type is list
    with pytest.raises(UnknownType, match="string-based Enum"):
        column_for(Mapped[Literal[1, 2]])
    with pytest.raises(UnknownType):
        column_for(Mapped[int | str])


def test_an_unknown_name_in_a_text_is_an_error_unless_the_column_has_a_type():
    """`Mapped["Missing"]` cannot be read; with a type of its own the column does not need it."""
    with pytest.raises(UnresolvedAnnotation, match="Missing") as caught:
        column_for(Mapped["Missing"])
    assert isinstance(caught.value, MappingError)
    with pytest.raises(UnresolvedAnnotation):
        column_for("Missing[int]")
    assert column_for("Mapped[Missing | None]", type_=sa.Integer).nullable is True
    assert column_for(Mapped["Missing"], type_=sa.Integer).nullable is False


def test_a_column_named_like_its_type_is_no_trap():
    """`date: Mapped[date]` under postponed annotations means the imported class, not the column."""
    namespace: dict[str, Any] = {"__name__": __name__, "Base": new_base()}
    exec(
        "from __future__ import annotations\n"
        "class Day(Base):\n"
        "    __tablename__ = 'day'\n"
        "    id: Mapped[int] = mapped_column(primary_key=True)\n"
        "    datetime: Mapped[datetime.date] = mapped_column()\n",
        globals() | namespace,
        namespace,
    )
    assert isinstance(namespace["Day"].__table__.c.datetime.type, sa.Date)
