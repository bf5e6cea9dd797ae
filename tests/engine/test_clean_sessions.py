"""What a session leaves behind in its connection does not reach the next one; E7."""

from __future__ import annotations

import os
import signal
import time
from contextlib import closing

import pytest
import sqlalchemy as sa

from sojourn.flow import (
    Commit,
    Execute,
    Return,
    Rows,
)
from sojourn.plans import text_plan
from tests.databases import postgresql_only, server_only
from tests.engine.helpers import begin, fetch, make_table, run, session_number

SETTING = {
    "postgresql": ("SET application_name = 'mine'", "SHOW application_name"),
    "mysql": ("SET @mine = 'mine'", "SELECT @mine"),
}


@server_only
@pytest.mark.parametrize("way", ["execute", "rows", "core", "raw cursor", "driver connection"])
@pytest.mark.parametrize("end", ["commit", "return"])
def test_e7_what_a_session_was_told_does_not_reach_the_next_lease(db, way, end):
    """E7: through a plan, Core's Connection, a raw cursor; after a commit and without one."""
    engine = db.create_engine(pool_size=1, max_overflow=0)
    tell, ask = SETTING[db.dialect]
    lane = begin(engine)
    if way == "execute":
        lane.perform(Execute(lane, text_plan(tell), ()))
    elif way == "rows":
        lane._execute(Execute(lane, text_plan(tell), ()))
    elif way == "core":
        lane.core_connection().exec_driver_sql(tell)
    else:
        proxy = lane.core_connection().connection
        with closing((proxy if way == "raw cursor" else proxy.driver_connection).cursor()) as cursor:
            cursor.execute(tell)
    assert lane.perform(Rows(lane, text_plan(ask, returns_rows=True), ()))[0][0] == "mine"
    if end == "commit":
        lane.perform(Commit(lane))
    lane.perform(Return(lane))

    lane = begin(engine)
    assert lane.perform(Rows(lane, text_plan(ask, returns_rows=True), ()))[0][0] != "mine"
    lane.perform(Return(lane))
    with engine.connect() as connection:
        connection.exec_driver_sql(tell)
        connection.commit()
    with engine.connect() as connection:
        assert connection.exec_driver_sql(ask).scalar() != "mine"
    assert engine.pool.checkedin() == 1


@server_only
@pytest.mark.parametrize("way", ["lane", "core"])
def test_e7_a_lease_that_told_the_session_nothing_keeps_its_connection(db, way):
    """No clean-up, no new connection: the prepared statements and the warm caches stay."""
    engine = db.create_engine(pool_size=1, max_overflow=0)
    table = make_table(engine)
    lane = begin(engine)
    number = session_number(lane)
    if way == "lane":
        run(lane, sa.update(table).values(name="x"))
        fetch(lane, sa.select(table))
    else:
        lane.core_connection().execute(sa.update(table).values(name="x"))
        lane.core_connection().execute(sa.select(table)).all()
    lane.perform(Commit(lane))
    record = lane._record
    lane.perform(Return(lane))

    assert not record.tainted
    lane = begin(engine)
    assert session_number(lane) == number
    lane.perform(Return(lane))
    assert "session" not in engine.pool.stats().resets


@postgresql_only
@pytest.mark.parametrize("how", ["open transaction", "session"])
@pytest.mark.slow
def test_a_return_with_a_frozen_server_ends_in_time(db, how):
    """The reset has its limit; then the connection is closed, and the pool goes on with another one."""
    engine = db.create_engine(pool_size=1, max_overflow=0)
    engine.pool.health.reset_limit = engine.pool.health.close_limit = 0.3
    lane = begin(engine)
    number = session_number(lane)
    if how == "session":
        lane.perform(Execute(lane, text_plan("SET application_name = 'mine'"), ()))
        lane.perform(Commit(lane))
    os.kill(number, signal.SIGSTOP)
    try:
        started = time.monotonic()
        lane.perform(Return(lane))
        took = time.monotonic() - started
        lane = begin(engine)
        assert session_number(lane) != number
        lane.perform(Return(lane))
    finally:
        os.kill(number, signal.SIGCONT)

    assert took < 3
    assert engine.pool.checkedout() == 0


def test_a_lease_knows_its_last_statement(db):
    """So that a report about who holds connections can say what for."""
    engine = db.create_engine()
    table = make_table(engine)
    lane = begin(engine)
    fetch(lane, sa.select(table.c.id))
    first = engine.pool.leases()[0].statement
    run(lane, sa.update(table).values(name="x"))
    second = engine.pool.leases()[0].statement
    lane.core_connection().exec_driver_sql("SELECT 1")
    third = engine.pool.leases()[0].statement
    lane.perform(Return(lane))

    assert [text.split()[0] for text in (first, second)] == ["SELECT", "UPDATE"]
    assert third == "SELECT 1"
