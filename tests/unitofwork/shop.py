"""Mapped classes that exercise every way a column may come by its value."""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from typing import Any

import sqlalchemy as sa

from sojourn import ForeignKey, String, func
from sojourn.orm import DeclarativeBase, Mapped, mapped_column

ticks = iter(range(1, 10_000_000))


class Base(DeclarativeBase):
    """The base of these classes."""


class Thing(Base):
    """A key the database counts, and columns without defaults."""

    __tablename__ = "thing"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None] = mapped_column(String(60))
    rank: Mapped[int | None]


class Stamped(Base):
    """Every kind of default."""

    __tablename__ = "stamped"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None] = mapped_column(String(60))
    fixed: Mapped[str | None] = mapped_column(String(20), default="fixed")
    called: Mapped[int | None] = mapped_column(default=lambda: next(ticks))
    shout: Mapped[str | None] = mapped_column(
        String(60), default=lambda context: (context.get_current_parameters()["name"] or "").upper()
    )
    expressed: Mapped[str | None] = mapped_column(String(20), default=func.lower("SQL"))
    served: Mapped[str | None] = mapped_column(String(20), server_default="served")
    touched: Mapped[int | None] = mapped_column(onupdate=lambda: next(ticks))
    touched_by: Mapped[str | None] = mapped_column(String(20), onupdate=func.lower("UPDATE"))


class Keyed(Base):
    """A key the program makes."""

    __tablename__ = "keyed"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    name: Mapped[str | None] = mapped_column(String(60))
    served: Mapped[str | None] = mapped_column(String(20), server_default="served")


class Pair(Base):
    """A composite key."""

    __tablename__ = "pair"

    left: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    right: Mapped[str] = mapped_column(String(20), primary_key=True)
    name: Mapped[str | None] = mapped_column(String(60))


class Counted(Base):
    """A row that counts its versions."""

    __tablename__ = "counted"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None] = mapped_column(String(60))
    version: Mapped[int] = mapped_column()

    __mapper_args__ = {"version_id_col": version}


class Colour(enum.Enum):
    """An enumeration."""

    RED = "r"
    BLUE = "b"


class Typed(Base):
    """Types that convert."""

    __tablename__ = "typed"

    id: Mapped[int] = mapped_column(primary_key=True)
    day: Mapped[datetime.date | None]
    at: Mapped[datetime.datetime | None]
    price: Mapped[decimal.Decimal | None] = mapped_column(sa.Numeric(10, 2))
    weight: Mapped[float | None]
    flag: Mapped[bool | None]
    colour: Mapped[Colour | None]
    data: Mapped[dict[str, Any] | None] = mapped_column(sa.JSON)
    blob: Mapped[bytes | None]
    guid: Mapped[uuid.UUID | None]
    text: Mapped[str | None] = mapped_column(sa.Text)


class Parent(Base):
    """What children refer to; declared after nothing."""

    __tablename__ = "parent"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class Child(Base):
    """Refers to a parent."""

    __tablename__ = "child"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    parent_id: Mapped[int] = mapped_column(ForeignKey("parent.id"))


class Plain(Base):
    """A key that nobody makes."""

    __tablename__ = "plain"

    code: Mapped[str] = mapped_column(String(20), primary_key=True)
    name: Mapped[str | None] = mapped_column(String(60))


class Renamed(Base):
    """Attributes with other names than their columns."""

    __tablename__ = "renamed"

    key: Mapped[int] = mapped_column("the_id", primary_key=True)
    title: Mapped[str | None] = mapped_column("the title", String(60))
