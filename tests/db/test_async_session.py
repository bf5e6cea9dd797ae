"""The async session on every async driver: the same operations as the blocking one, awaited."""

from __future__ import annotations

import asyncio
import random
import sys

import pytest
from sqlalchemy import event
from sqlalchemy.exc import IntegrityError, MissingGreenlet, MultipleResultsFound, NoResultFound

from sojourn import create_engine, delete, errors, func, insert, select, text, update
from sojourn.ext.asyncio import (
    AsyncAttrs,
    AsyncSession,
    async_object_session,
    async_scoped_session,
    async_sessionmaker,
)
from sojourn.orm import DeclarativeBase, Mapped, mapped_column
from tests.databases import databases
from tests.models import Base, Customer, Order


@pytest.fixture
async def engine(adb):
    """An engine with the shop's tables."""
    engine = adb.create_engine()
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    return engine


@pytest.fixture
def maker(engine):
    """What makes sessions."""
    return async_sessionmaker(engine)


async def store(maker, *names):
    """Store customers and return their keys."""
    async with maker() as session:
        customers = [Customer(name=name, age=number) for number, name in enumerate(names)]
        session.add_all(customers)
        await session.flush()
        keys = [customer.id for customer in customers]
        await session.commit()
        return keys


async def stored(maker):
    """Return the stored names in order of key."""
    async with maker() as session:
        return (await session.scalars(select(Customer.name).order_by(Customer.id))).all()


def lent(engine):
    """Return how many connections are lent in this loop."""
    return engine.pool.here().core.leased


# -- operations -------------------------------------------------------------------------------


async def test_objects_are_stored_read_changed_and_deleted(maker, engine):
    """The round of a row, each step in its own session."""
    (key,) = await store(maker, "Ann")
    async with maker() as session:
        ann = await session.get_one(Customer, key)
        ann.name = "Anna"
        await session.commit()
    async with maker() as session:
        assert (await session.get(Customer, key)).name == "Anna"
        await session.delete(await session.get(Customer, key))
        await session.commit()
        assert await session.get(Customer, key) is None
        with pytest.raises(NoResultFound):
            await session.get_one(Customer, key)
    assert lent(engine) == 0


async def test_one_identity_per_row(maker):
    """G1 and G2: one object per key; many keys in order, the missing as None."""
    keys = await store(maker, "Ann", "Bob")
    async with maker() as session:
        ann = await session.get(Customer, keys[0])
        assert await session.get(Customer, keys[0]) is ann
        found = await session.get_many(Customer, [keys[1], 999, keys[0]])
        assert [each and each.name for each in found] == ["Bob", None, "Ann"]
        assert found[2] is ann


async def test_statements(maker):
    """Run execute, scalars, scalar and look at their results; update, delete and insert of entities."""
    await store(maker, "Ann", "Bob", "Cid")
    async with maker() as session:
        assert (await session.scalar(select(func.count()).select_from(Customer))) == 3
        rows = (await session.execute(select(Customer.name, Customer.age).order_by(Customer.id))).all()
        assert rows[1].name == "Bob"
        assert (await session.execute(select(Customer).where(Customer.age > 1))).scalar_one().name == "Cid"
        with pytest.raises(MultipleResultsFound):
            (await session.scalars(select(Customer))).one()
        changed = await session.execute(update(Customer).where(Customer.age == 0).values(name="Anna"))
        assert changed.rowcount == 1
        assert (await session.execute(delete(Customer).where(Customer.name == "Bob"))).rowcount == 1
        made = await session.scalars(insert(Customer).returning(Customer), [{"name": "Dan"}, {"name": "Eve"}])
        assert [each.name for each in made.all()] == ["Dan", "Eve"]
        assert (await session.execute(text("SELECT count(*) FROM customer"))).scalar() == 4
        await session.commit()
    assert await stored(maker) == ["Anna", "Cid", "Dan", "Eve"]


async def test_streams(maker):
    """`stream` and `stream_scalars` fetch while one iterates; `yield_per` on execute is buffered."""
    await store(maker, *[f"n{n}" for n in range(20)])
    statement = select(Customer).order_by(Customer.id)
    async with maker() as session:
        result = await session.stream(statement, execution_options={"yield_per": 8})
        assert [len(part) async for part in result.partitions()] == [8, 8, 4]
        seen = [each.name async for each in await session.stream_scalars(statement)]
        assert seen == [f"n{n}" for n in range(20)]
        first = await (
            await session.stream(select(Customer.name, Customer.age).order_by(Customer.id))
        ).first()
        assert first.name == "n0"
        buffered = await session.scalars(statement.execution_options(yield_per=7))
        assert len(buffered.all()) == 20


async def test_unloaded_attributes_name_their_remedies(maker):
    """After commit a read raises; refresh, load and awaitable_attrs load."""
    (key,) = await store(maker, "Ann")
    async with maker() as session:
        ann = await session.get(Customer, key)
        await session.commit()
        with pytest.raises(
            errors.NotLoadedInAsync, match=r"await session.load\(customer, Customer.name\)"
        ) as caught:
            ann.name
        assert isinstance(caught.value, MissingGreenlet)
        await session.load(ann, Customer.name)
        assert ann.name == "Ann"
        session.expire(ann)
        await session.refresh(ann, ["age"])
        assert ann.age == 0
    assert async_object_session(ann) is None
    with pytest.raises(errors.DetachedRead):
        ann.name


