"""The async engine and its connection: Core's API on native drivers, no greenlet."""

from __future__ import annotations

import asyncio
import logging

import pytest
import sqlalchemy
from sqlalchemy import Column, Integer, MetaData, String, Table, event, func, inspect, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, ProgrammingError, ResourceClosedError
from sqlalchemy.pool import NullPool

from sojourn import errors
from sojourn.ext.asyncio import async_engine_from_config, create_async_engine
from tests.databases import databases

metadata = MetaData()
thing = Table(
    "thing", metadata, Column("id", Integer, primary_key=True), Column("name", String(20), unique=True)
)


@pytest.fixture
async def engine(adb):
    """An engine with an empty table `thing`."""
    engine = adb.create_engine()
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    return engine


def lent(engine):
    """Return how many connections are lent in this loop."""
    return engine.pool.here().core.leased


async def test_run_sync_serves_ddl_and_reflection(engine):
    """`metadata.create_all` and `inspect` work on every driver."""
    async with engine.connect() as connection:
        names = await connection.run_sync(lambda core: inspect(core).get_table_names())
        columns = await connection.run_sync(
            lambda core: [c["name"] for c in inspect(core).get_columns("thing")]
        )

    assert names == ["thing"]
    assert columns == ["id", "name"]
    assert lent(engine) == 0


async def test_statements_give_core_results(engine):
    """Inserts tell their keys, selects give rows with Core's API, text takes parameters."""
    async with engine.begin() as connection:
        inserted = await connection.execute(thing.insert().values(name="one"))
        await connection.execute(thing.insert(), [{"name": "two"}, {"name": "three"}])

        assert inserted.inserted_primary_key == (1,)
        assert (await connection.scalars(select(thing.c.name).order_by(thing.c.id))).all() == [
            "one",
            "two",
            "three",
        ]
        row = (
            await connection.execute(text("SELECT * FROM thing WHERE name = :name"), {"name": "two"})
        ).one()
        assert row._mapping["id"] == 2
        assert await connection.scalar(select(func.count()).select_from(thing)) == 3
        changed = await connection.execute(
            thing.update().where(thing.c.id > 1).values(name=thing.c.name + "!")
        )
        assert changed.rowcount == 2


async def test_begin_commits_and_errors_roll_back(engine):
    """`engine.begin()` is a transaction; leaving it by an error undoes it."""
    async with engine.begin() as connection:
        await connection.execute(thing.insert().values(name="kept"))
    with pytest.raises(ZeroDivisionError):
        async with engine.begin() as connection:
            await connection.execute(thing.insert().values(name="lost"))
            raise ZeroDivisionError
    async with engine.connect() as connection:  # not committed
        await connection.execute(thing.insert().values(name="lost too"))

    async with engine.connect() as connection:
        assert (await connection.scalars(select(thing.c.name))).all() == ["kept"]
    assert lent(engine) == 0


async def test_savepoints_end_alone(engine):
    """C7: what a savepoint did is undone by its rollback, and by the outer one after its release."""
    async with engine.connect() as connection:
        async with connection.begin_nested():
            await connection.execute(thing.insert().values(name="released"))
        savepoint = await connection.begin_nested()
        await connection.execute(thing.insert().values(name="undone"))
        await savepoint.rollback()
        assert (await connection.scalars(select(thing.c.name))).all() == ["released"]
        await connection.rollback()
        assert (await connection.scalars(select(thing.c.name))).all() == []


async def test_streams_fetch_bit_by_bit(engine):
    """`stream` iterates, `async with` closes it; scalars and partitions as on a buffered result."""
    async with engine.begin() as connection:
        await connection.execute(thing.insert(), [{"name": f"n{n}"} for n in range(25)])
    async with engine.connect() as connection:
        statement = select(thing.c.id, thing.c.name).order_by(thing.c.id)
        async with connection.stream(statement, execution_options={"yield_per": 10}) as result:
            assert [len(part) async for part in result.partitions()] == [10, 10, 5]
        assert [row.name async for row in await connection.stream(statement.limit(2))] == ["n0", "n1"]
        scalars = await connection.stream_scalars(statement.with_only_columns(thing.c.name))
        assert (await scalars.first()) == "n0"


