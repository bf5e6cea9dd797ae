"""A table of many types on SQLite, read once through plans and once through plain Core."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import StaticPool

from sojourn.engine import create_engine
from sojourn.kernel.identity import IdentityMap
from sojourn.kernel.record import Recording
from sojourn.mapping import DeclarativeBase, Mapped, mapped_column
from sojourn.plans import plan_for_core, plan_for_recording


class Color(enum.Enum):
    """A small enumeration."""

    red = 1
    green = 2
    blue = 3


class Base(DeclarativeBase):
    """The registry of these tests."""


class Thing(Base):
    """One row of each kind of value."""

    __tablename__ = "thing"

    id: Mapped[int] = mapped_column(primary_key=True)
    n: Mapped[int | None]
    big: Mapped[int | None] = mapped_column(sa.BigInteger)
    s: Mapped[str | None] = mapped_column(sa.String(50))
    label_: Mapped[str | None] = mapped_column("label", sa.String(50))
    d: Mapped[dt.date | None]
    at: Mapped[dt.datetime | None]
    price: Mapped[decimal.Decimal | None] = mapped_column(sa.Numeric(10, 2))
    weight: Mapped[float | None]
    on: Mapped[bool | None]
    color: Mapped[Color | None]


class Part(Base):
    """Something that belongs to a thing."""

    __tablename__ = "part"

    id: Mapped[int] = mapped_column(primary_key=True)
    thing_id: Mapped[int] = mapped_column(sa.ForeignKey("thing.id"))
    name: Mapped[str]
    notes: Mapped[str | None] = mapped_column(deferred=True)


_NAMES = ("id", "n", "big", "s", "label", "d", "at", "price", "weight", "on", "color")
_MONEY = decimal.Decimal
_VALUES: list[tuple[Any, ...]] = [
    (
        1,
        1,
        2**40,
        "abc",
        "a%b",
        dt.date(2020, 1, 1),
        dt.datetime(2020, 1, 1),
        _MONEY("1.50"),
        0.5,
        True,
        Color.red,
    ),
    (2, None, None, None, None, None, None, None, None, None, None),
    (
        3,
        -7,
        -5,
        "",
        "ä_ö",
        dt.date(1999, 12, 31),
        dt.datetime(1999, 12, 31, 23),
        _MONEY("-0.01"),
        -2.0,
        False,
        Color.blue,
    ),
    (
        4,
        1000,
        2**31,
        "5",
        "abc",
        dt.date(2024, 2, 29),
        dt.datetime(2024, 2, 29, 1),
        _MONEY("99.99"),
        5.0,
        True,
        Color.green,
    ),
    (
        5,
        5,
        5,
        "ABC",
        "A%B",
        dt.date(2020, 1, 1),
        dt.datetime(2020, 1, 1, 12),
        _MONEY("5.00"),
        1e10,
        False,
        Color.red,
    ),
]
THINGS: list[dict[str, Any]] = [dict(zip(_NAMES, values, strict=True)) for values in _VALUES]


def make_engine() -> Any:
    """Make an engine on a filled in-memory database with one connection."""
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(sa.insert(Thing.__table__), THINGS)
        connection.execute(
            sa.insert(Part.__table__),
            [{"id": n, "thing_id": 1 + n % 4, "name": f"part {n}", "notes": "long"} for n in range(1, 8)],
        )
    return engine


def plan_of(engine: Any, statement: Any, given: Any = None) -> tuple[Any, tuple[Any, ...]]:
    """Find or compile the plan of a statement, and its literals."""
    if isinstance(statement, Recording):
        return plan_for_recording(statement, engine), statement.params
    return plan_for_core(statement, engine, given)


def run(engine: Any, statement: Any, given: Any = None) -> list[Any]:
    """Execute through a plan, straight on the driver's cursor."""
    plan, params = plan_of(engine, statement, given)
    text, args = plan.bind(params)
    connection = engine.raw_connection()
    try:
        cursor = connection.cursor()
        cursor.execute(text, args)
        loader = plan.resolve(cursor.description)
        rows: list[Any] = loader.load(cursor.fetchall(), IdentityMap(None), 0)
        cursor.close()
    finally:
        connection.close()
    return rows


def by_core(engine: Any, statement: Any) -> list[tuple[Any, ...]]:
    """Execute with Core alone."""
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(statement)]
