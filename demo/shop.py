"""The shop: customers, their orders, the items of an order."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal  # noqa: TC003 - the mapping reads annotations

from sojourn import ForeignKey, Numeric, String, func
from sojourn.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customer"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(60))
    email: Mapped[str] = mapped_column(String(80), unique=True)
    city: Mapped[str | None]
    joined: Mapped[dt.datetime] = mapped_column(server_default=func.current_timestamp())


class Order(Base):
    __tablename__ = "purchase"  # ORDER is a word of SQL

    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customer.id"))
    placed: Mapped[dt.date] = mapped_column(default=dt.date.today)
    state: Mapped[str] = mapped_column(default="open")


class Item(Base):
    __tablename__ = "item"

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("purchase.id"))
    product: Mapped[str]
    count: Mapped[int]
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2))
