"""The engine: Core's engine to everybody, its own creation arguments, options and plans."""

from __future__ import annotations

import logging
from typing import ClassVar

import pytest
import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.dialects import plugins
from sqlalchemy.engine import CreateEnginePlugin

from sojourn import create_engine
from sojourn.engine import Engine, OptionEngine, engine_from_config
from sojourn.engine.connection import Connection
from sojourn.engine.corelane import CoreLane
from sojourn.flow import Acquire
from tests.engine.helpers import NAMES, begin, fetch, make_table


def test_it_is_a_core_engine_of_its_own_class(sqlite_db):
    """Isinstance holds, nothing is connected at creation (E1), repr and name are Core's."""
    opened = []
    engine = sqlite_db.create_engine()
    event.listen(engine, "connect", lambda *args: opened.append(1))

    assert isinstance(engine, sa.Engine)
    assert type(engine) is Engine
    assert (engine.name, engine.driver, opened) == ("sqlite", "pysqlite", [])
    assert repr(engine).startswith("Engine(sqlite+pysqlite:///")
    assert engine.perform(Acquire(engine)).release() is None
    assert len(opened) == 1


def test_arguments_are_cores_and_wrong_ones_are_refused_by_core():
    """The dialect, the pool and the engine get theirs; what nobody takes is a TypeError."""
    engine = create_engine(
        "sqlite://", echo=False, logging_name="mine", hide_parameters=True, query_cache_size=7,
        json_serializer=str, execution_options={"a": 1}, pool_logging_name="pond",
    )  # fmt: skip

    assert engine.logging_name == "mine"
    assert engine.hide_parameters
    assert engine.plan_cache.capacity == 7
    assert engine.get_execution_options() == {"a": 1}
    assert engine.dialect._json_serializer is str
    with pytest.raises(TypeError, match="nonsense"):
        create_engine("sqlite://", nonsense=1)


def test_an_engine_from_a_configuration(tmp_path):
    """Texts become what the arguments want."""
    engine = engine_from_config(
        {"sqlalchemy.url": f"sqlite:///{tmp_path}/x.db", "sqlalchemy.pool_size": "3", "other": "no"}
    )

    assert engine.pool.size() == 3


def test_a_creator_and_a_ready_pool_are_used(tmp_path):
    """`creator=` and `pool=` as in Core; a foreign pool is used through Core's proxy."""
    import sqlite3

    made = []

    def connect():
        made.append(sqlite3.connect(tmp_path / "x.db"))
        return made[-1]

    engine = create_engine("sqlite://", creator=connect, poolclass=sa.pool.QueuePool)
    engine.acquire().release()
    assert len(made) == 1
    engine.dispose()

    engine = create_engine("sqlite://", pool=sa.pool.QueuePool(connect))
    lane = engine.acquire()
    assert type(lane) is Connection
    lane.release()
    assert engine.pool.checkedout() == 0
    engine.dispose()


def test_echo_logs_the_statements_of_sessions(sqlite_db, caplog):
    """What Core would log is logged."""
    engine = sqlite_db.create_engine(logging_name="seen")
    table = make_table(engine)
    with caplog.at_level(logging.INFO, "sqlalchemy.engine"):
        lane = begin(engine)
        assert type(lane) is CoreLane
        fetch(lane, sa.select(table.c.name))
        lane.release()

    assert any("SELECT thing.name" in record.getMessage() for record in caplog.records)


def test_an_engine_with_options_shares_pool_and_plans(sqlite_db):
    """`engine.execution_options()` gives an engine of ours; options that need Core are served by Core."""
    engine = sqlite_db.create_engine()
    table = make_table(engine)
    other = engine.execution_options(isolation_level="AUTOCOMMIT")

    assert type(other) is OptionEngine
    assert isinstance(other, Engine)
    assert other.pool is engine.pool
    assert other.plan_cache is engine.plan_cache
    assert other.plan_dialect is engine.plan_dialect
    lane = begin(other)
    assert type(lane) is CoreLane
    assert lane.core_connection().get_execution_options() == {"isolation_level": "AUTOCOMMIT"}
    assert fetch(lane, sa.select(table.c.name), scalars=True) == NAMES
    lane.release()
    lane = engine.acquire()
    assert type(lane) is Connection
    lane.release()


def test_listeners_on_cores_classes_hear_our_engines(sqlite_db):
    """event.listen(sqlalchemy.Engine, ...) and plug-ins reach ours."""
    heard = []

    def listen(connection, cursor, statement, *rest):
        heard.append(statement)

    event.listen(sa.Engine, "before_cursor_execute", listen)
    try:
        engine = sqlite_db.create_engine()
        table = make_table(engine)
        lane = begin(engine)
        fetch(lane, sa.select(table.c.id))
        lane.release()
    finally:
        event.remove(sa.Engine, "before_cursor_execute", listen)

    assert "SELECT thing.id \nFROM thing" in heard


class Plug(CreateEnginePlugin):
    """Listens to the engine it is told of."""

    heard: ClassVar[list[str]] = []

    def update_url(self, url):
        return url

    def engine_created(self, engine):
        event.listen(engine, "before_cursor_execute", lambda *args: self.heard.append(args[2]))


def test_a_plug_in_that_listens_at_creation_is_heard(sqlite_db):
    """Listeners put on the engine that Core created are on ours too."""
    plugins.register("sojourn_test_plug", __name__, "Plug")
    engine = sqlite_db.create_engine(plugins=["sojourn_test_plug"])
    table = make_table(engine)
    lane = begin(engine)
    assert type(lane) is CoreLane
    fetch(lane, sa.select(table.c.id))
    lane.release()

    assert "SELECT thing.id \nFROM thing" in Plug.heard


def test_dispose_forgets_the_plans_and_fires_cores_event(sqlite_db):
    """A changed schema is seen after engine.dispose()."""
    engine = sqlite_db.create_engine()
    fired = []
    event.listen(engine, "engine_disposed", fired.append)
    table = make_table(engine)
    lane = begin(engine)
    fetch(lane, sa.select(table.c.id))
    lane.release()
    assert len(engine.plan_cache) == 1

    engine.dispose()

    assert len(engine.plan_cache) == 0
    assert fired == [engine]


def test_traits_of_a_server_wait_for_it(db):
    """What the server can do is asked once, before the first plan is made."""
    engine = db.create_engine()
    assert engine.pool.checkedin() == 0

    assert engine.traits is engine.traits
    assert engine.plan_dialect is engine.plan_dialect
    if db.dialect != "sqlite":
        assert engine.dialect.server_version_info is not None
        assert engine.plan_dialect.server_version_info == engine.dialect.server_version_info


@pytest.mark.databases("psycopg", "psycopg2", "pymysql", "mysqlclient")
def test_a_refused_connection_is_cores_error(db):
    """With the driver's error in .orig."""
    engine = create_engine(sa.make_url(db.url).set(port=1))
    with pytest.raises(exc.OperationalError) as caught:
        engine.acquire()

    assert isinstance(caught.value.orig, engine.dialect.loaded_dbapi.OperationalError)
    assert engine.pool.checkedout() == 0