async def test_awaitable_attributes(adb):
    """`await entity.awaitable_attrs.name` loads what is not loaded."""

    class Own(AsyncAttrs, DeclarativeBase):
        pass

    class Note(Own):
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str]

    engine = adb.create_engine()
    async with engine.begin() as connection:
        await connection.run_sync(Own.metadata.create_all)
    async with async_sessionmaker(engine).begin() as session:
        note = Note(text="remember")
        session.add(note)
        await session.flush()
        session.expire(note)
        assert await note.awaitable_attrs.text == "remember"
        assert note.text == "remember"
        assert async_object_session(note) is session


async def test_transactions_and_savepoints(maker):
    """begin, begin_nested, their blocks and their calls; C7."""
    async with maker() as session, session.begin():
        session.add(Customer(name="kept"))
        async with session.begin_nested():
            session.add(Customer(name="released"))
        savepoint = await session.begin_nested()
        session.add(Customer(name="undone"))
        await session.flush()
        assert session.in_nested_transaction()
        await savepoint.rollback()
    assert await stored(maker) == ["kept", "released"]

    async with maker() as session:
        with pytest.raises(ZeroDivisionError):
            async with session.begin():
                session.add(Customer(name="lost"))
                raise ZeroDivisionError
        await session.begin()
        with pytest.raises(errors.SessionError, match="already begun"):
            await session.begin()
        async with session.begin_nested():
            session.add(Customer(name="lost too"))
        await session.rollback()
    assert await stored(maker) == ["kept", "released"]


async def test_a_failed_flush_waits_for_rollback(maker):
    """The error is Core's; until rollback() the session says what happened; then it goes on."""
    async with maker() as session:
        session.add(Customer(id=1, name="one"))
        await session.commit()
        session.add(Customer(id=1, name="again"))
        with pytest.raises(IntegrityError):
            await session.flush()
        with pytest.raises(errors.PendingRollback):
            await session.get(Customer, 2)
        await session.rollback()
        assert (await session.get(Customer, 1)).name == "one"


async def test_merge_and_refresh(maker):
    """Merge copies onto the session's entity; refresh reads anew."""
    (key,) = await store(maker, "Ann")
    async with maker() as session:
        merged = await session.merge(Customer(id=key, name="Anna"))
        assert merged in session.dirty
        await session.commit()
        await session.refresh(merged)
        assert merged.name == "Anna"
        await session.execute(text("UPDATE customer SET name = 'Ada'"))
        await session.refresh(merged)
        assert merged.name == "Ada"


async def test_blocking_code_in_a_session(maker):
    """run_sync hands out a blocking session over the same entities and transaction; reading loads there."""
    (key,) = await store(maker, "Ann")
    async with maker() as session:
        ann = await session.get(Customer, key)
        await session.commit()

        def work(blocking):
            assert blocking.get(Customer, key) is ann
            blocking.expire(ann)
            with blocking.begin_nested():
                blocking.add(Customer(name="Bob"))
            return ann.name, [each.name for each in blocking.query(Customer).order_by(Customer.id)]

        assert await session.run_sync(work) == ("Ann", ["Ann", "Bob"])
        session.expire(ann)
        with pytest.raises(errors.NotLoadedInAsync):
            ann.name
        await session.commit()
    assert await stored(maker) == ["Ann", "Bob"]


async def test_the_connection_shares_the_transaction(maker):
    """Core statements on session.connection() see what the session flushed, and end with it."""
    async with maker() as session:
        session.add(Customer(name="Ann"))
        await session.flush()
        connection = await session.connection()
        assert await connection.scalar(text("SELECT count(*) FROM customer")) == 1
        await connection.execute(
            text("INSERT INTO customer (name, created) VALUES ('Bob', CURRENT_TIMESTAMP)")
        )
        await session.rollback()
    assert await stored(maker) == []


async def test_no_autoflush_and_the_sets(maker):
    """G5: no insert inside the block; new, dirty and deleted show what waits."""
    async with maker() as session:
        ann = Customer(name="Ann")
        session.add(ann)
        with session.no_autoflush:
            assert await session.scalar(select(func.count()).select_from(Order)) == 0
        assert ann in session.new
        assert await session.scalar(select(func.count()).select_from(Customer)) == 1
        ann.name = "Anna"
        assert ann in session.dirty
        await session.delete(ann)
        assert ann in session.deleted


async def test_two_tasks_in_one_session_are_refused(maker):
    """The second task gets the error; the first one is not disturbed."""
    keys = await store(maker, "Ann", "Bob")
    async with maker() as session:
        await session.scalar(select(1))
        outcomes = await asyncio.gather(*[session.get(Customer, key) for key in keys], return_exceptions=True)
        assert outcomes[0].name == "Ann"
        assert isinstance(outcomes[1], errors.SessionError)
        assert "one session per task" in str(outcomes[1])


