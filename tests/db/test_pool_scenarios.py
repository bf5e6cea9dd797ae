"""The pool's promises on every driver, by their scenario numbers, checked against the server's own list.

Faults of servers and networks are in tests/faults; who gets which connection, in tests/pooling.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time

import pytest

from sojourn import errors, event, exc, text
from sojourn.orm import Session
from sojourn.pool import AssertionPool, NullPool, SingletonThreadPool, StaticPool
from tests.borrowing import Waiting, fill, in_threads, whoami
from tests.databases import databases, server_only
from tests.models import Base, Customer
from tests.serverside import WHO, kill, sessions, wait_until

ANSWER = text("SELECT 40 + 2")
ROUNDS = 10.0  # seconds that any single wait here may take


async def whoami_async(connection):
    return (await connection.execute(text(WHO["postgresql"]))).scalar_one()


# -- D: lost connections -----------------------------------------------------------------------


@server_only
@pytest.mark.parametrize("ping", [False, True])
def test_d1_a_kill_between_transactions(db, ping):
    """D1: a session whose connection is killed between transactions goes on without a failure."""
    engine = db.create_engine(pool_pre_ping=ping)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Customer(name="first"))
        session.commit()
        for _ in range(3):
            kill(db, *sessions(db))

            assert session.query(Customer).count() == 1
            session.commit()


@databases("asyncpg", "psycopg_async")
async def test_d1_a_kill_between_transactions_async(adb):
    """D1 for async drivers: no failure."""
    engine = adb.create_engine()
    numbers = set()
    for _ in range(3):
        async with engine.connect() as connection:
            numbers.add(await whoami_async(connection))
        await asyncio.to_thread(kill, adb, *sessions(adb))

    assert len(numbers) == 3


@server_only
def test_d5_a_killed_connection_is_a_disconnection(db):
    """D5: the error of a killed connection says so, and the pool does not lend that connection again."""
    engine = db.create_engine(pool_size=2)
    numbers = fill(engine, 2)
    with engine.connect() as connection:
        mine = whoami(connection)
        kill(db, mine)
        with pytest.raises(exc.DBAPIError) as caught:
            connection.execute(ANSWER)
    assert caught.value.connection_invalidated

    assert mine in numbers
    assert mine not in fill(engine, 2)


# -- E: what there is, and for how long ---------------------------------------------------------


@server_only
def test_e1_nothing_is_opened_before_it_is_needed(db):
    """E1: making an engine opens nothing."""
    engine = db.create_engine(pool_size=5)

    assert sessions(db) == set()
    assert engine.pool.stats().opened == 0


@server_only
def test_e1_limits_hold_on_the_server(db):
    """E1: at most size + overflow are alive, and with `pool_idle=0` no more than size are kept."""
    engine = db.create_engine(pool_size=2, max_overflow=2, pool_idle=0)
    together, seen = threading.Barrier(4), []

    def use(n):
        for turn in range(5):
            with engine.connect() as connection:
                connection.execute(ANSWER)
                if turn == 0 and n < 4:
                    together.wait(ROUNDS)
                seen.append(len(sessions(db)) if n == 0 else 0)

    in_threads(8, use)

    assert max(seen) <= 4
    assert wait_until(lambda: len(sessions(db)) <= 2)
    assert engine.pool.stats().idle <= 2


@server_only
@pytest.mark.slow
def test_e1_extra_connections_are_kept_until_they_are_idle_for_long(db):
    """E1: what a burst opened is kept for `pool_idle` seconds, then closed down to the size."""
    engine = db.create_engine(pool_size=1, max_overflow=3, pool_idle=0.3)
    burst = fill(engine, 4)
    assert sessions(db) == burst

    wait_until(lambda: len(sessions(db)) == 1)
    assert engine.pool.stats().idle == 1


@server_only
def test_e2_a_minimum_is_there_and_is_restored(db):
    """E2: with `min_idle` that many are open soon after start, and again after all were killed."""
    engine = db.create_engine(pool_size=4, min_idle=3)
    with engine.connect() as connection:
        connection.execute(ANSWER)
    first = wait_until(lambda: sessions(db) if engine.pool.stats().idle >= 3 else None)
    kill(db, *first)
    with engine.connect() as connection:
        assert connection.execute(ANSWER).scalar_one() == 42

    wait_until(lambda: engine.pool.stats().idle >= 3 and len(sessions(db) - first) >= 3)
    engine.dispose()
    wait_until(lambda: sessions(db) == set())


@server_only
def test_e2_warm_opens_at_once(db):
    """E2: `warm(n)` opens until n are idle."""
    engine = db.create_engine(pool_size=4)
    engine.pool.warm(3)

    wait_until(lambda: len(sessions(db)) == 3)
    assert engine.pool.stats().idle == 3


def test_e3_who_waits_too_long_is_told_who_holds(db):
    """E3: the error is a built-in TimeoutError after the set time, and lists the holders."""
    engine = db.create_engine(pool_size=1, max_overflow=1, pool_timeout=0.4)
    held = [engine.connect() for _ in range(2)]  # this line is named
    with Waiting(engine) as waiting:
        start = time.monotonic()
        assert waiting.ended.wait(ROUNDS)
        took = time.monotonic() - start
    said = str(waiting.error)
    for each in held:
        each.close()

    assert isinstance(waiting.error, TimeoutError)
    assert isinstance(waiting.error, exc.TimeoutError)
    assert isinstance(waiting.error, errors.PoolTimeout)
    assert 0.2 < took < 1.5
    assert "MainThread" in said
    assert said.count("test_pool_scenarios.py:") == 2
    assert " s, " in said  # their age


@databases("asyncpg", "psycopg_async")
async def test_e3_who_waits_too_long_is_told_who_holds_async(adb):
    """E3 in an event loop: the holder is a task."""
    engine = adb.create_engine(pool_size=1, max_overflow=0, pool_timeout=0.3)
    got = asyncio.Event()
    done = asyncio.Event()

    async def hold():
        async with engine.connect():
            got.set()
            await done.wait()

    holder = asyncio.create_task(hold(), name="the holder")
    await got.wait()
    with pytest.raises(TimeoutError) as caught:
        async with engine.connect():
            pass
    done.set()
    await holder

    assert "the holder" in str(caught.value)
    assert "test_pool_scenarios.py:" in str(caught.value)


@server_only
@pytest.mark.slow
def test_e4_age_retires_between_uses_only(db):
    """E4: `pool_recycle` replaces a connection at its next lease, and never one in use."""
    engine = db.create_engine(pool_size=1, max_overflow=0, pool_recycle=0.4)
    with engine.connect() as connection:
        first = whoami(connection)
        wait_for(0.5)
        assert whoami(connection) == first
    with engine.connect() as connection:
        second = whoami(connection)
    with engine.connect() as connection:
        assert whoami(connection) == second

    assert second != first
    assert engine.pool.stats().closed["expired"] == 1


@server_only
@pytest.mark.slow
def test_e4_idleness_counts_from_the_last_use(db):
    """E4: `max_idle` closes what nobody used for that long, however old it is."""
    engine = db.create_engine(pool_size=2, max_overflow=0, max_idle=0.5)
    (first,) = fill(engine, 1)
    for _ in range(4):  # older than half a second at the end, and never idle for so long
        wait_for(0.2)
        with engine.connect() as connection:
            assert whoami(connection) == first

    wait_until(lambda: sessions(db) == set())
    assert engine.pool.stats().closed["idle"] == 1


def wait_for(seconds):
    """Let time pass, which is what these tests are about."""
    threading.Event().wait(seconds)


@server_only
def test_e5_without_a_pool_nothing_stays(db):
    """E5: with NullPool the server lists nobody after a close, nor after a session's commit."""
    engine = db.create_engine(poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(ANSWER)
        assert len(sessions(db)) == 1
    wait_until(lambda: sessions(db) == set())
    session = Session(engine)
    session.execute(ANSWER)
    session.commit()

    wait_until(lambda: sessions(db) == set())
    session.close()


@databases("asyncpg", "psycopg_async")
async def test_e5_without_a_pool_nothing_stays_async(adb):
    """E5 for async drivers."""
    engine = adb.create_engine(poolclass=NullPool)
    async with engine.connect() as connection:
        await connection.execute(ANSWER)

    await asyncio.to_thread(wait_until, lambda: sessions(adb) == set())


@server_only
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_e6_a_forked_child_opens_its_own(db):
    """E6: the child's first use opens a connection; the parent's goes on; the numbers differ."""
    from tests.faults.children import in_child

    engine = db.create_engine(pool_size=1)
    (ours,) = fill(engine, 1)

    def use():
        with engine.connect() as connection:
            return whoami(connection)

    assert in_child(use)() != ours
    assert use() == ours


@databases("postgresql")
@pytest.mark.parametrize(
    ("soil", "look", "clean"),
    [
        ("SET search_path TO pg_catalog", "SHOW search_path", '"$user", public'),
        ("SET statement_timeout TO '77s'", "SHOW statement_timeout", "0"),
        ("CREATE TEMP TABLE mine (id int)", "SELECT to_regclass('pg_temp.mine') IS NULL", True),
        ("LISTEN news", "SELECT count(*) FROM pg_listening_channels()", 0),
        ("SELECT pg_advisory_lock(7)", "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'", 0),
        ("SELECT set_config('my.own', 'x', false)", "SELECT current_setting('my.own', true)", {None, ""}),
    ],
)
@pytest.mark.parametrize("way", ["engine", "session"])
def test_e7_what_one_user_sets_the_next_does_not_see(db, soil, look, clean, way):
    """E7: session state of PostgreSQL does not outlive the lease."""
    check_e7(db, soil, look, clean, way)


@databases("mysql")
@pytest.mark.parametrize(
    ("soil", "look", "clean"),
    [
        ("SET @mine = 7", "SELECT @mine IS NULL", 1),
        ("SET SESSION wait_timeout = 77", "SELECT @@wait_timeout <> 77", 1),
        ("SELECT GET_LOCK('mine', 1)", "SELECT IS_FREE_LOCK('mine')", 1),
        ("CREATE TEMPORARY TABLE mine (id int)", "SHOW TABLES LIKE 'mine'", None),
    ],
)
@pytest.mark.parametrize("way", ["engine", "session"])
def test_e7_what_one_user_sets_the_next_does_not_see_mysql(db, soil, look, clean, way):
    """E7: session state of MariaDB does not outlive the lease."""
    check_e7(db, soil, look, clean, way)


def check_e7(db, soil, look, clean, way):
    """Soil a connection, look what the next lease sees; there is one connection at most."""
    engine = db.create_engine(pool_size=1, max_overflow=0)
    make = engine.connect if way == "engine" else lambda: Session(engine)
    with make() as first:
        first.execute(text(soil))
        first.commit()
    with make() as second:
        if soil.startswith("CREATE TEMPORARY"):
            second.execute(text("CREATE TEMPORARY TABLE mine (other int)"))  # fails if the first is there
            return
        found = second.execute(text(look)).scalar()

    assert found in clean if isinstance(clean, set) else found == clean


@databases("asyncpg", "psycopg_async")
async def test_e7_what_one_user_sets_the_next_does_not_see_async(adb):
    """E7 for async drivers."""
    engine = adb.create_engine(pool_size=1, max_overflow=0)
    async with engine.connect() as first:
        await first.execute(text("SET statement_timeout TO '77s'"))
        await first.commit()
    async with engine.connect() as second:
        assert (await second.execute(text("SHOW statement_timeout"))).scalar() == "0"


def test_e8_who_waits_for_itself_is_told_at_once(db):
    """E8: nested sessions on a full pool of one raise at once, and say what to do."""
    engine = db.create_engine(pool_size=1, max_overflow=0, pool_timeout=20)
    start = time.monotonic()
    with Session(engine) as outer:
        outer.execute(ANSWER)
        with Session(engine) as inner, pytest.raises(errors.PoolDeadlock) as caught:
            inner.execute(ANSWER)
        assert outer.execute(ANSWER).scalar_one() == 42

    assert time.monotonic() - start < 5
    assert isinstance(caught.value, TimeoutError)
    assert "MainThread" in str(caught.value)


@databases("asyncpg", "psycopg_async")
async def test_e8_who_waits_for_itself_is_told_at_once_async(adb):
    """E8 in an event loop: a task that holds the only connection and asks for another."""
    engine = adb.create_engine(pool_size=1, max_overflow=0, pool_timeout=20)
    start = time.monotonic()
    async with engine.connect():
        with pytest.raises(errors.PoolDeadlock):
            await engine.connect()

    assert time.monotonic() - start < 5


# -- F: changing the size -----------------------------------------------------------------------


@server_only
def test_f1_enlarging_serves_the_waiting_at_once(db):
    """F1: same engine, same listeners, same options; who waits is served by the new room."""
    engine = db.create_engine(pool_size=1, max_overflow=0, pool_timeout=20)
    opened = []
    event.listen(engine, "connect", lambda dbapi, record: opened.append(record))
    pool = engine.pool
    with engine.connect() as held, Waiting(engine) as second, Waiting(engine) as third:
        held.execute(ANSWER)
        wait_until(lambda: pool.stats().waiting == 2)
        start = time.monotonic()
        pool.resize(2, 1)
        assert second.ended.wait(ROUNDS) and third.ended.wait(ROUNDS)
        assert time.monotonic() - start < 2
        assert len(sessions(db)) == 3

    assert second.error is third.error is None
    assert engine.pool is pool
    assert len(opened) == 3
    assert (pool.stats().size, pool.stats().overflow) == (2, 1)


@server_only
def test_f2_shrinking_spares_what_is_in_use(db):
    """F2: a surplus connection that is lent works on, and is closed when it comes back."""
    engine = db.create_engine(pool_size=3, max_overflow=0)
    lent = [engine.connect() for _ in range(3)]
    engine.pool.resize(1, 0)

    assert [each.execute(ANSWER).scalar_one() for each in lent] == [42] * 3
    assert len(sessions(db)) == 3
    for each in lent:
        each.close()
    wait_until(lambda: len(sessions(db)) == 1)
    assert engine.pool.stats().closed["resize"] == 2


@databases("psycopg", "pymysql")
@pytest.mark.slow
def test_f3_the_autoscaler_follows_the_load(db):
    """F3: it grows under waiters within its bounds, shrinks after calm, and stops with the engine."""
    engine = db.create_engine(pool_size=1, max_overflow=0, pool_timeout=20)
    engine.pool.autoscale(min=1, max=3, step=1, cool_down=0.2, target_wait=0.001)
    ending, sizes = threading.Event(), set()

    def work(n):
        while not ending.is_set():
            with engine.connect() as connection:
                connection.execute(ANSWER)
                ending.wait(0.01)

    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(8)]
    for thread in threads:
        thread.start()
    wait_until(lambda: sizes.add(engine.pool.size()) or engine.pool.size() == 3, 20)
    ending.set()
    for thread in threads:
        thread.join(30)
    wait_until(lambda: sizes.add(engine.pool.size()) or engine.pool.size() == 1, 30)
    wait_until(lambda: len(sessions(db)) <= 1)
    engine.dispose()

    assert sizes == {1, 2, 3}


