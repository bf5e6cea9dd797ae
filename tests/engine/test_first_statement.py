"""The first statement of a lease: late check, silent exchange, and `retry="reads"`; D1, D5."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager

import pytest
import sqlalchemy as sa
from sqlalchemy import exc

from sojourn.engine.connection import Connection
from sojourn.flow import (
    Close,
    Commit,
    Finish,
    Open,
    Return,
    Rollback,
    Rows,
    Savepoint,
)
from sojourn.plans import plan_for_core, text_plan
from tests.databases import server_only
from tests.engine.helpers import NAMES, begin, fetch, make_table, names_in, run, session_number


def kill_session(db, number):
    """End a session from another engine."""
    text = "SELECT pg_terminate_backend({})" if db.dialect == "postgresql" else "KILL {}"
    with db.sync_engine().connect() as other:
        other.exec_driver_sql(text.format(number))


def one_session(db, **options):
    """Return an engine of one idle connection, its table and how the server calls it."""
    engine = db.create_engine(pool_size=1, max_overflow=0, **options)
    table = make_table(engine)
    lane = begin(engine)
    number = session_number(lane)
    lane.perform(Return(lane))
    return engine, table, number


@server_only
def test_d1_a_connection_that_died_before_its_first_statement_is_exchanged(db):
    """D1: the lease was there already, no state was; nobody notices, and the place is still one."""
    engine, table, number = one_session(db)
    lane = begin(engine)
    dead = lane.dbapi
    kill_session(db, number)
    assert lane._poll(10_000)

    assert fetch(lane, sa.select(table.c.name).order_by(table.c.id), scalars=True) == NAMES
    assert lane.dbapi is not dead
    run(lane, sa.update(table).values(name="kept"))
    lane.perform(Commit(lane))
    lane.perform(Return(lane))
    assert names_in(engine) == ["kept"] * 3
    assert (engine.pool.checkedout(), engine.pool.checkedin()) == (0, 1)


@server_only
@pytest.mark.parametrize("first", ["savepoint", "core", "write", "stream"])
@pytest.mark.slow
def test_d1_whatever_comes_first_finds_a_living_connection(db, first):
    """D1: also a savepoint, Core's Connection, a write or a stream."""
    engine, table, number = one_session(db)
    lane = begin(engine)
    kill_session(db, number)
    assert lane._poll(10_000)

    if first == "savepoint":
        lane.perform(Savepoint(lane, "sp"))
    elif first == "core":
        lane.core_connection().execute(sa.select(table.c.id)).all()
    elif first == "write":
        assert run(lane, sa.update(table).where(table.c.id == 1).values(name="z")) == 1
    else:
        plan, params = plan_for_core(sa.select(table.c.name), engine)
        handle = lane.perform(Open(lane, plan, params, 2))
        lane.perform(Close(lane, handle))
    assert len(fetch(lane, sa.select(table.c.id), scalars=True)) == 3
    lane.perform(Return(lane))
    assert engine.pool.checkedout() == 0


@server_only
@pytest.mark.slow
def test_d1_after_its_first_statement_a_lost_connection_is_an_error(db):
    """D1, D2: what the transaction has read or written is gone, and nobody pretends otherwise."""
    engine, table, number = one_session(db, retry="reads")
    lane = begin(engine)
    fetch(lane, sa.select(table.c.id))
    kill_session(db, number)
    assert lane._poll(10_000)

    with pytest.raises(exc.DBAPIError) as caught:
        fetch(lane, sa.select(table.c.id))
    assert caught.value.connection_invalidated
    lane.perform(Rollback(lane))
    lane.perform(Return(lane))
    assert names_in(engine) == NAMES


@contextmanager
def killed_while_it_waits(db, number, table):
    """Lock the table; in the block a statement is to be waiting for it, which is killed and finds it free."""
    mysql = db.dialect == "mysql"
    looking = (
        f"SELECT count(*) FROM information_schema.processlist WHERE id = {number} AND state LIKE 'Waiting%%'"
        if mysql
        else f"SELECT count(*) FROM pg_stat_activity WHERE pid = {number} AND wait_event_type = 'Lock'"
    )
    outside = db.sync_engine()
    holder = outside.connect()
    holder.exec_driver_sql(f"LOCK TABLES {table} WRITE" if mysql else f"LOCK TABLE {table}")

    def strike():
        deadline = time.monotonic() + 20
        with outside.connect() as other:
            while not other.exec_driver_sql(looking).scalar():
                other.rollback()  # or it would go on seeing what it saw
                assert time.monotonic() < deadline
            other.exec_driver_sql(f"KILL {number}" if mysql else f"SELECT pg_terminate_backend({number})")
        struck.wait(20) if mysql else None
        holder.rollback()
        if mysql:
            holder.exec_driver_sql("UNLOCK TABLES")

    struck = threading.Event()
    struck.set()
    striker = threading.Thread(target=strike)
    striker.start()
    try:
        yield
    finally:
        striker.join(30)
        holder.close()


