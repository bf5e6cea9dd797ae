"""Contracts of SQLAlchemy Core's private names: what is sent, and who talks to new connections."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import event

from sojourn import corelink
from sojourn.pool import QueuePool

table = sa.Table("thing", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True))


class Witness:
    """A connection that notes what it is shown, and when it is asked for a cursor."""

    def __init__(self, connection):
        self.connection = connection
        self.noted = []

    def see(self, text):
        """Note a statement."""
        self.noted.append(" ".join(text.split()))

    def cursor(self):
        """Note that a cursor is made."""
        self.noted.append("cursor")
        return self.connection.cursor()

    def __getattr__(self, name):
        return getattr(self.connection, name)


def test_seeing_connection_shows_every_statement_before_its_one_cursor():
    """Texts, compiled statements, DDL and many rows at once: shown once each, then sent with one cursor."""
    engine = sa.create_engine("sqlite://")
    proxy = Witness(engine.raw_connection())
    connection = corelink.SeeingConnection(engine, connection=proxy)
    connection.exec_driver_sql("CREATE TABLE thing (id INTEGER PRIMARY KEY)")
    connection.execute(sa.text("SELECT :one"), {"one": 1})
    connection.execute(sa.insert(table), [{"id": 1}, {"id": 2}])
    assert connection.execute(sa.select(table)).all() == [(1,), (2,)]
    connection.execute(sa.schema.DropTable(table))

    assert proxy.noted == [
        "CREATE TABLE thing (id INTEGER PRIMARY KEY)",
        "cursor",
        "SELECT ?",
        "cursor",
        "INSERT INTO thing (id) VALUES (?)",
        "cursor",
        "SELECT thing.id FROM thing",
        "cursor",
        "DROP TABLE thing",
        "cursor",
    ]


def test_seeing_connection_leaves_a_proxy_alone_that_does_not_want_to_see():
    """Core's own proxies have no such method."""
    engine = sa.create_engine("sqlite://")
    with corelink.SeeingConnection(engine) as connection:
        assert connection.execute(sa.text("SELECT 1")).scalar() == 1


def test_is_told_on_connect_passes_over_cores_own_listeners():
    """The dialect's listener and the one of the first connection are Core's; anybody else's counts."""
    for kind in (None, QueuePool):
        engine = sa.create_engine("postgresql+psycopg://", poolclass=kind)
        assert not corelink.is_told_on_connect(engine.pool)
        event.listen(engine, "connect", lambda *args: None)
        assert corelink.is_told_on_connect(engine.pool)
