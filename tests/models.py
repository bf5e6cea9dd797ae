"""The mapped classes most tests use: a small shop, without relationships."""

from __future__ import annotations

import datetime
import decimal
import enum

from sojourn import ForeignKey, Numeric, String, func
from sojourn.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """The base of the shop."""


class Colour(enum.Enum):
    """What an item may look like."""

    RED = "r"
    BLUE = "b"


class Customer(Base):
    """Somebody who buys."""

    __tablename__ = "customer"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))
    age: Mapped[int | None]
    note: Mapped[str | None] = mapped_column(String(200))
    created: Mapped[datetime.datetime] = mapped_column(server_default=func.now())


class Order(Base):
    """What somebody bought."""

    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customer.id"))
    total: Mapped[decimal.Decimal] = mapped_column(Numeric(10, 2), default=decimal.Decimal("0.00"))


class Item(Base):
    """A line of an order, under a composite key."""

    __tablename__ = "item"

    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"), primary_key=True, autoincrement=False)
    line: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    title: Mapped[str] = mapped_column(String(100))
    colour: Mapped[Colour | None]


class Versioned(Base):
    """A row that counts its versions."""

    __tablename__ = "versioned"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))
    version: Mapped[int] = mapped_column()

    __mapper_args__ = {"version_id_col": version}


class Token(Base):
    """A row whose key the program makes."""

    __tablename__ = "token"

    code: Mapped[str] = mapped_column(String(40), primary_key=True)
    value: Mapped[int] = mapped_column(default=0)
