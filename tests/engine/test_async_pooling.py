"""The async engine's pool on real servers: lost connections, foreign session state, limits, numbers."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import sys
import time
from asyncio.subprocess import PIPE

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import AsyncAdaptedQueuePool, NullPool, StaticPool

from sojourn import errors
from sojourn.ext.asyncio import AsyncSession, create_async_engine
from tests.databases import databases
from tests.serverside import ask, kill, sessions, wait_until

WHO = text("SELECT pg_backend_pid()")
LONG_READ = "SELECT count(*) FROM generate_series(1, 4000000)"
servers = databases("asyncpg", "psycopg_async")


async def who(engine):
    """Return the number of the server session that the pool lends."""
    async with engine.connect() as connection:
        return await connection.scalar(WHO)


async def who_by_session(engine):
    """Ask the short way, as sessions do."""
    async with AsyncSession(engine) as session:
        return (await session.execute(WHO)).scalar_one()


async def kill_now(adb, *numbers):
    """End server sessions while the event loop goes on."""
    await asyncio.to_thread(kill, adb, *numbers)


# -- lost connections --------------------------------------------------------------------------


@servers
@pytest.mark.parametrize("use", [who, who_by_session])
@pytest.mark.parametrize("block", [True, False], ids=["loop blocked", "loop running"])
async def test_d1_a_kill_between_uses_is_not_noticed(adb, use, block):
    """D1: a connection that was killed while idle is replaced; with default options nobody notices."""
    engine = adb.create_engine(pool_size=3)
    for _ in range(4):
        number = await use(engine)
        if block:
            kill(adb, number)
        else:
            await kill_now(adb, number)
        assert await use(engine) != number
    assert engine.pool.stats().closed["server"] == 4


@servers
async def test_an_idle_connection_that_dies_leaves_the_pool_by_itself(adb):
    """The loop notices a hang-up: nobody has to ask for the connection."""
    engine = adb.create_engine()
    number = await who(engine)
    assert engine.pool.checkedin() == 1
    await kill_now(adb, number)
    async with asyncio.timeout(5):
        while engine.pool.checkedin():  # noqa: ASYNC110 - the pool tells nobody
            await asyncio.sleep(0)
    assert engine.pool.stats().closed == {"server": 1}


@servers
async def test_e2_a_minimum_is_restored_after_a_kill(adb):
    """E2: the loop opens others for those it has lost."""
    engine = adb.create_engine(min_idle=2)
    await engine.pool.warm(2)
    before = sessions(adb)
    await kill_now(adb, *before)
    async with asyncio.timeout(5):
        while len(now := await asyncio.to_thread(sessions, adb)) < 2 or now & before:
            continue
    assert len(now) == 2


@servers
@pytest.mark.parametrize("statement", [WHO, text("CREATE TABLE late (id int)")])
async def test_a_connection_that_dies_before_the_first_statement_is_exchanged(adb, statement):
    """The late check: lent, then lost, then used for the first time, be it for a write: nothing was sent."""
    engine = adb.create_engine(pool_size=1, max_overflow=0)
    number = await who(engine)
    async with engine.connect() as connection:
        kill(adb, number)
        await connection.execute(statement)
        await connection.commit()
        assert await connection.scalar(WHO) != number
    async with AsyncSession(engine) as session:
        await session.connection()
        kill(adb, *sessions(adb))
        await session.execute(WHO)
    assert engine.pool.checkedin() == 1


@servers
@pytest.mark.parametrize("way", ["connection", "session"])
async def test_d2_a_kill_in_a_transaction_is_one_clear_error(adb, way):
    """D2, D5: recognised as a disconnection, never repeated silently; the next use works."""
    engine = adb.create_engine(pool_size=1, max_overflow=0, retry="reads")
    one = engine.connect() if way == "connection" else AsyncSession(engine)
    async with one:
        await one.execute(text("CREATE TABLE half (id int)"))
        number = (await one.execute(WHO)).scalar_one()
        await kill_now(adb, number)
        with pytest.raises(DBAPIError) as caught:
            await one.execute(WHO)
        await one.rollback()
    assert caught.value.connection_invalidated
    assert await who(engine) != number
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT to_regclass('half')")) is None


async def kill_when_busy(adb):
    """Kill the one session that runs the long read."""

    def find():
        busy = ask(
            adb,
            "SELECT pid FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%generate_series%' "
            "AND pid <> pg_backend_pid()",
        )
        return [row[0] for row in busy]

    (number,) = await asyncio.to_thread(wait_until, find)
    await kill_now(adb, number)


@servers
@pytest.mark.slow
async def test_a_first_read_is_repeated_on_request(adb):
    """`retry="reads"`: the read that was in flight is sent again; by default it fails."""
    for retry in ("reads", None):
        engine = adb.create_engine(retry=retry)
        async with AsyncSession(engine) as session:
            running = asyncio.create_task(session.execute(text(LONG_READ)))
            await kill_when_busy(adb)
            if retry:
                assert (await running).scalar_one() == 4_000_000
            else:
                with pytest.raises(DBAPIError):
                    await running
                await session.rollback()


@servers
@pytest.mark.slow
async def test_a_write_is_never_repeated(adb):
    """What was sent may have happened."""
    engine = adb.create_engine(retry="reads")
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE counted (n bigint)"))
    async with AsyncSession(engine) as session:
        writing = asyncio.create_task(session.execute(text("INSERT INTO counted " + LONG_READ)))
        await kill_when_busy(adb)
        with pytest.raises(DBAPIError):
            await writing
        await session.rollback()
        assert (await session.execute(text("SELECT count(*) FROM counted"))).scalar_one() == 0


async def test_other_words_for_retry_are_refused():
    """A write is never sent twice, whatever is asked for."""
    with pytest.raises(ArgumentError, match="never sent twice"):
        create_async_engine("sqlite+aiosqlite://", retry="writes")


# -- frozen servers ----------------------------------------------------------------------------


@servers
@pytest.mark.slow
async def test_a_frozen_server_process_is_waited_for_no_longer_than_allowed(adb):
    """Ping, reset and close have limits that hold when nothing answers at all."""
    engine = adb.create_engine(pool_size=2, ping_after=0)
    handling = engine.pool.here().handling
    handling.ping_limit = handling.reset_limit = handling.close_limit = 0.2
    number = await who(engine)
    with adb.server.frozen(number):
        start = time.monotonic()
        assert await who(engine) != number  # the ping
        assert time.monotonic() - start < 2

    async with engine.connect() as connection:
        number = await connection.scalar(WHO)
        with adb.server.frozen(number):
            start = time.monotonic()
            await connection.close()  # the rollback
            assert time.monotonic() - start < 2
    assert await who(engine) != number

    number = await who(engine)
    with adb.server.frozen(number):
        start = time.monotonic()
        await engine.dispose()  # the goodbye
        assert time.monotonic() - start < 2
    assert engine.pool.checkedin() == 0


# -- session state -----------------------------------------------------------------------------

SOIL = {
    "set": ("SET statement_timeout TO '77s'", "SHOW statement_timeout", "0"),
    "set_config": (
        "SELECT set_config('my.user', 'me', false)",
        "SELECT current_setting('my.user', true)",
        "",
    ),
    "role": ("SET ROLE pg_monitor", "SELECT current_user", "sojourn"),
    "temp": ("CREATE TEMP TABLE mine (id int)", "SELECT to_regclass('pg_temp.mine')", None),
    "listen": ("LISTEN news", "SELECT count(*) FROM pg_listening_channels()", 0),
    "lock": ("SELECT pg_advisory_lock(7)", "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'", 0),
    "prepare": ("PREPARE p AS SELECT 1", "SELECT count(*) FROM pg_prepared_statements WHERE from_sql", 0),
}


@servers
@pytest.mark.parametrize("soil", SOIL)
@pytest.mark.parametrize("way", ["connection", "session"])
async def test_e7_what_one_user_sets_the_next_does_not_see(adb, soil, way):
    """E7: variables, temporary tables, subscriptions, locks and statements end with the lease."""
    do, look, clean = SOIL[soil]
    engine = adb.create_engine(pool_size=1, max_overflow=0)
    async with engine.connect() if way == "connection" else AsyncSession(engine) as first:
        await first.execute(text(do))
        await first.commit()
    async with engine.connect() if way == "connection" else AsyncSession(engine) as second:
        assert (await second.execute(text(look))).scalar() == clean


@servers
async def test_a_session_is_reset_only_when_it_was_changed(adb):
    """What ran is recognised by its text; plain work costs no reset, and a connection is kept through one."""
    engine = adb.create_engine(pool_size=1, max_overflow=0)
    number = await who(engine)
    assert "session" not in engine.pool.stats().resets
    for _ in range(2):
        async with engine.connect() as connection:
            await connection.execute(text("SET statement_timeout TO '77s'"))
            await connection.commit()
    assert await who(engine) == number
    assert engine.pool.stats().resets["session"] == 2


@servers
async def test_what_a_connect_listener_has_set_stays(adb):
    """A reset would lose it too, so a changed connection is closed where there is such a listener."""
    engine = adb.create_engine(pool_size=1, max_overflow=0)

    def set_path(connection, _record):
        connection.cursor().execute("SET application_name TO 'ours'")
        connection.commit()

    event.listen(engine.sync_engine, "connect", set_path)
    async with engine.connect() as connection:
        await connection.execute(text("SET statement_timeout TO '77s'"))
        await connection.commit()
    async with engine.connect() as connection:
        assert await connection.scalar(text("SHOW application_name")) == "ours"
        assert await connection.scalar(text("SHOW statement_timeout")) == "0"
    assert engine.pool.stats().closed == {"reset": 1}


@servers
async def test_the_drivers_own_connection_is_cleaned_after_use(adb):
    """What is done with it is not seen."""
    engine = adb.create_engine(pool_size=1, max_overflow=0)
    lane = await engine.acquire()
    await lane.driver_connection.execute("SET statement_timeout TO '77s'")
    await lane.driver_connection.execute("COMMIT")
    await lane.release()
    async with engine.connect() as connection:
        assert await connection.scalar(text("SHOW statement_timeout")) == "0"


@databases("aiosqlite")
async def test_e7_on_sqlite_a_changed_connection_is_closed(adb):
    """A PRAGMA of one user is not seen by the next."""
    engine = adb.create_engine(pool_size=1, max_overflow=0)
    async with engine.connect() as connection:
        await connection.execute(text("PRAGMA cache_size=123"))
    async with engine.connect() as connection:
        assert await connection.scalar(text("PRAGMA cache_size")) != 123


@servers
@pytest.mark.parametrize(("style", "expected"), [("rollback", 0), ("commit", 1)])
async def test_reset_on_return(adb, style, expected):
    """`pool_reset_on_return`, as with SQLAlchemy."""
    engine = adb.create_engine(pool_size=1, max_overflow=0, pool_reset_on_return=style)
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE kept (id int)"))
    lane = await engine.acquire()
    await lane.begin()
    await lane.native.change("INSERT INTO kept VALUES (1)", ())
    await lane.release()
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM kept")) == expected


# -- leases ------------------------------------------------------------------------------------


async def test_e3_who_waits_too_long_is_told_who_holds(adb):
    """E3: task, age, place and last statement of the oldest leases; it is the built-in TimeoutError."""
    engine = adb.create_engine(pool_size=1, max_overflow=0, pool_timeout=0.1, poolclass=AsyncAdaptedQueuePool)
    ready, done = asyncio.Event(), asyncio.Event()

    async def hold():
        async with AsyncSession(engine) as session:
            await session.execute(text("SELECT 41 + 1"))
            ready.set()
            await done.wait()

    holder = asyncio.create_task(hold(), name="the holder")
    await ready.wait()
    with pytest.raises(TimeoutError) as caught:
        await engine.connect()
    done.set()
    await holder

    assert "the holder" in str(caught.value)
    assert "test_async_pooling.py" in str(caught.value)
    assert "SELECT 41 + 1" in str(caught.value)


async def test_a_dropped_lease_comes_back_with_a_warning_that_names_the_place(adb):
    """B6: what the garbage collector finds is given back at once; the warning says where it was acquired."""
    engine = adb.create_engine(pool_size=1, max_overflow=0)
    lane = await engine.acquire()
    with pytest.warns(ResourceWarning, match=r"test_async_pooling\.py:\d+ in test_a_dropped_lease"):
        lane = None
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT 1")) == 1
    assert lane is None
    assert engine.pool.stats().gc_returns == 1


@servers
async def test_a_detached_connection_is_the_holders(adb):
    """The pool forgets it and opens another in its place; given back, it is closed."""
    heard = []
    engine = adb.create_engine(pool_size=1, max_overflow=0)
    for name in ("detach", "close_detached"):
        event.listen(engine.sync_engine, name, lambda *_, name=name: heard.append(name))
    lane = await engine.acquire()
    lane.detach()
    assert engine.pool.checkedout() == 0
    number = await who(engine)
    assert number != lane.native.number
    assert len(sessions(adb)) == 2
    await lane.release()
    await asyncio.to_thread(wait_until, lambda: sessions(adb) == {number})
    assert heard == ["detach", "close_detached"]


@servers
async def test_cancellation_anywhere_loses_nothing(adb):
    """Tasks cancelled at random moments of a lease: none is swallowed, no place lost, no session left."""
    engine = adb.create_engine(pool_size=2, max_overflow=1, pool_timeout=10)
    chance = random.Random(5)

    async def work():
        while True:
            async with AsyncSession(engine) as session:
                await session.execute(text("SELECT pg_sleep(0.001)"))

    tasks = [asyncio.create_task(work()) for _ in range(12)]
    for task in tasks:
        for _ in range(chance.randrange(30)):
            await asyncio.sleep(0)
        task.cancel()
    ends = {type(end) for end in await asyncio.gather(*tasks, return_exceptions=True)}
    await asyncio.gather(*engine.pool.here().creators)

    assert ends == {asyncio.CancelledError}
    core = engine.pool.here().core
    assert (core.leased, core.connecting, len(core.waiting)) == (0, 0, 0)
    await who(engine)
    await engine.dispose()
    tasks.clear()
    gc.collect()  # a connect that was cancelled half-way ends with its exception's frames
    await asyncio.to_thread(wait_until, lambda: not sessions(adb))


# -- limits, options, numbers ------------------------------------------------------------------


@servers
async def test_e1_limits_hold_on_the_server(adb):
    """E1, CF-8: nothing before it is needed, never more than size and overflow; warm() opens in advance."""
    engine = adb.create_engine(pool_size=2, max_overflow=1, pool_timeout=0.5, self_wait="wait")
    assert sessions(adb) == set()
    await engine.pool.warm(2)
    assert len(sessions(adb)) == 2
    connections = [await engine.connect() for _ in range(3)]
    with pytest.raises(errors.PoolTimeout):
        await engine.connect()
    assert len(sessions(adb)) == 3
    for connection in connections:
        await connection.close()
    assert engine.pool.checkedin() == 3  # kept until they are idle for long


@servers
async def test_e4_age_and_idleness(adb):
    """E4, CF-9: a recycled connection is replaced, never one in use; idle ones close after `max_idle`."""
    engine = adb.create_engine(pool_recycle=0, pool_size=1, max_overflow=0)
    async with engine.connect() as connection:
        first = await connection.scalar(WHO)
        assert await connection.scalar(WHO) == first
    assert await who(engine) != first

    engine = adb.create_engine(max_idle=0.05)
    number = await who(engine)
    await asyncio.to_thread(wait_until, lambda: number not in sessions(adb))
    assert engine.pool.stats().closed == {"idle": 1}


@servers
@pytest.mark.parametrize("kind", [NullPool, StaticPool, AsyncAdaptedQueuePool])
async def test_pool_classes(adb, kind):
    """E5: `poolclass` as for SQLAlchemy: none is kept, one is kept, a queue."""
    engine = adb.create_engine(poolclass=kind)
    numbers = {await who(engine), await who(engine)}
    await engine.dispose()
    assert len(numbers) == (2 if kind is NullPool else 1)
    await asyncio.to_thread(wait_until, lambda: not sessions(adb))


@servers
async def test_k1_numbers_and_lines_are_public_and_without_secrets(adb):
    """K1, K2: what is in use, idle, opened, closed, and who holds what; on the sync engine's pool as well."""
    url = adb.url.replace("sojourn@", "sojourn:hush@")
    engine = create_async_engine(url, pool_size=2)
    async with engine.connect() as connection:
        await connection.execute(WHO)
        (lease,) = engine.pool.leases()
        assert lease.statement == "SELECT pg_backend_pid()"
        assert lease.connection_id in sessions(adb)
        stats = engine.pool.stats()
        assert (stats.used, stats.idle, stats.opened) == (1, 0, 1)
    assert engine.sync_engine.pool.status() == engine.pool.status()
    assert engine.sync_engine.pool.checkedin() == engine.pool.checkedin() == 1
    assert isinstance(engine.sync_engine.pool, AsyncAdaptedQueuePool)
    engine.pool.resize(7, 1)
    assert (engine.pool.size(), engine.pool.stats().max) == (7, 8)
    shown = [repr(engine), repr(engine.pool), repr(engine.sync_engine.pool), str(lease), str(stats)]
    assert not [line for line in shown if "hush" in line]
    await engine.dispose()


