"""A table of three rows, and short ways to send statements on a lane."""

from __future__ import annotations

import sqlalchemy as sa

from sojourn.flow import Begin, Execute, Fetch, Rows
from sojourn.kernel.identity import IdentityMap
from sojourn.plans import plan_for_core, text_plan

NAMES = ["a", "b", "c"]


def make_table(engine):
    """Make the table `thing` with the rows a, b, c."""
    metadata = sa.MetaData()
    table = sa.Table(
        "thing",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(20)),
        sa.Column("flag", sa.Boolean, default=True),
    )
    metadata.drop_all(engine)
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(sa.insert(table), [{"name": name, "flag": True} for name in NAMES])
    return table


def begin(engine):
    """Acquire a connection and begin."""
    lane = engine.acquire()
    lane.perform(Begin(lane))
    return lane


def fetch(lane, statement, *, scalars=False):
    """Run a Core select on a lane."""
    plan, params = plan_for_core(statement, lane.engine)
    return lane.perform(Fetch(lane, plan, params, IdentityMap(None), 0, scalars))


def run(lane, statement):
    """Run a Core insert, update or delete on a lane."""
    plan, params = plan_for_core(statement, lane.engine)
    return lane.perform(Execute(lane, plan, params))


def names_in(engine):
    """Return what another connection sees."""
    with engine.connect() as connection:
        return list(connection.exec_driver_sql("SELECT name FROM thing ORDER BY id").scalars())


def session_number(lane):
    """Return how the server calls the lane's session."""
    mine = "SELECT pg_backend_pid()" if lane.engine.dialect.name == "postgresql" else "SELECT connection_id()"
    return lane.perform(Rows(lane, text_plan(mine, returns_rows=True), ()))[0][0]