@server_only
@pytest.mark.slow
def test_f4_the_limit_holds_through_a_thousand_resizes(db):
    """F4: under load and random resizes there are never more connections than the largest limit set.

    A server that was told goodbye lists the session a little longer, so what it lists is read at the end.
    """
    engine = db.create_engine(pool_size=2, max_overflow=0, pool_timeout=30)
    most = 5
    ending, samples, worked = threading.Event(), [], [0] * 7

    def work(n):
        while not ending.is_set():
            with engine.connect() as connection:
                connection.execute(ANSWER)
            worked[n] += 1

    def resize(n):
        chance = random.Random(7)
        try:
            while len(samples) < 1000 or (not all(worked[1:]) and len(samples) < 50_000):
                size = chance.randint(1, most)
                engine.pool.resize(size, chance.randint(0, most - size))
                now = engine.pool.stats()
                samples.append(now.used + now.idle + now.connecting)
        finally:
            ending.set()

    in_threads(7, lambda n: resize(n) if n == 0 else work(n))

    assert max(samples) <= most
    assert all(worked[1:])
    stats = engine.pool.stats()
    assert stats.opened - sum(stats.closed.values()) == stats.idle + stats.used
    wait_until(lambda: len(sessions(db)) == engine.pool.stats().idle)


@pytest.mark.parametrize("poolclass", [NullPool, StaticPool, AssertionPool, SingletonThreadPool])
def test_f5_pools_without_a_size_refuse_to_be_resized(sqlite_db, poolclass):
    """F5: the refusal names the pool and says what can be resized."""
    engine = sqlite_db.create_engine(poolclass=poolclass)
    with pytest.raises(exc.InvalidRequestError) as caught:
        engine.pool.resize(3, 0)

    assert poolclass.__name__ in str(caught.value)
    assert "QueuePool" in str(caught.value)