async def test_k5_log_lines_on_request(adb, caplog):
    """K5: `echo_pool="debug"` or the logger's level; without, silence."""
    engine = adb.create_engine()
    async with engine.connect():
        pass
    assert caplog.records == []
    engine = adb.create_engine(echo_pool="debug")
    with caplog.at_level(logging.DEBUG, "sqlalchemy.pool"):
        async with engine.connect():
            pass
        await engine.dispose()
    said = [record.getMessage().split(" ")[0] for record in caplog.records if "pool" in record.name]
    assert said == ["Opened", "Connection", "Connection", "Closing"]


async def test_a_closed_pool_lends_no_more(adb):
    """`pool.close(timeout)` drains; what comes later is told so."""
    engine = adb.create_engine()
    connection = await engine.connect()
    closing = asyncio.create_task(engine.pool.close(10))
    await asyncio.sleep(0)
    assert await connection.scalar(text("SELECT 1")) == 1
    await connection.close()
    await closing
    with pytest.raises(errors.PoolClosed):
        await engine.connect()


@servers
@pytest.mark.filterwarnings(
    "ignore:unclosed:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
async def test_each_event_loop_has_connections_of_its_own(adb):
    """An engine serves a second `asyncio.run`, in another thread too; closed loops' ones are dropped."""
    engine = adb.create_engine()
    mine = await who(engine)
    first = await asyncio.to_thread(asyncio.run, who(engine))
    second = await asyncio.to_thread(asyncio.run, who(engine))
    assert len({mine, first, second}) == 3
    assert await who(engine) == mine
    await engine.dispose()
    await asyncio.to_thread(wait_until, lambda: not sessions(adb) & {mine, first})
    gc.collect()  # asyncio says that the sockets of a closed loop were never closed


FORK = """
import asyncio, os, sys
from sqlalchemy import text
from sojourn.ext.asyncio import create_async_engine

engine = create_async_engine(sys.argv[1], pool_size=2)

async def who():
    async with engine.connect() as connection:
        return await connection.scalar(text("SELECT pg_backend_pid()"))

loop = asyncio.new_event_loop()
mine = loop.run_until_complete(who())
lane = loop.run_until_complete(engine.acquire())
pid = os.fork()
if pid == 0:
    lost = not lane.is_valid
    other = asyncio.run(who())
    os._exit(0 if lost and other != mine and asyncio.run(who()) != mine else 1)
status = os.waitpid(pid, 0)[1]
loop.run_until_complete(lane.release())
assert status == 0, status
assert loop.run_until_complete(who()) == mine
loop.run_until_complete(engine.dispose())
print("well")
"""


@servers
@pytest.mark.slow
async def test_e6_a_forked_child_opens_its_own(adb):
    """E6: the child's first use opens a connection, its inherited lease refuses, the parent's goes on."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "ignore", "-c", FORK, adb.url, stdout=PIPE, stderr=PIPE
    )
    out, error = await child.communicate()
    assert (out.decode().strip(), error.decode()) == ("well", "")
