"""The fast lane: requests on the driver connection, transactions, errors, and what it shares with Core."""

from __future__ import annotations

import gc

import pytest
import sqlalchemy as sa
from sqlalchemy import exc

from sojourn import corelink
from sojourn.engine.connection import Connection
from sojourn.flow import (
    Begin,
    Close,
    Commit,
    Core,
    Execute,
    ExecuteMany,
    Fetch,
    InsertEach,
    More,
    Open,
    Prepare,
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


def test_fetch_execute_and_rows_answer_with_what_they_promise(db):
    """Fetch gives loaded rows, Execute the row count, Rows processed tuples."""
    engine = db.create_engine()
    table = make_table(engine)
    lane = begin(engine)

    plan, params = plan_for_core(sa.select(table.c.id, table.c.name).order_by(table.c.id), engine)
    rows = lane.perform(Fetch(lane, plan, params, IdentityMap(None), 0, scalars=False))
    assert [tuple(row) for row in rows] == [(1, "a"), (2, "b"), (3, "c")]
    assert rows[0].name == "a"
    assert fetch(lane, sa.select(table.c.name).where(table.c.id == 2), scalars=True) == ["b"]

    plan, params = plan_for_core(sa.update(table).where(table.c.id > 1).values(name="z"), engine)
    assert lane.perform(Execute(lane, plan, params)) == 2
    plan, params = plan_for_core(sa.select(table.c.flag).where(table.c.id == 1), engine)
    assert lane.perform(Rows(lane, plan, params)) == [(True,)]
    lane.perform(Rollback(lane))
    lane.perform(Return(lane))
    assert names_in(engine) == NAMES


def test_execute_many_gives_the_sum_of_matched_rows(db):
    """Rows that match nothing are not counted, on any driver."""
    engine = db.create_engine()
    make_table(engine)
    lane = begin(engine)
    marks = ["?", "?"] if engine.traits.mark == "?" else ["%s", "%s"]
    if engine.traits.mark == "$n":
        marks = ["$1", "$2"]
    plan = text_plan(f"UPDATE thing SET name = {marks[0]} WHERE id = {marks[1]}")

    assert lane.perform(ExecuteMany(lane, plan, [("x", 1), ("y", 2), ("z", 99)])) == 2
    assert lane.perform(ExecuteMany(lane, plan, [("x", 1)])) == 1
    lane.perform(Return(lane))


def test_insert_each_gives_the_row_ids_in_order(sqlite_db):
    """SQLite: one id per row, in the order of the rows."""
    engine = sqlite_db.create_engine()
    make_table(engine)
    lane = begin(engine)
    plan = text_plan("INSERT INTO thing (name, flag) VALUES (?, ?)")

    assert lane.perform(InsertEach(lane, plan, [("d", 1), ("e", 1)])) == [4, 5]
    lane.perform(Return(lane))


def test_a_stream_gives_its_rows_in_portions_and_ends_empty(db):
    """More answers with at most that many rows; the loader is there after the first of them."""
    engine = db.create_engine()
    table = make_table(engine)
    lane = begin(engine)
    plan, params = plan_for_core(sa.select(table.c.name).order_by(table.c.id), engine)

    handle = lane.perform(Open(lane, plan, params, 2))
    portions = [lane.perform(More(lane, handle, 2)) for _ in range(3)]
    loaded = [plan.loader.scalars(rows, IdentityMap(None), 0) for rows in portions]
    lane.perform(Close(lane, handle))

    assert loaded == [["a", "b"], ["c"], []]
    assert fetch(lane, sa.select(sa.func.count()).select_from(table), scalars=True) == [3]
    lane.perform(Return(lane))


def test_core_statements_run_in_the_same_transaction(db):
    """Core sees what the fast lane wrote, and the reverse; one commit stores both."""
    engine = db.create_engine()
    table = make_table(engine)
    lane = begin(engine)
    run(lane, sa.update(table).where(table.c.id == 1).values(name="fast"))
    lane.perform(Core(lane, sa.update(table).where(table.c.id == 2).values(name="core"), None, {}))

    result = lane.perform(Core(lane, sa.select(table.c.name).order_by(table.c.id), None, {}))
    assert [row.name for row in result] == ["fast", "core", "c"]
    assert fetch(lane, sa.select(table.c.name).where(table.c.id == 2), scalars=True) == ["core"]
    lane.perform(Commit(lane))
    lane.perform(Return(lane))
    assert names_in(engine) == ["fast", "core", "c"]


def test_core_and_the_lane_know_one_transaction(db):
    """Commit and rollback from either side end it for both."""
    engine = db.create_engine()
    table = make_table(engine)
    lane = begin(engine)
    core = lane.core_connection()
    assert core.in_transaction()

    run(lane, sa.update(table).where(table.c.id == 1).values(name="gone"))
    core.rollback()
    assert not lane.in_transaction
    lane.perform(Begin(lane))
    assert core.in_transaction()
    core.execute(sa.update(table).where(table.c.id == 1).values(name="kept"))
    lane.perform(Commit(lane))
    assert not core.in_transaction()
    lane.perform(Return(lane))

    assert core.closed
    assert names_in(engine) == ["kept", "b", "c"]
    assert engine.pool.checkedout() == 0


def test_savepoints_of_both_sides_nest(db):
    """Rolling back to the lane's savepoint ends Core's savepoints inside it, and nothing else."""
    engine = db.create_engine()
    table = make_table(engine)
    lane = begin(engine)
    core = lane.core_connection()
    lane.perform(Savepoint(lane, "outer_one"))
    inner = core.begin_nested()
    core.execute(sa.update(table).where(table.c.id == 1).values(name="lost"))
    lane.perform(RollbackTo(lane, "outer_one"))

    assert not inner.is_active
    assert core.in_transaction()
    core.begin_nested().commit()
    lane.perform(Savepoint(lane, "second"))
    run(lane, sa.update(table).where(table.c.id == 2).values(name="kept"))
    lane.perform(Release(lane, "second"))
    lane.perform(Commit(lane))
    lane.perform(Return(lane))
    assert names_in(engine) == ["a", "kept", "c"]


@pytest.mark.parametrize("first", ["read", "write", "savepoint"])
@pytest.mark.parametrize("side", ["lane", "core"])
def test_c7_work_of_a_released_savepoint_disappears_with_the_outer_rollback(db, first, side):
    """C7: whatever came first in the transaction: read, write or savepoint; also for Core's Connection."""
    engine = db.create_engine()
    table = make_table(engine)
    lane = begin(engine)
    core = lane.core_connection() if side == "core" else None

    def send(statement):
        if core is not None:
            core.execute(statement)
        else:
            run(lane, statement)

    if first == "read":
        fetch(lane, sa.select(table.c.id))
    elif first == "write":
        send(sa.update(table).where(table.c.id == 1).values(name="x"))
    if core is not None:
        with core.begin_nested():
            send(sa.update(table).where(table.c.id == 2).values(name="y"))
    else:
        lane.perform(Savepoint(lane, "sp"))
        send(sa.update(table).where(table.c.id == 2).values(name="y"))
        lane.perform(Release(lane, "sp"))
    lane.perform(Rollback(lane))
    lane.perform(Return(lane))

    assert names_in(engine) == NAMES


def test_errors_are_cores_with_statement_and_parameters(db):
    """IntegrityError with .orig, .statement and .params; the transaction can go on from a savepoint."""
    engine = db.create_engine()
    table = make_table(engine)
    lane = begin(engine)
    lane.perform(Savepoint(lane, "sp"))

    with pytest.raises(exc.IntegrityError) as caught:
        run(lane, sa.insert(table).values(id=1, name="again", flag=True))

    error = caught.value
    assert isinstance(error.orig, engine.dialect.loaded_dbapi.IntegrityError)
    assert "INSERT INTO thing" in error.statement
    assert "again" in error.params
    assert not error.connection_invalidated
    lane.perform(RollbackTo(lane, "sp"))
    assert fetch(lane, sa.select(table.c.name).where(table.c.id == 1), scalars=True) == ["a"]
    lane.perform(Return(lane))


def test_a_statement_that_fails_leaves_the_lane_usable(sqlite_db):
    """Also when rows were still being read."""
    engine = sqlite_db.create_engine(hide_parameters=True)
    make_table(engine)
    lane = begin(engine)
    bad = text_plan("SELECT nothing FROM thing WHERE id = ?", returns_rows=True)

    with pytest.raises(exc.OperationalError, match="hidden"):
        lane.perform(Rows(lane, bad, (1,)))
    assert lane.perform(Rows(lane, text_plan("SELECT 1", returns_rows=True), ())) == [(1,)]
    lane.perform(Commit(lane))
    lane.perform(Return(lane))


@pytest.mark.databases("psycopg", "psycopg2", "pymysql", "mysqlclient")
def test_a_killed_connection_is_an_error_that_says_so_and_leaves_the_pool(db):
    """D1: one failure, then the pool is whole again."""
    engine = db.create_engine()
    table = make_table(engine)
    lane = begin(engine)
    kill(engine, lane)

    with pytest.raises(exc.DBAPIError) as caught:
        fetch(lane, sa.select(table.c.id))

    assert caught.value.connection_invalidated
    with pytest.raises(exc.PendingRollbackError):
        lane.perform(Commit(lane))
    with pytest.raises(exc.PendingRollbackError):
        fetch(lane, sa.select(table.c.id))
    lane.perform(Rollback(lane))
    lane.perform(Return(lane))
    assert engine.pool.checkedout() == 0
    assert names_in(engine) == NAMES


def kill(engine, lane):
    """End the lane's server process from another connection."""
    mine, statement = (
        ("SELECT pg_backend_pid()", "SELECT pg_terminate_backend({})")
        if engine.dialect.name == "postgresql"
        else ("SELECT connection_id()", "KILL {}")
    )
    number = lane.perform(Rows(lane, text_plan(mine, returns_rows=True), ()))[0][0]
    with engine.connect() as other:
        other.exec_driver_sql(statement.format(number))


def test_an_interrupt_closes_the_connection_and_frees_its_place(sqlite_db):
    """After Ctrl-C the protocol's state is unknown: nobody uses that connection again."""
    engine = sqlite_db.create_engine()
    make_table(engine)
    lane = begin(engine)
    driver = lane.dbapi

    def interrupt():
        raise KeyboardInterrupt

    class Loader:
        def load(self, rows, identity, flags):
            interrupt()

    plan = text_plan("SELECT 1", returns_rows=True)
    plan.loader = Loader()
    with pytest.raises(KeyboardInterrupt):
        lane.perform(Fetch(lane, plan, (), IdentityMap(None), 0, scalars=False))

    assert lane.dbapi is None
    lane.perform(Return(lane))
    assert engine.pool.checkedout() == 0
    again = engine.acquire()
    assert again.dbapi is not driver
    again.release()


def test_a_connection_comes_back_clean(db):
    """A lease that ends in the middle of a transaction is rolled back; Return(discard) closes it."""
    engine = db.create_engine()
    table = make_table(engine)
    lane = begin(engine)
    run(lane, sa.update(table).values(name="lost"))
    lane.perform(Return(lane))
    assert names_in(engine) == NAMES

    lane = begin(engine)
    driver = lane.dbapi
    lane.perform(Return(lane, discard=True))
    lane.perform(Return(lane, discard=True))
    other = engine.acquire()
    assert other.dbapi is not driver
    other.release()
    assert engine.pool.checkedout() == 0


def test_the_connection_object_and_its_cursor_are_kept_between_leases(sqlite_db):
    """The second lease costs no new objects."""
    engine = sqlite_db.create_engine()
    first = engine.acquire()
    cursor = first._cursor
    first.release()
    second = engine.acquire()

    assert second is first
    assert second._cursor is cursor
    second.release()


def test_a_lease_that_ends_after_a_failed_statement_keeps_its_connection(sqlite_db):
    """The rollback at the end of the lease needs no cursor from before."""
    engine = sqlite_db.create_engine()
    table = make_table(engine)
    lane = begin(engine)
    driver = lane.dbapi
    with pytest.raises(exc.IntegrityError):
        run(lane, sa.insert(table).values(id=1, name="again", flag=True))
    lane.perform(Return(lane))

    assert lane.dbapi is driver
    assert not driver.in_transaction
    assert engine.pool.checkedin() == 1


def test_a_cursor_that_holds_many_rows_is_not_kept(db):
    """An idle connection does not hold the memory of the last large result."""
    engine = db.create_engine()
    table = make_table(engine)
    lane = begin(engine)
    lane.core_connection().execute(sa.insert(table), [{"name": "x", "flag": True}] * 1200)

    assert len(fetch(lane, sa.select(table.c.id), scalars=True)) == 1203
    assert (lane._cursor is None) == (db.dialect != "sqlite")
    assert len(fetch(lane, sa.select(table.c.id).limit(3), scalars=True)) == 3
    assert lane._cursor is not None
    lane.perform(Return(lane))


def test_a_dropped_connection_comes_back_at_once_with_a_warning(sqlite_db):
    """B6: without waiting for the collector, and its work is undone."""
    engine = sqlite_db.create_engine()
    table = make_table(engine)
    lane = begin(engine)
    run(lane, sa.update(table).values(name="lost"))
    gc.disable()
    try:
        with pytest.warns(ResourceWarning, match="dropped without being given back"):
            del lane
        assert engine.pool.checkedout() == 0
    finally:
        gc.enable()
    assert names_in(engine) == NAMES


def test_a_nested_statement_while_rows_are_read_uses_a_cursor_of_its_own(sqlite_db):
    """A loader that asks the database does not disturb the rows being read."""
    engine = sqlite_db.create_engine()
    make_table(engine)
    lane = begin(engine)
    inner = text_plan("SELECT max(id) FROM thing", returns_rows=True)

    class Loader:
        def load(self, rows, identity, flags):
            return [(row[0], lane.perform(Rows(lane, inner, ()))[0][0]) for row in rows]

    plan = text_plan("SELECT id FROM thing ORDER BY id", returns_rows=True)
    plan.loader = Loader()
    assert lane.perform(Fetch(lane, plan, (), IdentityMap(None), 0, scalars=False)) == [
        (1, 3),
        (2, 3),
        (3, 3),
    ]
    lane.perform(Return(lane))


def test_a_prepared_transaction_survives_its_connection(db):
    """Two-phase commit: what was prepared is stored or undone later; other drivers refuse to prepare."""
    engine = db.create_engine()
    table = make_table(engine)
    lane = begin(engine)
    run(lane, sa.update(table).values(name="later"))
    if db.dialect != "postgresql":
        with pytest.raises(exc.InvalidRequestError, match="cannot prepare"):
            lane.perform(Prepare(lane, "sj_one"))
        lane.perform(Return(lane))
        return
    if lane.core_connection().exec_driver_sql("SHOW max_prepared_transactions").scalar() == "0":
        lane.perform(Return(lane))
        pytest.skip("not applicable: the server allows no prepared transactions")
    lane.perform(Prepare(lane, "sj_one"))
    lane.perform(Rollback(lane))
    assert names_in(engine) == NAMES
    lane.perform(Begin(lane))
    run(lane, sa.update(table).values(name="stored"))
    lane.perform(Prepare(lane, "sj_two"))
    lane.perform(Commit(lane))
    lane.perform(Return(lane))
    assert names_in(engine) == ["stored"] * 3


def test_a_lent_connection_can_not_be_detached(sqlite_db):
    """The owner will give it back."""
    engine = sqlite_db.create_engine()
    lane = begin(engine)

    with pytest.raises(exc.InvalidRequestError, match="lent by a session"):
        lane.core_connection().detach()
    lane.perform(Return(lane))


def test_isolation_level_set_through_core_does_not_outlive_the_lease(db):
    """C8: the level is put back when the connection returns."""
    engine = db.create_engine()
    lane = engine.acquire()
    core = lane.core_connection()
    before = core.get_isolation_level()
    core.execution_options(isolation_level="SERIALIZABLE")
    lane.perform(Begin(lane))
    assert core.get_isolation_level() == "SERIALIZABLE"
    lane.perform(Rollback(lane))
    lane.perform(Return(lane))

    lane = engine.acquire()
    assert lane.core_connection().get_isolation_level() == before
    lane.release()


def test_the_fast_lane_is_taken_by_default(db):
    """No listener, no echo, a driver of the table."""
    engine = db.create_engine()
    lane = engine.acquire()

    assert type(lane) is Connection
    assert not corelink.is_watched(engine)
    lane.release()
