"""Core's Connection on our pools: size, time-out, recycling, listeners; and sharing in memory databases."""

from __future__ import annotations

import gc
import threading

import pytest
import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.pool import AssertionPool, NullPool, QueuePool, SingletonThreadPool, StaticPool

from sojourn import create_engine
from sojourn import pool as ours
from sojourn.errors import PoolClosed
from sojourn.flow import Commit, Return, Rollback
from sojourn.orm import Session
from tests.engine.helpers import NAMES, begin, fetch, make_table, names_in, run


def test_core_connections_wait_in_line_and_time_out_with_cores_class(sqlite_db):
    """E3: pool_size, max_overflow and pool_timeout mean what they mean in Core."""
    engine = sqlite_db.create_engine(pool_size=1, max_overflow=1, pool_timeout=0.01, self_wait="wait")
    held = [engine.connect(), engine.connect()]

    assert (engine.pool.size(), engine.pool.checkedout(), engine.pool.overflow()) == (1, 2, 1)
    assert engine.pool.timeout() == 0.01
    with pytest.raises(exc.TimeoutError, match="test_pools"):
        engine.connect()
    for connection in held:
        connection.close()
    assert (engine.pool.checkedin(), engine.pool.overflow()) == (2, 1)
    assert engine.pool.status() == (
        "Pool size: 1  Connections in pool: 2 Current Overflow: 1 Current Checked out connections: 0"
    )


def test_e1_nothing_is_opened_before_it_is_needed_and_no_more_than_allowed(db):
    """E1: also with `pool_idle=0`, by which no more than the size stay open."""
    engine = db.create_engine(pool_size=1, max_overflow=1, pool_idle=0, self_wait="wait", pool_timeout=0.01)
    assert engine.pool.stats().opened == 0

    held = [engine.connect(), engine.connect()]
    with pytest.raises(TimeoutError):
        engine.connect()
    assert engine.pool.stats().total == 2
    for connection in held:
        connection.close()
    stats = engine.pool.stats()

    assert (stats.idle, stats.used, dict(stats.closed)) == (1, 0, {"overflow": 1})


def test_a_queue_pool_asked_for_by_name_is_ours_and_still_a_queue_pool(sqlite_db):
    """Code that tests isinstance(engine.pool, QueuePool) goes on working."""
    engine = sqlite_db.create_engine(poolclass=QueuePool)

    assert type(engine.pool) is ours.QueuePool
    assert isinstance(engine.pool, QueuePool)


@pytest.mark.parametrize("poolclass", [QueuePool, SingletonThreadPool, StaticPool])
def test_e4_recycling_replaces_an_old_connection_at_its_next_lease_never_one_in_use(sqlite_db, poolclass):
    """E4: for Core's connections and for sessions."""
    engine = sqlite_db.create_engine(pool_recycle=3600, poolclass=poolclass)
    opened = []
    event.listen(engine, "connect", lambda connection, record: opened.append(record))
    with engine.connect() as connection:
        first = connection.connection.dbapi_connection
        opened[0].expires = 1e-9  # long ago, by the pool's clock
        connection.exec_driver_sql("SELECT 1")
        assert connection.connection.dbapi_connection is first
    lane = engine.acquire()
    lane.release()

    assert len(opened) == 2
    with engine.connect():
        pass
    assert len(opened) == 2


def test_e4_recycling_by_idle_time_looks_at_idle_time_only(db):
    """E4, CF-9: `max_idle` closes what nobody uses, and never what is in use; its age does not matter."""
    engine = db.create_engine(max_idle=0.02, pool_recycle=3600)
    closed = threading.Event()
    event.listen(engine, "close", lambda *args: closed.set())
    with engine.connect() as connection:
        assert not closed.wait(0.1)
        assert connection.exec_driver_sql("SELECT 1").scalar() == 1

    assert closed.wait(10)
    assert dict(engine.pool.stats().closed) == {"idle": 1}


@pytest.mark.parametrize("poolclass", [QueuePool, SingletonThreadPool, StaticPool])
def test_pre_ping_finds_a_connection_that_was_closed_behind_the_pool(sqlite_db, poolclass):
    """A driver without a socket is asked each time; sessions and Core alike get another connection."""
    engine = sqlite_db.create_engine(pool_pre_ping=True, poolclass=poolclass)
    for ask in (engine.connect, engine.connect):
        with ask() as connection:
            connection.exec_driver_sql("SELECT 1")
            raw = connection.connection.dbapi_connection
        raw.close()
    with Session(engine) as session:
        assert session.scalar(sa.text("SELECT 2")) == 2

    assert dict(engine.pool.stats().closed) == {"server": 2}