# -- K: what can be seen ------------------------------------------------------------------------


def test_k1_the_numbers_are_public(db):
    """K1: in use, idle, overflow, waiting, opened, closed, invalidated, time-outs, waits, without digging."""
    engine = db.create_engine(pool_size=2, max_overflow=1, pool_timeout=0.2)
    held = [engine.connect() for _ in range(3)]
    with Waiting(engine) as waiting:
        wait_until(lambda: engine.pool.stats().waiting == 1 or waiting.ended.is_set())
        assert waiting.ended.wait(ROUNDS)
    during = engine.pool.stats()
    held[0].invalidate()
    for each in held:
        each.close()
    after = engine.pool.stats()

    assert (during.used, during.idle, during.waiting, during.opened) == (3, 0, 0, 3)
    assert (during.size, during.overflow, during.max) == (2, 1, 3)
    assert during.timeouts == 1
    assert (after.used, after.idle) == (0, 2)
    assert sum(after.closed.values()) == 1
    assert after.wait_time.count >= 3
    assert after.use_time.count >= 3
    assert after.create_time.count == after.opened == 3


def test_k1_leases_name_their_holders(db):
    """K1: `leases()` lists who holds what, since when, from which line, with the last statement."""
    engine = db.create_engine(pool_size=2)
    with engine.connect() as connection:
        connection.execute(ANSWER)
        (lease,) = engine.pool.leases()
        number = None if db.dialect == "sqlite" else whoami(connection)

    assert lease.connection_id == number
    assert lease.holder == "MainThread"
    assert "test_pool_scenarios.py:" in lease.place
    assert 0 <= lease.age < ROUNDS
    assert engine.pool.leases() == []


