"""Core's Connection on our pools: size, time-out, recycling, listeners; and sharing in memory databases."""

from __future__ import annotations

import gc

import pytest
import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.pool import AssertionPool, NullPool, QueuePool, SingletonThreadPool, StaticPool

from sojourn import create_engine
from sojourn.engine.corepool import LeasePool, SharedPool, ThreadPool
from sojourn.flow import Commit, Return, Rollback
from tests.engine.helpers import NAMES, begin, fetch, make_table, names_in, run


def test_core_connections_wait_in_line_and_time_out_with_cores_class(sqlite_db):
    """E3: pool_size, max_overflow and pool_timeout mean what they mean in Core."""
    engine = sqlite_db.create_engine(pool_size=1, max_overflow=1, pool_timeout=0.01)
    held = [engine.connect(), engine.connect()]

    assert (engine.pool.size(), engine.pool.checkedout(), engine.pool.overflow()) == (1, 2, 1)
    assert engine.pool.timeout() == 0.01
    with pytest.raises(exc.TimeoutError, match="size 1 and overflow 1 has 2 lent"):
        engine.connect()
    for connection in held:
        connection.close()
    assert (engine.pool.checkedin(), engine.pool.overflow()) == (1, 0)
    assert engine.pool.status() == (
        "Pool size: 1  Connections in pool: 1 Current Overflow: 0 Current Checked out connections: 0"
    )


def test_a_queue_pool_asked_for_by_name_is_ours_and_still_a_queue_pool(sqlite_db):
    """Code that tests isinstance(engine.pool, QueuePool) goes on working."""
    engine = sqlite_db.create_engine(poolclass=QueuePool)

    assert type(engine.pool) is LeasePool
    assert isinstance(engine.pool, QueuePool)


def test_pool_recycle_replaces_an_old_connection_at_its_next_lease(sqlite_db):
    """E4: for Core's connections and for sessions."""
    engine = sqlite_db.create_engine(pool_recycle=3600)
    opened = []
    event.listen(engine, "connect", lambda connection, record: opened.append(record))
    with engine.connect():
        pass
    opened[0].starttime -= 4000
    lane = engine.acquire()
    lane.release()

    assert len(opened) == 2
    with engine.connect():
        pass
    assert len(opened) == 2


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
    engine.connect()
    gc.collect()

    assert engine.pool.checkedout() == 0


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
    [({}, ThreadPool), ({"poolclass": StaticPool, "connect_args": {"check_same_thread": False}}, SharedPool)],
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