def test_e5_null_pooling_leaves_no_connection(db):
    """E5: after close, and after the commit of a session."""
    engine = db.create_engine(poolclass=NullPool)
    with engine.connect():
        assert engine.pool.stats().used == 1
    with Session(engine) as session:
        session.execute(sa.text("SELECT 1"))
        session.commit()
        stats = engine.pool.stats()

    assert (stats.idle, stats.used, stats.opened - sum(stats.closed.values())) == (0, 0, 0)


def test_f1_enlarging_serves_who_waits_and_keeps_engine_and_listeners(db):
    """F1: in place, with the same pool."""
    engine = db.create_engine(pool_size=1, max_overflow=0, pool_timeout=30)
    pool, heard = engine.pool, []
    event.listen(engine, "checkout", lambda *args: heard.append(1))
    waits = threading.Event()
    held = engine.connect()

    def ask():
        waits.set()
        with engine.connect():
            pass

    thread = threading.Thread(target=ask)
    thread.start()
    waits.wait(10)
    pool.resize(2, 0)
    thread.join(10)

    assert not thread.is_alive()
    assert (engine.pool, pool.size(), len(heard)) == (pool, 2, 2)
    held.close()


def test_f2_shrinking_never_closes_a_connection_in_use(db):
    """F2: it closes when it comes back."""
    engine = db.create_engine(pool_size=2, max_overflow=0)
    first, second = engine.connect(), engine.connect()
    engine.pool.resize(1, 0)

    assert second.exec_driver_sql("SELECT 1").scalar() == 1
    first.close()
    second.close()
    assert engine.pool.checkedin() == 1
    assert dict(engine.pool.stats().closed) == {"resize": 1}


@pytest.mark.parametrize("poolclass", [NullPool, StaticPool, SingletonThreadPool, AssertionPool])
def test_f5_a_pool_without_a_size_refuses_to_be_resized(sqlite_db, poolclass):
    """F5: with the remedy."""
    pool = sqlite_db.create_engine(poolclass=poolclass).pool

    for change in (lambda: pool.resize(3, 0), lambda: pool.warm(1), lambda: pool.autoscale(1, 3)):
        with pytest.raises(exc.InvalidRequestError, match=r"has no size.*poolclass=QueuePool"):
            change()


def test_autoscale_lets_the_size_follow_and_ends_with_dispose(sqlite_db):
    """CF-23: one scaler per pool; a second call replaces the first."""
    engine = sqlite_db.create_engine(pool_size=2, max_overflow=0)
    first = engine.pool.autoscale(1, 4)
    second = engine.pool.autoscale(1, 8)

    assert not first.running
    assert second.running
    engine.dispose()
    assert not second.running


def test_k1_and_k2_the_numbers_are_public_and_add_up(db):
    """K1, K2: at rest, opened less closed is idle plus in use, whenever one looks."""
    engine = db.create_engine(pool_size=2, max_overflow=0)
    for _ in range(3):
        with engine.connect():
            pass
    with engine.connect() as connection:
        connection.invalidate()
    lane = engine.acquire()
    stats = engine.pool.stats()
    lane.release()

    assert (stats.used, stats.waiting, stats.timeouts) == (1, 0, 0)
    assert stats.opened - sum(stats.closed.values()) == stats.idle + stats.used == 1
    assert stats.wait_time.count == 5
    assert "1 idle" in repr(engine.pool)


def test_a_lease_names_its_place(sqlite_db):
    """Of a session and of Core's connection: the line that asked."""
    engine = sqlite_db.create_engine()
    with engine.connect():
        lane = engine.acquire()
        places = [lease.place for lease in engine.pool.leases()]
        lane.release()

    assert len(places) == 2
    assert all("test_pools.py" in place for place in places)


def test_sizes_of_a_config_file_are_accepted_and_unknown_options_refused(tmp_path):
    """The pool's own options stand beside Core's."""
    url = f"sqlite:///{tmp_path}/x.db"
    engine = create_engine(
        url, pool_idle=5, min_idle=0, max_idle=9, leak_after=3, max_waiting=7, retry="reads"
    )
    core = engine.pool._front.core

    assert (core.idle_limit, core.max_idle, core.leak_after, engine.retry) == (5, 9, 3, "reads")
    assert engine.execution_options(isolation_level="AUTOCOMMIT").retry == "reads"
    with pytest.raises(TypeError, match="pool_idel"):
        create_engine(url, pool_idel=5)
    with pytest.raises(exc.ArgumentError, match="never repeated"):
        create_engine(url, retry="writes")


