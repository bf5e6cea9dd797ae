"""Pool events of an async engine: SQLAlchemy's order and arguments; blocking listeners do no harm."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import DisconnectionError, InvalidRequestError

from tests.databases import databases

NAMES = (
    "first_connect", "connect", "checkout", "checkin", "reset", "invalidate", "soft_invalidate", "close",
    "detach", "close_detached",
)  # fmt: skip


def listen(engine, heard, *names):
    """Note the name and arguments of each event."""
    for name in names or NAMES:
        event.listen(engine.sync_engine, name, lambda *args, name=name: heard.append((name, args)))


def names(heard):
    """Return the names of the events heard so far, and forget them."""
    found = [name for name, _ in heard]
    heard.clear()
    return found


async def test_the_order_of_events_is_sqlalchemys(adb):
    """J-like table: first use, second use, soft and hard invalidation, disposal."""
    engine = adb.create_engine()
    heard = []
    listen(engine, heard)
    async with engine.connect() as connection:
        await connection.execute(text("SELECT 1"))
    assert names(heard) == ["first_connect", "connect", "checkout", "reset", "checkin"]

    async with engine.connect() as connection:
        await connection.execute(text("SELECT 1"))
    assert names(heard) == ["checkout", "reset", "checkin"]

    connection = await engine.connect()
    await connection.invalidate()
    await connection.close()
    assert names(heard) == ["checkout", "invalidate", "close", "checkin"]

    async with engine.connect() as connection:
        await connection.run_sync(lambda core: core.connection._connection_record.invalidate(soft=True))
    assert names(heard) == ["connect", "checkout", "soft_invalidate", "reset", "checkin"]
    await engine.dispose()
    assert names(heard) == ["close"]


async def test_arguments_are_the_connection_its_record_and_its_proxy(adb):
    """The connection is usable by blocking code, the record keeps notes with it, the proxy is Core's view."""
    engine = adb.create_engine(pool_size=1, max_overflow=0)
    heard = []
    listen(engine, heard, "connect", "checkout", "checkin")
    async with engine.connect():
        pass
    async with engine.connect():
        pass

    (_, (opened, record)), (_, (lent, same, proxy)), (_, (back, again)), *_ = heard
    assert opened is lent is back
    assert record is same is again
    assert proxy.dbapi_connection is lent
    assert proxy.info is record.info
    assert record.dbapi_connection is lent
    assert record.driver_connection is lent.driver_connection


async def test_a_listener_that_only_looks_runs_in_the_event_loop(adb):
    """After its first call, which shows what it does, it costs no thread."""
    engine = adb.create_engine()
    threads = []
    event.listen(engine.sync_engine, "checkout", lambda *_: threads.append(threading.current_thread()))
    for _ in range(3):
        async with engine.connect():
            pass
    assert threads[1:] == [threading.main_thread()] * 2


async def test_a_listener_that_uses_the_connection_runs_in_a_thread(adb):
    """Blocking calls of a listener do not stop the loop, nor does it leave a transaction open."""
    engine = adb.create_engine()
    found = []

    def look(connection, *_):
        cursor = connection.cursor()
        cursor.execute("SELECT 42")
        found.append(cursor.fetchone()[0])
        cursor.close()

    for name in ("checkout", "reset", "checkin"):
        event.listen(engine.sync_engine, name, look)
    for _ in range(2):
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
    assert found == [42] * 6
    async with engine.connect() as connection:
        assert not connection.in_transaction()


async def test_a_listener_that_begins_to_block_is_called_in_a_thread(adb):
    """It left the connection alone at first; nothing is lost when it changes its mind."""
    engine = adb.create_engine()
    found = []
    calls = []

    def look(connection, *_):
        calls.append(1)
        if len(calls) > 2:
            cursor = connection.cursor()
            cursor.execute("SELECT 42")
            found.append(cursor.fetchone()[0])

    event.listen(engine.sync_engine, "checkout", look)
    for _ in range(4):
        async with engine.connect():
            pass
    assert found == [42, 42]


async def test_a_listener_may_call_a_connection_dead(adb):
    """DisconnectionError: another connection is lent; the third is the last try."""
    engine = adb.create_engine(pool_size=1, max_overflow=0)
    refuse = []

    def check(*_):
        if refuse:
            refuse.pop()
            raise DisconnectionError

    event.listen(engine.sync_engine, "checkout", check)
    async with engine.connect():
        pass
    refuse += [1, 1]
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT 1")) == 1
    assert engine.pool.stats().closed["broken"] == 2
    refuse += [1, 1, 1]
    with pytest.raises(InvalidRequestError, match="three connections dead"):
        await engine.connect()
    assert engine.pool.checkedout() == 0


async def test_an_error_of_a_listener_costs_the_connection_not_the_place(adb):
    """It reaches the caller."""
    engine = adb.create_engine(pool_size=1, max_overflow=0)

    def fail(*_):
        raise ZeroDivisionError

    event.listen(engine.sync_engine, "checkout", fail)
    with pytest.raises(ZeroDivisionError):
        await engine.connect()
    assert engine.pool.checkedout() == 0


@databases("asyncpg", "psycopg_async")
async def test_listeners_given_at_creation_are_heard(adb):
    """`pool_events=[(function, name)]`."""
    heard = []
    engine = adb.create_engine(pool_events=[(lambda *_: heard.append(1), "checkout")])
    async with engine.connect():
        pass
    assert heard == [1]