async def test_driver_errors_are_core_errors(engine):
    """As with SQLAlchemy: the class of the meaning, with statement; the connection goes on after rollback."""
    async with engine.connect() as connection:
        await connection.execute(thing.insert().values(name="same"))
        await connection.commit()
        with pytest.raises(IntegrityError, match="INSERT INTO thing"):
            await connection.execute(thing.insert().values(name="same"))
        await connection.rollback()
        with pytest.raises(DBAPIError) as caught:
            await connection.execute(text("SELECT * FROM nowhere"))
        assert isinstance(caught.value, ProgrammingError | OperationalError)
        await connection.rollback()
        assert await connection.scalar(select(func.count()).select_from(thing)) == 1


async def test_exec_driver_sql_speaks_the_drivers_language(engine):
    """Parameters are written as the driver (through its Core dialect) writes them."""
    mark = {"aiosqlite": "?", "asyncpg": "$1::int", "psycopg": "%s"}[engine.driver]
    async with engine.connect() as connection:
        result = await connection.exec_driver_sql(f"SELECT {mark} + 1", (41,))
        assert result.scalar() == 42


async def test_listeners_of_the_engine_hear_each_statement(engine):
    """`before_cursor_execute` on `sync_engine` hears what the connection executes."""
    heard = []
    event.listen(
        engine.sync_engine,
        "before_cursor_execute",
        lambda _c, _cursor, statement, *_: heard.append(statement),
    )
    async with engine.connect() as connection:
        await connection.execute(select(thing.c.id))

    assert [statement.split()[0] for statement in heard] == ["SELECT"]


@databases("aiosqlite")
async def test_connect_listeners_get_a_blocking_connection(adb):
    """The well-known recipe: a PRAGMA in a "connect" listener; functions, too."""
    engine = adb.create_engine()

    def prepare(connection, _record):
        connection.cursor().execute("PRAGMA foreign_keys=ON")
        connection.create_function("twice", 1, lambda n: n * 2)

    event.listen(engine.sync_engine, "connect", prepare)
    async with engine.connect() as connection:
        assert await connection.scalar(text("PRAGMA foreign_keys")) == 1
        assert await connection.scalar(text("SELECT twice(21)")) == 42


@databases("aiosqlite")
async def test_foreign_keys_are_enforced_on_request(adb):
    """`sqlite_foreign_keys=True` holds for every connection."""
    engine = adb.create_engine(sqlite_foreign_keys=True)
    async with engine.connect() as connection:
        assert await connection.scalar(text("PRAGMA foreign_keys")) == 1


@databases("postgresql")
async def test_isolation_levels(adb):
    """For the engine, and for one connection, which is as before when it is lent again."""
    engine = adb.create_engine(isolation_level="REPEATABLE READ", pool_size=1, max_overflow=0)
    async with engine.connect() as connection:
        assert await connection.get_isolation_level() == "REPEATABLE READ"
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="SERIALIZABLE")
        assert await connection.scalar(text("SHOW transaction_isolation")) == "serializable"
    async with engine.connect() as connection:
        assert await connection.scalar(text("SHOW transaction_isolation")) == "repeatable read"


@databases("postgresql")
async def test_autocommit(adb):
    """An AUTOCOMMIT engine stores at once."""
    engine = adb.create_engine()
    automatic = engine.execution_options(isolation_level="AUTOCOMMIT")
    async with automatic.connect() as connection:
        await connection.run_sync(metadata.create_all)
        await connection.execute(thing.insert().values(name="stored"))
        await connection.rollback()
    async with engine.connect() as connection:
        assert await connection.scalar(select(thing.c.name)) == "stored"