def test_sqlalchemys_own_engine_works_with_our_pool(db):
    """Transactions, isolation levels, detach, invalidation and dispose, without the rest of sojourn."""
    engine = sa.create_engine(db.url, poolclass=ours.QueuePool, pool_size=2, pool_idle=0)
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT 1")) == 1
        connection.invalidate()
        connection.rollback()
        assert connection.scalar(sa.text("SELECT 2")) == 2
    with engine.connect().execution_options(isolation_level="SERIALIZABLE") as connection:
        connection.scalar(sa.text("SELECT 1"))
    with engine.connect() as connection:
        connection.detach()
        connection.scalar(sa.text("SELECT 1"))
    pool = engine.pool
    engine.dispose(close=False)

    assert engine.pool is not pool
    assert (type(engine.pool), engine.pool.size(), engine.pool.checkedout()) == (ours.QueuePool, 2, 0)
    pool.dispose()
    engine.dispose()


def test_an_isolation_level_is_reset_on_return(sqlite_db):
    """Core hangs that on the record's finalize_callback."""
    engine = sqlite_db.create_engine(pool_size=1, max_overflow=0)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        raw = connection.connection.dbapi_connection
        assert raw.isolation_level is None
    assert raw.isolation_level == ""


def test_a_closed_pool_lends_nothing(sqlite_db):
    """`pool.close()` is the end, unlike dispose()."""
    engine = sqlite_db.create_engine()
    with engine.connect():
        pass
    engine.pool.close(1)

    with pytest.raises(PoolClosed):
        engine.connect()
    assert engine.pool.stats().idle == 0


def test_an_assertion_pool_names_the_place_of_the_first_user(sqlite_db):
    """One at a time."""
    engine = sqlite_db.create_engine(poolclass=AssertionPool)
    with engine.connect():  # noqa: SIM117 - one after the other
        with pytest.raises(AssertionError, match=r"already checked out at .*test_pools\.py"):
            engine.connect()
    with engine.connect():
        pass


def test_a_threads_connection_goes_with_its_thread():
    """A memory database lives no longer than the thread it belongs to."""
    engine = create_engine("sqlite://")

    def use():
        with engine.connect() as connection:
            connection.exec_driver_sql("SELECT 1")

    for _ in range(3):
        thread = threading.Thread(target=use)
        thread.start()
        thread.join(10)
    gc.collect()
    stats = engine.pool.stats()

    assert (stats.opened, stats.idle, stats.used) == (3, 0, 0)


def test_an_invalidated_connection_is_replaced(sqlite_db):
    """Both by Core's invalidate() and softly."""
    engine = sqlite_db.create_engine()
    opened = []
    event.listen(engine, "connect", lambda *args: opened.append(1))
    with engine.connect() as connection:
        connection.invalidate()
    with engine.connect() as connection:
        connection.connection.invalidate(soft=True)
    engine.acquire().release()

    assert len(opened) == 3
    assert engine.pool.checkedout() == 0


def test_detaching_frees_the_place(sqlite_db):
    """The program owns the connection from then on."""
    engine = sqlite_db.create_engine(pool_size=1, max_overflow=0, pool_timeout=0.01)
    connection = engine.connect()
    connection.detach()
    with engine.connect():
        pass
    connection.close()

    assert engine.pool.checkedout() == 0


def test_a_core_connection_dropped_without_close_comes_back(sqlite_db):
    """Through the garbage collector, as in Core."""
    engine = sqlite_db.create_engine()
    with pytest.warns(ResourceWarning, match=r"acquired at .*test_pools.py:\d+ in test_a_core"):
        drop(engine.connect())

    assert engine.pool.checkedout() == 0
    assert engine.pool.stats().gc_returns == 1


def drop(connection):
    """Hold it no longer than a call."""


def test_a_failed_connect_is_cores_error_and_keeps_no_place(tmp_path):
    """For Core's connections and for sessions."""
    engine = create_engine(f"sqlite:///{tmp_path}/no/such/folder/x.db", pool_size=1, max_overflow=0)
    for ask in (engine.connect, engine.acquire, engine.acquire):
        with pytest.raises(exc.OperationalError, match="unable to open"):
            ask()

    assert engine.pool.checkedout() == 0


