"""Savepoints on the fast lane: nesting, whose release is sent when, and what a failed transaction says."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from sqlalchemy import exc

from sojourn.flow import Commit, Release, Return, Rollback, RollbackTo, Savepoint
from tests.databases import postgresql_only
from tests.engine.helpers import NAMES, begin, make_table, names_in, run, session_number


def rename(lane, table, old, new):
    return run(lane, sa.update(table).where(table.c.name == old).values(name=new))


def test_released_savepoints_belong_to_what_surrounds_them(db):
    """C1: one after another and nested ones: what is released stays, what is rolled back to goes."""
    engine = db.create_engine()
    table = make_table(engine)
    lane = begin(engine)

    for new in ("a1", "a2", "a3"):
        lane.perform(Savepoint(lane, "sj_1"))
        rename(lane, table, "a" if new == "a1" else f"a{int(new[1]) - 1}", new)
        lane.perform(Savepoint(lane, "sj_2"))
        rename(lane, table, "b", "lost")
        lane.perform(RollbackTo(lane, "sj_2"))
        lane.perform(Savepoint(lane, "sj_2"))
        lane.perform(Release(lane, "sj_2"))
        lane.perform(Release(lane, "sj_1"))
    lane.perform(Savepoint(lane, "sj_1"))
    lane.perform(Savepoint(lane, "sj_2"))
    rename(lane, table, "c", "lost too")
    lane.perform(Release(lane, "sj_2"))
    lane.perform(RollbackTo(lane, "sj_1"))
    lane.perform(Commit(lane))
    lane.perform(Return(lane))

    assert names_in(engine) == ["a3", "b", "c"]


def test_core_finds_no_savepoint_of_ours_open(db):
    """Core's savepoints after a released one of ours nest in the transaction, not in ours."""
    engine = db.create_engine()
    table = make_table(engine)
    lane = begin(engine)

    lane.perform(Savepoint(lane, "sj_1"))
    rename(lane, table, "a", "x")
    lane.perform(Release(lane, "sj_1"))
    nested = lane.core_connection().begin_nested()
    rename(lane, table, "b", "y")
    nested.rollback()
    lane.perform(Commit(lane))
    lane.perform(Return(lane))

    assert names_in(engine) == ["x", "b", "c"]


def last_query(engine, number):
    """Return what the server session of this number was asked last."""
    with engine.connect() as connection:
        asked = sa.text("SELECT query FROM pg_stat_activity WHERE pid = :pid")
        return connection.execute(asked, {"pid": number}).scalar_one()


@postgresql_only
def test_a_release_travels_with_the_next_savepoint(db):
    """RELEASE and SAVEPOINT go to the server in one message; with COMMIT no release needs to be sent."""
    engine = db.create_engine()
    make_table(engine)
    lane = begin(engine)
    number = session_number(lane)

    lane.perform(Savepoint(lane, "sj_1"))
    lane.perform(Release(lane, "sj_1"))
    assert last_query(engine, number) == "SAVEPOINT sj_1"
    lane.perform(Savepoint(lane, "sj_1"))
    assert last_query(engine, number) == "RELEASE SAVEPOINT sj_1; SAVEPOINT sj_1"
    lane.perform(Release(lane, "sj_1"))
    lane.perform(Commit(lane))
    assert last_query(engine, number) == "COMMIT"
    lane.perform(Return(lane))


@postgresql_only
def test_a_failed_transaction_cannot_be_released(db):
    """D6: an error that somebody swallowed is told when the savepoint is released, not later."""
    engine = db.create_engine()
    make_table(engine)
    lane = begin(engine)
    lane.perform(Savepoint(lane, "sj_1"))
    with pytest.raises(exc.ProgrammingError):
        run(lane, sa.text("UPDATE nowhere SET a = 1"))

    with pytest.raises(exc.DBAPIError, match="aborted"):
        lane.perform(Release(lane, "sj_1"))

    lane.perform(Rollback(lane))
    lane.perform(Return(lane))
    assert names_in(engine) == NAMES
