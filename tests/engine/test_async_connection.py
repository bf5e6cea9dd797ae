"""The async lane: requests answered natively, and by Core where somebody listens, with the same outcome."""

from __future__ import annotations

import asyncio
import gc
import warnings

import pytest
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, IntegrityError, PendingRollbackError

from sojourn.flow import (
    Begin,
    Close,
    Commit,
    Execute,
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
from sojourn.plans import text_plan
from tests.databases import databases

CREATE = "CREATE TABLE thing (id INTEGER PRIMARY KEY, name VARCHAR(20) UNIQUE)"


def plan(engine, text, *, rows=False):
    """Return a plan of a text whose binds are written `?`."""
    if engine.dialect.name == "postgresql":
        for number in range(1, text.count("?") + 1):
            text = text.replace("?", f"${number}", 1)
    return text_plan(text, returns_rows=rows)


@pytest.fixture(params=["native", "watched"])
async def engine(adb, request):
    """An engine with a table `thing`; once with a listener, so that Core sends everything."""
    engine = adb.create_engine()
    async with engine.begin() as connection:
        await connection.exec_driver_sql(CREATE)
    if request.param == "watched":
        engine.heard = []
        event.listen(
            engine.sync_engine, "before_cursor_execute", lambda _c, _k, text, *_: engine.heard.append(text)
        )
    return engine


async def names(engine):
    """Return the names a new transaction sees."""
    lane = await engine.acquire()
    await lane.perform(Begin(lane))
    rows = await lane.perform(Rows(lane, plan(engine, "SELECT name FROM thing ORDER BY id", rows=True), ()))
    await lane.perform(Return(lane))
    return [name for (name,) in rows]


async def insert(lane, number, name):
    """Insert one row by a plan."""
    return await lane.perform(
        Execute(lane, plan(lane.engine, "INSERT INTO thing VALUES (?, ?)"), (number, name))
    )


async def test_statements_and_transactions(engine):
    """Row counts, rows, commit, rollback: the same on both ways."""
    lane = await engine.acquire()
    await lane.perform(Begin(lane))
    assert lane.in_transaction or engine.driver == "psycopg"
    assert await insert(lane, 1, "one") == 1
    count = await lane.perform(
        ExecuteMany(lane, plan(engine, "INSERT INTO thing VALUES (?, ?)"), [(2, "two"), (3, "three")])
    )
    assert count in (2, -1)
    assert await lane.perform(Execute(lane, plan(engine, "DELETE FROM thing WHERE id > ?"), (1,))) == 2
    await lane.perform(Commit(lane))
    assert not lane.in_transaction
    await lane.perform(Begin(lane))
    await insert(lane, 4, "four")
    await lane.perform(Rollback(lane))
    await lane.perform(Begin(lane))
    await insert(lane, 5, "five")
    await lane.perform(Return(lane))  # without commit: rolled back

    assert await names(engine) == ["one"]
    assert engine.pool.here().core.leased == 0
    if hasattr(engine, "heard"):
        assert len([text for text in engine.heard if text.startswith("INSERT")]) == 4


async def test_savepoints(engine):
    """C7: released work disappears with the outer rollback, undone work at once."""
    lane = await engine.acquire()
    await lane.perform(Begin(lane))
    await lane.perform(Savepoint(lane, "a"))
    await insert(lane, 1, "one")
    await lane.perform(Release(lane, "a"))
    await lane.perform(Savepoint(lane, "b"))
    await insert(lane, 2, "two")
    await lane.perform(RollbackTo(lane, "b"))
    await insert(lane, 3, "three")
    await lane.perform(Commit(lane))
    await lane.perform(Begin(lane))
    await lane.perform(Savepoint(lane, "c"))
    await insert(lane, 4, "four")
    await lane.perform(Release(lane, "c"))
    await lane.perform(Rollback(lane))
    await lane.perform(Return(lane))

    assert await names(engine) == ["one", "three"]


async def test_streams(engine):
    """Rows come in the asked amounts, an empty batch ends them."""
    lane = await engine.acquire()
    await lane.perform(Begin(lane))
    for number in range(5):
        await insert(lane, number, f"n{number}")
    select = plan(engine, "SELECT id FROM thing ORDER BY id", rows=True)
    handle = await lane.perform(Open(lane, select, (), 2))
    sizes = []
    while rows := await lane.perform(More(lane, handle, 2)):
        sizes.append(len(rows))
    await lane.perform(Close(lane, handle))
    await lane.perform(Return(lane))

    assert sizes == [2, 2, 1]


@databases("aiosqlite")
async def test_insert_each_tells_the_row_ids(engine):
    """SQLite makes the keys; each comes back in its place."""
    lane = await engine.acquire()
    await lane.perform(Begin(lane))
    keys = await lane.perform(
        InsertEach(lane, plan(engine, "INSERT INTO thing (name) VALUES (?)"), [("b",), ("a",), ("c",)])
    )
    await lane.perform(Commit(lane))
    await lane.perform(Return(lane))

    assert keys == [1, 2, 3]
    assert await names(engine) == ["b", "a", "c"]


async def test_errors_are_core_errors_and_the_lane_goes_on(engine):
    """After an error and a rollback the connection serves again."""
    lane = await engine.acquire()
    await lane.perform(Begin(lane))
    await insert(lane, 1, "same")
    with pytest.raises(IntegrityError, match="INSERT INTO thing"):
        await insert(lane, 2, "same")
    await lane.perform(Rollback(lane))
    await lane.perform(Begin(lane))
    await insert(lane, 3, "other")
    await lane.perform(Commit(lane))
    await lane.perform(Return(lane))

    assert await names(engine) == ["other"]


async def test_a_lane_that_was_given_back_refuses(engine):
    """Giving back twice is harmless; using it is an error that says what to do."""
    lane = await engine.acquire()
    await lane.perform(Return(lane))
    await lane.perform(Return(lane))

    with pytest.raises(PendingRollbackError, match="given back"):
        await insert(lane, 1, "late")


async def test_a_forgotten_lane_comes_back(engine):
    """Dropped without being given back, it warns, and its place is free."""
    lane = await engine.acquire()
    await lane.perform(Begin(lane))
    await insert(lane, 1, "lost")
    with pytest.warns(ResourceWarning, match="dropped without being given back"):  # noqa: PT031
        del lane
        gc.collect()

    assert await names(engine) == []
    assert engine.pool.here().core.leased == 0


@databases("postgresql")
async def test_a_server_that_goes_away_is_told_as_lost(engine):
    """The error says that the connection was invalidated; what follows works on another one."""
    lane = await engine.acquire()
    await lane.perform(Begin(lane))
    ((pid,),) = await lane.perform(Rows(lane, plan(engine, "SELECT pg_backend_pid()", rows=True), ()))
    other = await engine.acquire()
    await other.perform(Begin(other))
    await other.perform(Rows(other, plan(engine, f"SELECT pg_terminate_backend({pid}, 5000)", rows=True), ()))
    await other.perform(Return(other))
    with pytest.raises(DBAPIError) as caught:
        await insert(lane, 1, "lost")
    await lane.perform(Rollback(lane))
    await lane.perform(Return(lane))

    assert caught.value.connection_invalidated
    assert await names(engine) == []
    assert engine.pool.here().core.leased == 0


COUNT = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 20000000) SELECT max(i) FROM n"
SLOW = {
    "sqlite": COUNT,
    "postgresql": "SELECT CAST(pg_sleep(30) AS TEXT)",
}


async def test_a_cancelled_statement_costs_the_connection_only(engine):
    """The slow statement is left at once, the place is free, and what was done before is undone."""
    lane = await engine.acquire()
    await lane.perform(Begin(lane))
    await insert(lane, 1, "undone")
    slow = plan(engine, SLOW[engine.dialect.name], rows=True)
    task = asyncio.create_task(lane.perform(Rows(lane, slow, ())))
    for _ in range(50):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert engine.pool.here().core.leased == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert await names(engine) == []
