"""The slow lane against the fast one: the same requests, the same replies, the same rows afterwards."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from sqlalchemy import event, exc

from sojourn.engine.connection import Connection
from sojourn.engine.corelane import CoreLane
from sojourn.flow import (
    Begin,
    Close,
    Commit,
    Core,
    ExecuteMany,
    InsertEach,
    More,
    Open,
    Release,
    Return,
    Rollback,
    RollbackTo,
    Rows,
    Savepoint,
)
from sojourn.kernel.identity import IdentityMap
from sojourn.plans import plan_for_core, text_plan
from tests.engine.helpers import NAMES, begin, fetch, make_table, names_in, run


def watch(engine):
    """Make sessions of *engine* take the slow lane; return what was seen."""
    seen = []

    @event.listens_for(engine, "before_cursor_execute")
    def note(connection, cursor, statement, parameters, context, executemany):
        seen.append((statement, parameters))

    return seen


def everything(engine):
    """Send each kind of request once, and return every reply."""
    table = make_table(engine)
    mark = engine.traits.mark
    marks = ["$1", "$2"] if mark == "$n" else [mark, mark]
    lane = begin(engine)
    replies = [fetch(lane, sa.select(table).order_by(table.c.id))]
    replies.append(fetch(lane, sa.select(table.c.name).where(table.c.id.in_([1, 3])), scalars=True))
    replies.append(run(lane, sa.update(table).where(table.c.id == 1).values(name="100%")))
    replies.append(fetch(lane, sa.select(table.c.name).where(table.c.name.like("100\\%")), scalars=True))
    plan = text_plan(f"UPDATE thing SET name = {marks[0]} WHERE id = {marks[1]}")
    replies.append(lane.perform(ExecuteMany(lane, plan, [("x", 1), ("y", 2), ("z", 99)])))
    replies.append(lane.perform(ExecuteMany(lane, plan, [("x", 1)])))
    replies.append(lane.perform(ExecuteMany(lane, plan, [])) if type(lane) is CoreLane else 0)
    if engine.traits.lastrowid_loop:
        plan = text_plan("INSERT INTO thing (name, flag) VALUES (?, ?)")
        replies.append(lane.perform(InsertEach(lane, plan, [("d", 1), ("e", 0)])))
    plan, params = plan_for_core(sa.select(table.c.flag, table.c.name).order_by(table.c.id), engine)
    replies.append(lane.perform(Rows(lane, plan, params)))
    plan, params = plan_for_core(sa.select(table.c.name).order_by(table.c.id), engine)
    handle = lane.perform(Open(lane, plan, params, 2))
    for _ in range(3):
        rows = lane.perform(More(lane, handle, 2))
        replies.append(plan.loader.scalars(rows, IdentityMap(None), 0))
    lane.perform(Close(lane, handle))
    replies.append(lane.perform(Core(lane, sa.select(table.c.id), None, {})).scalars().all())
    lane.perform(Savepoint(lane, "one"))
    run(lane, sa.update(table).values(name="lost"))
    lane.perform(Savepoint(lane, "two"))
    lane.perform(RollbackTo(lane, "one"))
    replies.append(fetch(lane, sa.select(table.c.name).order_by(table.c.id), scalars=True))
    lane.perform(Savepoint(lane, "three"))
    run(lane, sa.delete(table).where(table.c.id == 1))
    lane.perform(Release(lane, "three"))
    try:
        lane.perform(Savepoint(lane, "four"))
        run(lane, sa.insert(table).values(id=2, name="again", flag=True))
    except exc.IntegrityError as error:
        replies.append((type(error), error.statement, tuple(error.params), error.connection_invalidated))
        lane.perform(RollbackTo(lane, "four"))
    lane.perform(Commit(lane))
    replies.append(lane.in_transaction)
    lane.perform(Begin(lane))
    run(lane, sa.delete(table))
    lane.perform(Rollback(lane))
    lane.perform(Return(lane))
    replies.append(names_in(engine))
    replies.append(engine.pool.checkedout())
    return type(lane), replies


def test_both_lanes_give_the_same_replies(db):
    """Every request, on every driver: rows, counts, ids, streams, savepoints, errors."""
    fast = db.create_engine()
    slow = db.create_engine()
    seen = watch(slow)

    kind_of_fast, fast_replies = everything(fast)
    kind_of_slow, slow_replies = everything(slow)

    assert (kind_of_fast, kind_of_slow) == (Connection, CoreLane)
    assert slow_replies == fast_replies
    assert any(statement.startswith("UPDATE thing") for statement, _ in seen)


def test_echo_and_logging_take_the_slow_lane(sqlite_db):
    """What is logged must be sent by Core, which logs it."""
    engine = sqlite_db.create_engine()
    lane = engine.acquire()
    assert type(lane) is Connection
    lane.release()
    engine.echo = True

    lane = engine.acquire()
    assert type(lane) is CoreLane
    lane.release()


def test_a_dialect_that_is_not_in_the_table_takes_the_slow_lane(sqlite_db, monkeypatch):
    """Its plans still work, in its own words."""
    from sojourn.engine import drivers

    monkeypatch.delitem(drivers.DRIVERS, "sqlite+pysqlite")
    engine = sqlite_db.create_engine()
    table = make_table(engine)
    lane = begin(engine)

    assert engine.backend is None
    assert type(lane) is CoreLane
    assert engine.traits.dialect == "sqlite"
    assert not engine.traits.lastrowid_loop
    assert fetch(lane, sa.select(table.c.name).order_by(table.c.id), scalars=True) == NAMES
    lane.perform(Return(lane))


def test_the_slow_lane_fires_cores_events_for_transactions(sqlite_db):
    """Begin, savepoint, release, rollback to, commit: Core's events, once each."""
    engine = sqlite_db.create_engine()
    make_table(engine)
    fired = []
    for name in ("begin", "savepoint", "release_savepoint", "rollback_savepoint", "commit", "rollback"):
        event.listen(engine, name, lambda *args, name=name: fired.append(name))
    lane = begin(engine)
    for name, end in (("one", Release), ("two", RollbackTo)):
        lane.perform(Savepoint(lane, name))
        lane.perform(end(lane, name))
    lane.perform(Release(lane, "two"))  # undone already: nothing to do
    lane.perform(Commit(lane))
    lane.perform(Return(lane))

    assert fired == [
        "begin",
        "savepoint",
        "release_savepoint",
        "savepoint",
        "rollback_savepoint",
        "commit",
    ]