@server_only
@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.slow
def test_a_first_read_is_repeated_if_the_engine_allows_it(db, watched):
    """retry="reads": killed in the middle of a first statement that reads: nobody notices, on both lanes."""
    engine, table, number = one_session(db, retry="reads")
    if watched:
        sa.event.listen(engine, "before_cursor_execute", lambda *args: None)
    lane = begin(engine)
    assert (type(lane) is Connection) != watched
    with killed_while_it_waits(db, number, table):
        names = fetch(lane, sa.select(table.c.name).order_by(table.c.id), scalars=True)

    assert names == NAMES
    assert lane.in_transaction
    run(lane, sa.update(table).values(name="kept"))
    lane.perform(Commit(lane))
    lane.perform(Return(lane))
    assert names_in(engine) == ["kept"] * 3


@server_only
@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("what", ["write", "locking read", "second read", "not asked for"])
@pytest.mark.slow
def test_nothing_else_is_ever_sent_twice(db, what, watched):
    """A write, a read that locks, a read after another statement, and anything without retry="reads"."""
    engine, table, number = one_session(db, retry=None if what == "not asked for" else "reads")
    if watched:
        sa.event.listen(engine, "before_cursor_execute", lambda *args: None)
    lane = begin(engine)
    if what == "second read":
        lane.perform(Rows(lane, text_plan("SELECT 1", returns_rows=True), ()))
    with killed_while_it_waits(db, number, table), pytest.raises(exc.DBAPIError) as caught:
        if what == "write":
            run(lane, sa.update(table).values(name="twice"))
        elif what == "locking read":
            fetch(lane, sa.select(table.c.id).with_for_update())
        else:
            fetch(lane, sa.select(table.c.id))

    assert caught.value.connection_invalidated
    lane.perform(Rollback(lane))
    lane.perform(Return(lane))
    assert names_in(engine) == NAMES


@server_only
@pytest.mark.slow
def test_a_lost_connection_marks_those_that_were_open_with_it(db):
    """D5: if the server restarted, they are dead too; nobody has to find out one by one."""
    engine = db.create_engine()
    table = make_table(engine)
    lanes = [begin(engine) for _ in range(3)]
    numbers = [session_number(lane) for lane in lanes]
    for lane in lanes[1:]:
        lane.perform(Return(lane))
    kill_session(db, numbers[0])
    assert lanes[0]._poll(10_000)
    with pytest.raises(exc.DBAPIError):
        fetch(lanes[0], sa.select(table.c.id))
    lanes[0].perform(Return(lanes[0]))

    assert engine.pool.checkedin() == 0
    lane = begin(engine)
    assert session_number(lane) not in numbers
    lane.perform(Return(lane))


@server_only
@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("what", ["one read", "not asked for", "two reads", "a write"])
@pytest.mark.slow
def test_the_end_of_a_single_read_cannot_fail(db, watched, what):
    """retry="reads": a commit that finds the connection gone is of no matter after one read, else it is."""
    engine, table, number = one_session(db, retry=None if what == "not asked for" else "reads")
    if watched:
        sa.event.listen(engine, "before_cursor_execute", lambda *args: None)
    lane = begin(engine)
    if what == "a write":
        run(lane, sa.update(table).values(name="lost"))
    else:
        assert fetch(lane, sa.select(table.c.name).order_by(table.c.id), scalars=True) == NAMES
    if what == "two reads":
        fetch(lane, sa.select(table.c.id))
    driver = lane._core.connection.dbapi_connection if watched else lane.dbapi
    kill_session(db, number)
    assert engine.pool.health.arm(driver)(10_000)

    if what == "one read":
        lane.perform(Finish(lane))
    else:
        with pytest.raises(exc.DBAPIError) as caught:
            lane.perform(Finish(lane))
        assert caught.value.connection_invalidated
        lane.perform(Rollback(lane))
        lane.perform(Return(lane))
    assert engine.pool.checkedout() == 0
    assert names_in(engine) == NAMES