async def test_a_scoped_session_is_one_per_task(maker, engine):
    """Each task gets its own; remove() closes it."""
    scoped = async_scoped_session(maker, scopefunc=asyncio.current_task)

    async def work(name):
        scoped.add(Customer(name=name))
        await scoped.commit()
        session = scoped()
        assert scoped() is session
        await scoped.remove()
        return session

    sessions = await asyncio.gather(work("a"), work("b"))
    assert sessions[0] is not sessions[1]
    assert not scoped.registry.registry
    assert sorted(await stored(maker)) == ["a", "b"]
    assert lent(engine) == 0


@databases("asyncpg")
async def test_two_phase_commit(adb, maker, engine):
    """Prepared on every connection, then committed."""
    async with engine.connect() as connection:
        if await connection.scalar(text("SHOW max_prepared_transactions")) == "0":
            pytest.skip("not applicable: the server allows no prepared transactions")
    async with maker(twophase=True) as session:
        session.add(Customer(name="Ann"))
        await session.flush()
        await session.prepare()
        await session.commit()
    assert await stored(maker) == ["Ann"]


def test_a_blocking_engine_is_refused():
    """The mistake is told when the session is made, and how to make the right engine."""
    engine = create_engine("sqlite://")
    with pytest.raises(errors.SessionError, match="create_async_engine"):
        AsyncSession(engine)
    engine.dispose()


async def test_listeners_hear_what_the_session_sends(maker, engine):
    """With a listener on the engine everything goes through Core: same results, each statement heard."""
    heard = []
    event.listen(
        engine.sync_engine, "before_cursor_execute", lambda _c, _k, statement, *_: heard.append(statement)
    )
    keys = await store(maker, "Ann", "Bob")
    async with maker() as session, session.begin():
        ann = await session.get(Customer, keys[0])
        ann.name = "Anna"
        async with session.begin_nested():
            session.add(Customer(name="Cid"))
        result = await session.stream_scalars(select(Customer.name).order_by(Customer.id))
        assert [name async for name in result] == ["Anna", "Bob", "Cid"]
        await session.delete(await session.get(Customer, keys[1]))
    assert await stored(maker) == ["Anna", "Cid"]
    assert {"INSERT", "SELECT", "UPDATE", "SAVEPOINT", "DELETE"} <= {each.split()[0] for each in heard}


# -- cancellation -----------------------------------------------------------------------------


async def one_task(maker, number, done):
    """Store, change, read and commit; note a commit that was reported."""
    async with maker() as session:
        session.add_all([Customer(name=f"{number}a", age=number), Customer(name=f"{number}b", age=number)])
        await session.flush()
        async with session.begin_nested():
            session.add(Customer(name=f"{number}c", age=number))
        rows = (await session.scalars(select(Customer).where(Customer.age == number))).all()
        for row in rows:
            row.note = "seen"
        await session.commit()
        done.append(number)
        await session.get(Customer, 1)


@pytest.mark.parametrize("seed", range(4))
async def test_random_cancellation_leaves_nothing_half_way(adb, seed):
    """Cancelled anywhere, a task leaves all of its rows or none, no lent connection, and the others alone."""
    chance = random.Random(seed)
    engine = adb.create_engine(pool_size=3, max_overflow=0)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    maker = async_sessionmaker(engine)
    done, tasks = [], {}
    for number in range(30):
        tasks[number] = asyncio.create_task(one_task(maker, number, done))
    for _ in range(400):
        await asyncio.sleep(chance.choice([0, 0, 0, 0.001]))  # sleep: a driver is at work
        if chance.random() < 0.1:
            chance.choice(list(tasks.values())).cancel()
        if all(task.done() for task in tasks.values()):
            break
    outcomes = await asyncio.gather(*tasks.values(), return_exceptions=True)

    unexpected = [each for each in outcomes if isinstance(each, Exception)]
    if adb.dialect == "sqlite":  # one writer at a time: some are told that the database is locked
        unexpected = [each for each in unexpected if "locked" not in str(each)]
    assert unexpected == []
    assert lent(engine) == 0
    async with maker() as session:
        counts = dict(
            (await session.execute(select(Customer.age, func.count()).group_by(Customer.age))).all()
        )
    assert set(counts.values()) <= {3}
    assert set(done) <= set(counts)
    assert len(done) >= 1


async def test_a_cancelled_session_is_as_after_a_rollback(maker, engine):
    """What it had added is transient again, its transaction is over, and it can be used anew."""
    await store(maker, "Ann")
    async with maker() as session:
        ann = Customer(name="new")
        session.add(ann)
        await session.flush()
        task = asyncio.create_task(session.scalars(select(Customer)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not session.in_transaction()
        assert ann not in session
        assert lent(engine) == 0
        assert [each.name for each in (await session.scalars(select(Customer))).all()] == ["Ann"]


def test_greenlet_was_not_imported():
    """Nothing above needed it."""
    assert "greenlet" not in sys.modules