async def test_echo_logs_what_runs(adb, caplog):
    """`echo=True` logs statements as Core does."""
    engine = adb.create_engine(echo=True)
    with caplog.at_level(logging.INFO, "sqlalchemy.engine"):
        async with engine.connect() as connection:
            await connection.execute(select(1))

    assert any("SELECT 1" in record.getMessage() for record in caplog.records)


async def test_a_closed_connection_refuses(engine):
    """Used after its block, a connection says so; used before `await`, how to start it."""
    connection = engine.connect()
    with pytest.raises(sqlalchemy.exc.InvalidRequestError, match="not started"):
        await connection.execute(select(1))
    async with connection:
        await connection.execute(select(1))
    with pytest.raises(ResourceClosedError):
        await connection.execute(select(1))


async def test_the_sync_engine_refuses_to_block_the_loop(engine):
    """Using `sync_engine` directly names the way that works."""
    with pytest.raises(errors.BlockingCall, match="run_sync"):
        engine.sync_engine.connect()
    async with engine.connect() as connection:
        core = connection.sync_connection
        if engine.driver != "aiosqlite":
            with pytest.raises(errors.BlockingCall):
                core.execute(select(1))


async def test_no_pool(adb):
    """`poolclass=NullPool`: a connection per use."""
    engine = adb.create_engine(poolclass=NullPool)
    for _ in range(2):
        async with engine.connect() as connection:
            assert await connection.scalar(select(1)) == 1
    await engine.dispose()
    assert engine.pool.here().core.total == 0


@databases("postgresql")
async def test_a_lost_server_connection_is_replaced(adb):
    """With the pool's question to the socket, nobody notices that the server closed an idle connection."""
    engine = adb.create_engine(pool_size=1, max_overflow=0)
    async with engine.connect() as connection:
        first = await connection.scalar(text("SELECT pg_backend_pid()"))
    other = adb.create_engine()
    async with other.connect() as connection:
        await connection.execute(text(f"SELECT pg_terminate_backend({first}, 5000)"))
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT pg_backend_pid()")) != first


async def test_a_refused_connect_is_told_as_core_does(adb):
    """What the driver says, in Core's class where the driver's is a DB-API error; the place is free again."""
    if adb.dialect == "sqlite":
        engine = create_async_engine("sqlite+aiosqlite:////nowhere/at/all.db")
    else:
        engine = create_async_engine(
            sqlalchemy.make_url(adb.url).set(database="not_there"), pool_size=1, max_overflow=0
        )
    for _ in range(2):
        with pytest.raises((DBAPIError, OSError)):
            await engine.connect()
    assert engine.pool.here().core.total == 0
    await engine.dispose()


def test_an_in_memory_database_outlives_the_event_loop():
    """Its one connection is shared by all; a second use by the same task is refused at once."""
    engine = create_async_engine("sqlite+aiosqlite://")

    async def first():
        async with engine.begin() as connection:
            await connection.run_sync(metadata.create_all)
            with pytest.raises(errors.PoolDeadlock, match="holds every connection"):
                await engine.connect()

    async def second():
        async with engine.connect() as connection:
            found = (await connection.execute(select(thing))).all()
        await engine.dispose()
        return found

    asyncio.run(first())
    assert asyncio.run(second()) == []


def test_unknown_drivers_are_named():
    """A dialect without a native driver row is refused, with the ones that work."""
    pytest.importorskip("asyncpg")
    with pytest.raises((errors.DriverMissing, sqlalchemy.exc.SQLAlchemyError, ImportError)):
        create_async_engine("mysql+aiomysql://somewhere/x")


async def test_engine_from_config():
    """As `engine_from_config`, with the options as texts."""
    engine = async_engine_from_config({"sqlalchemy.url": "sqlite+aiosqlite://", "sqlalchemy.echo": "false"})
    async with engine.connect() as connection:
        assert await connection.scalar(select(1)) == 1
    await engine.dispose()