def test_an_abandoned_slow_lane_frees_its_place(sqlite_db):
    """Without talking to the server."""
    engine = sqlite_db.create_engine()
    watch(engine)
    lane = begin(engine)
    lane.abandon()
    lane.abandon()

    assert engine.pool.checkedout() == 0
    assert repr(lane) == "<CoreLane sqlite+pysqlite returned>"


@pytest.mark.parametrize("how", ["checkout", "checkin", "reset", "pre_ping"])
def test_pool_listeners_and_pre_ping_see_the_leases_of_sessions(sqlite_db, how):
    """The pool's own events fire once per lease, as with Core; statements stay on the fast lane."""
    engine = sqlite_db.create_engine(pool_pre_ping=how == "pre_ping")
    table = make_table(engine)
    fired = []
    if how != "pre_ping":
        event.listen(engine, how, lambda *args: fired.append(how))
    for _ in range(2):
        lane = begin(engine)
        assert type(lane) is Connection
        assert fetch(lane, sa.select(table.c.id), scalars=True) == [1, 2, 3]
        lane.core_connection().execute(sa.update(table).values(name="lost"))
        lane.perform(Return(lane))

    assert fired == ([] if how == "pre_ping" else [how, how])
    assert engine.pool.checkedout() == 0
    assert names_in(engine) == NAMES