def test_k2_at_rest_the_numbers_add_up(db):
    """K2: opened minus closed is idle plus in use, after everything that opens and closes."""
    engine = db.create_engine(pool_size=2, max_overflow=2, pool_idle=0)
    fill(engine, 3)
    with engine.connect() as connection:
        connection.invalidate()
    with engine.connect() as connection:
        connection.connection.detach()
    fill(engine, 2)
    engine.dispose()
    held = engine.connect()
    fill(engine, 1)
    stats = engine.pool.stats()
    held.close()

    assert (stats.used, stats.idle) == (1, 1)
    assert stats.opened - sum(stats.closed.values()) == 2


def test_k2_they_add_up_for_who_looks_late(db):
    """K2: numbers that are read, and listeners that are attached, after the fact agree with the pool."""
    engine = db.create_engine(pool_size=3)
    fill(engine, 3)
    seen = {"opened": engine.pool.stats().opened, "closed": sum(engine.pool.stats().closed.values())}
    event.listen(engine, "connect", lambda *_: seen.update(opened=seen["opened"] + 1))
    event.listen(engine, "close", lambda *_: seen.update(closed=seen["closed"] + 1))
    engine.dispose()
    fill(engine, 2)
    stats = engine.pool.stats()

    assert (seen["opened"], seen["closed"]) == (5, 3)
    assert stats.opened - sum(stats.closed.values()) == stats.idle + stats.used == 2