def test_dispose_keeps_the_pool_and_closes_lent_connections_when_they_return(sqlite_db):
    """The limit stays true, and listeners stay in place."""
    engine = sqlite_db.create_engine()
    opened, closed = [], []
    event.listen(engine, "connect", lambda *args: opened.append(1))
    event.listen(engine, "close", lambda *args: closed.append(1))
    lent, idle = engine.acquire(), engine.acquire()
    idle.release()
    pool = engine.pool
    engine.dispose()

    assert engine.pool is pool
    assert len(closed) == 1
    assert pool.checkedout() == 1
    lent.release()
    assert len(closed) == 2
    engine.acquire().release()
    assert len(opened) == 3


def test_dispose_without_close_starts_afresh_and_touches_nothing(sqlite_db):
    """For a forked child: the parent's connections are not closed."""
    engine = sqlite_db.create_engine(pool_size=3)
    closed = []
    event.listen(engine, "close", lambda *args: closed.append(1))
    lent = engine.acquire()
    pool = engine.pool
    engine.dispose(close=False)

    assert engine.pool is not pool
    assert (engine.pool.size(), engine.pool.checkedout(), closed) == (3, 0, [])
    event.listen(engine, "checkout", lambda *args: closed.append("new pool"))
    engine.acquire().release()
    assert closed == ["new pool"]
    lent.release()
    assert pool.checkedin() == 1
    pool.dispose()


def test_reset_on_return_is_honoured(sqlite_db):
    """'commit' stores what a session left, None leaves it."""
    engine = sqlite_db.create_engine(pool_reset_on_return="commit")
    table = make_table(engine)
    lane = begin(engine)
    run(lane, sa.update(table).values(name="kept"))
    lane.perform(Return(lane))

    assert names_in(engine) == ["kept"] * 3


@pytest.mark.parametrize("poolclass", [NullPool, StaticPool, SingletonThreadPool, AssertionPool, QueuePool])
def test_every_pool_class_of_core_serves_sessions(sqlite_db, poolclass):
    """Null pooling, one connection, one per thread, one at a time."""
    engine = sqlite_db.create_engine(poolclass=poolclass)
    table = make_table(engine)
    for name in ("x", "y"):
        lane = begin(engine)
        run(lane, sa.update(table).where(table.c.id == 1).values(name=name))
        lane.perform(Commit(lane))
        lane.perform(Return(lane))

    assert names_in(engine) == ["y", "b", "c"]
    assert isinstance(engine.pool, poolclass)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ours.SingletonThreadPool),
        ({"poolclass": StaticPool, "connect_args": {"check_same_thread": False}}, ours.StaticPool),
    ],
)
def test_a_memory_database_is_one_connection_for_core_and_sessions(options, expected):
    """Tables made by create_all are there for a session; work of one is not undone by the other's return."""
    engine = create_engine("sqlite://", **options)
    table = make_table(engine)
    assert type(engine.pool) is expected

    lane = begin(engine)
    run(lane, sa.update(table).where(table.c.id == 1).values(name="x"))
    other = engine.acquire()
    other.release()
    assert fetch(lane, sa.select(table.c.name).where(table.c.id == 1), scalars=True) == ["x"]
    lane.perform(Commit(lane))
    lane.perform(Return(lane))
    assert names_in(engine) == ["x", "b", "c"]
    engine.dispose()


def test_core_and_a_session_in_one_thread_share_a_memory_connection_to_the_last(tmp_path):
    """Whoever comes first or leaves first: only the last of them resets the connection."""
    engine = create_engine("sqlite://")
    table = make_table(engine)

    lane = begin(engine)
    run(lane, sa.update(table).where(table.c.id == 1).values(name="x"))
    connection = engine.raw_connection()
    connection.close()
    del connection
    gc.collect()
    assert fetch(lane, sa.select(table.c.name).where(table.c.id == 1), scalars=True) == ["x"]
    lane.perform(Return(lane))
    assert names_in(engine) == NAMES

    connection = engine.raw_connection()
    connection.cursor().execute("BEGIN")
    connection.cursor().execute("UPDATE thing SET name = 'y'")
    lane = begin(engine)
    lane.release()
    connection.commit()
    connection.close()
    assert names_in(engine) == ["y"] * 3
    engine.dispose()


def test_a_rollback_on_a_shared_connection_is_not_repeated(sqlite_db):
    """A lane that ended its transaction returns without another round trip."""
    engine = sqlite_db.create_engine()
    make_table(engine)
    sent = []
    lane = begin(engine)
    lane.dbapi.set_trace_callback(sent.append)
    lane.perform(Rollback(lane))
    lane.perform(Return(lane))

    assert sent == ["ROLLBACK"]
