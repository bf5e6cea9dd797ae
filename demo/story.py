"""The story: create, query, update, savepoint, rollback, bulk, threads, asyncio; each step tells."""

from __future__ import annotations

import asyncio
import threading
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from demo.shop import Base, Customer, Item, Order
from demo.watch import Watched, chapter, console, say, show_statements
from sojourn import create_engine, func, insert, select
from sojourn.exc import IntegrityError
from sojourn.ext.asyncio import async_sessionmaker, create_async_engine
from sojourn.orm import scoped_session, sessionmaker

if TYPE_CHECKING:
    from pathlib import Path

PRODUCTS = (("teapot", "34.50"), ("cup", "6.20"), ("kettle", "59.00"), ("tea, 100 g", "11.90"))


def tell(file: Path) -> None:
    """Run the whole story on one SQLite file."""
    engine = create_engine(f"sqlite:///{file}", connect_args={"factory": Watched}, sqlite_foreign_keys=True)
    Session = sessionmaker(engine)
    chapter("Create")
    Base.metadata.create_all(engine)
    show_statements()
    create(Session)
    query(Session)
    update(Session)
    savepoint(Session)
    rollback(Session)
    bulk(Session)
    threads(Session)
    asyncio.run(asynchronous(file))
    mistakes(Session)
    engine.dispose()


def create(Session: Any) -> None:
    """Two customers, three orders, their items: three statements' worth of batches."""
    with Session() as session:
        ada = Customer(name="Ada", email="ada@example.org", city="London")
        bob = Customer(name="Bob", email="bob@example.org")
        session.add_all([ada, bob])
        say("Two customers are pending. What a flush would do:")
        console.print(str(session.plan()), style="magenta", markup=False)
        session.flush()
        say(f"Flushed; the keys came back to their objects: Ada is {ada.id}, Bob is {bob.id}.")
        orders = [Order(customer_id=ada.id), Order(customer_id=ada.id), Order(customer_id=bob.id)]
        session.add_all(orders)
        session.flush()
        session.add_all(
            Item(order_id=order.id, product=product, count=i + 1, price=Decimal(price))
            for order in orders
            for i, (product, price) in enumerate(PRODUCTS)
        )
        session.commit()
        say(f"Committed. Ada joined at {ada.joined}, which the database decided.")
    show_statements()


def query(Session: Any) -> None:
    """Entities, rows, aggregates, 1.x queries; the identity map."""
    chapter("Query")
    with Session() as session:
        ada = session.scalars(select(Customer).where(Customer.name == "Ada")).one()
        again = session.get(Customer, ada.id)
        say(f"{ada.name} from {ada.city}; asked again by key, it is the same object: {again is ada}")
        total = func.sum(Item.count * Item.price).label("total")
        statement = (
            select(Customer.name, func.count(Order.id.distinct()).label("orders"), total)
            .join(Order, Order.customer_id == Customer.id)
            .join(Item, Item.order_id == Order.id)
            .group_by(Customer.name)
            .order_by(total.desc())
        )
        for row in session.execute(statement):
            say(f"{row.name}: {row.orders} orders, {row.total:.2f}")
        cheap = session.query(Item).filter(Item.price < 10).order_by(Item.id).first()
        say(f"The cheapest: {cheap.product}, a Decimal as mapped: {cheap.price!r}")
    show_statements()


def update(Session: Any) -> None:
    """Only what changed is written; a value put back is no change."""
    chapter("Update")
    with Session() as session:
        ada, bob = session.get_many(Customer, [1, 2])
        ada.city, bob.name = "Turin", "Robert"
        bob.name = "Bob"  # put back: nothing to write
        say(f"In session.dirty: {[customer.name for customer in session.dirty]}")
        console.print(str(session.plan()), style="magenta", markup=False)
        session.commit()
    show_statements()


def savepoint(Session: Any) -> None:
    """A refused row costs its savepoint, not the transaction."""
    chapter("Savepoint")
    with Session() as session:
        session.add(Customer(name="Cem", email="cem@example.org"))
        try:
            with session.begin_nested():
                session.add(Customer(name="Imposter", email="ada@example.org"))
        except IntegrityError as error:
            say(f"Refused: {error.orig}")
        session.commit()
        names = session.scalars(select(Customer.name).order_by(Customer.id)).all()
        say(f"Cem stayed, the imposter did not: {names}")
    show_statements()


def rollback(Session: Any) -> None:
    """After a rollback objects show what the database has."""
    chapter("Rollback")
    with Session() as session:
        ada = session.get(Customer, 1)
        ada.city = "Atlantis"
        session.flush()
        session.rollback()
        say(f"Ada's city after the rollback, read again: {ada.city}")
    show_statements()


def bulk(Session: Any) -> None:
    """Ten thousand dicts, no entities."""
    chapter("Bulk insert")
    rows = [
        {"order_id": 1, "product": f"spoon {i}", "count": 1, "price": Decimal("0.50")} for i in range(10_000)
    ]
    with Session() as session:
        session.execute(insert(Item), rows)
        session.commit()
        say(f"Items now: {session.scalar(select(func.count(Item.id)))}")
    show_statements()


def threads(Session: Any) -> None:
    """One session per thread without passing it around."""
    chapter("Scoped sessions in threads")
    shop = scoped_session(Session)
    sessions: list[Any] = []
    write = threading.Lock()  # SQLite has one writer at a time

    def serve(name: str) -> None:
        sessions.append(shop())
        with write:
            shop.add(Customer(name=name, email=f"{name}@example.org"))
            shop.commit()
        shop.remove()

    workers = [threading.Thread(target=serve, args=(f"guest-{i}",)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    say(f"{len(workers)} threads, {len(set(sessions))} sessions, none passed around.")
    say(f"This thread's session sees {shop.query(Customer).count()} customers.")
    shop.remove()
    show_statements()


async def asynchronous(file: Path) -> None:
    """The same session over aiosqlite, without greenlets."""
    chapter("Async session (aiosqlite, native)")
    engine = create_async_engine(f"sqlite+aiosqlite:///{file}", connect_args={"factory": Watched})
    Session = async_sessionmaker(engine)

    async def orders_of(key: int) -> str:
        async with Session() as session:
            customer = await session.get(Customer, key)
            orders = (await session.scalars(select(Order).where(Order.customer_id == key))).all()
            return f"{customer.name}: {len(orders)} orders"

    for line in await asyncio.gather(orders_of(1), orders_of(2)):
        say(line)
    async with Session.begin() as session:
        bob = await session.get_one(Customer, 2)
        bob.city = "Oslo"
    say("Bob moved to Oslo; the block committed.")
    await engine.dispose()
    show_statements()


def mistakes(Session: Any) -> None:
    """Errors say what happened, to which thing, and what to type."""
    chapter("Mistakes")
    attempts = {
        'Customer(nmae="Eve")': lambda session: Customer(nmae="Eve"),
        "session.get(Customer, (1, 2))": lambda session: session.get(Customer, (1, 2)),
        'session.add("Ada")': lambda session: session.add("Ada"),
    }
    with Session() as session:
        for text, attempt in attempts.items():
            try:
                attempt(session)
            except Exception as error:  # noqa: BLE001 - each attempt raises another kind
                say(f"[bold]{text}[/bold]")
                console.print(f"    {error}".replace("\n", "\n    "), style="red", markup=False)
    show_statements()
