"""Records and proxies: their public members, what they do to the pool, and late checks of the socket."""

from __future__ import annotations

import gc
import socket
import warnings

import pytest
import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from sojourn.pool import QueuePool
from tests.databases import databases


@pytest.fixture
def pool(sqlite_db):
    """A pool of one connection."""
    return sqlite_db.create_engine(pool_size=1, max_overflow=0).pool


@pytest.fixture
def record(pool):
    """The record that the pool lends next."""
    found = []
    event.listen(pool, "connect", lambda connection, record: found.append(record))
    pool.connect().close()
    return found[0]


def test_the_public_members_of_a_proxy(pool):
    """Those of SQLAlchemy's, and whatever the driver connection has."""
    proxy = pool.connect()

    assert isinstance(proxy, PoolProxiedConnection)
    assert (proxy.is_valid, proxy.is_detached) == (True, False)
    assert proxy.driver_connection is proxy.dbapi_connection
    assert proxy.total_changes == 0
    assert proxy.cursor().execute("SELECT 1").fetchone() == (1,)
    with proxy as same:
        assert same is proxy
    assert (proxy.is_valid, proxy.dbapi_connection, proxy.driver_connection) == (False, None, None)
    proxy.close()
    assert pool.checkedin() == 1


def test_the_public_members_of_a_record(pool, record):
    """Those of SQLAlchemy's."""
    assert isinstance(record, ConnectionPoolEntry)
    assert not record.in_use
    proxy = pool.connect()

    assert record.in_use
    assert record.driver_connection is record.dbapi_connection is proxy.dbapi_connection
    assert record.last_connect_time > 0
    assert "lent" in repr(record)
    proxy.close()
    assert "idle" in repr(record)


def test_notes_last_as_long_as_what_they_are_on(pool):
    """`info` with the connection, `record_info` with its place, a detached connection's with itself."""
    proxy = pool.connect()
    proxy.info["a"] = proxy.record_info["b"] = 1
    proxy.invalidate()
    proxy = pool.connect()
    assert (proxy.info, proxy.record_info) == ({}, {"b": 1})

    proxy.info["c"] = 2
    proxy.detach()
    assert (proxy.info, proxy.record_info) == ({"c": 2}, None)
    proxy.close()
    with pool.connect() as proxy:
        assert proxy.record_info == {"b": 1}


def test_an_invalidated_proxy_gives_its_place_back_at_once(pool):
    """Whoever waits need not wait for close(), which does nothing any more."""
    proxy = pool.connect()
    proxy.invalidate(OSError("why"))
    other = pool.connect()
    proxy.close()

    assert pool.checkedout() == 1
    with pytest.warns(exc.SAWarning, match="already-closed"):
        proxy.invalidate()
    other.close()


def test_a_second_close_of_a_proxy_does_nothing_to_the_next_holder(pool):
    """The proxy no longer knows the connection."""
    first = pool.connect()
    first.close()
    second = pool.connect()
    first.close()

    assert pool.checkedout() == 1
    second.close()


def test_giving_a_record_back_twice_is_warned_of(pool, record):
    """As SQLAlchemy says it."""
    with pytest.warns(exc.SAWarning, match="Double checkin"):
        record.checkin()


def test_a_record_can_be_closed_and_opened_again(record):
    """Its next user finds a new connection."""
    first = record.get_connection()
    record.close()

    assert record.dbapi_connection is None
    assert record.get_connection() is not first


def test_a_proxy_in_a_cycle_comes_back_with_the_collector(pool):
    """And the warning names the place."""
    proxy = pool.connect()
    proxy.cycle = proxy
    del proxy
    with pytest.warns(ResourceWarning, match=r"test_records\.py:\d+ in test_a_proxy_in_a_cycle"):
        gc.collect()

    assert (pool.checkedin(), pool.stats().gc_returns) == (1, 1)


def test_a_failing_reset_costs_the_connection_not_the_place(pool, caplog):
    """The error is logged; the program goes on."""
    proxy = pool.connect()
    proxy.cursor().execute("BEGIN")
    event.listen(pool, "reset", fail_once())
    proxy.close()

    assert (pool.checkedin(), pool.checkedout()) == (0, 0)
    assert "could not be reset" in caplog.text
    pool.connect().close()


def test_an_interrupted_reset_costs_no_place(pool, caplog):
    """Control-C in the middle of a return: the connection is closed, the place is free."""
    proxy = pool.connect()
    event.listen(pool, "reset", fail_once(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        proxy.close()

    assert (pool.checkedout(), proxy.is_valid) == (0, False)
    pool.connect().close()


def fail_once(error=OSError):
    errors = [error("gone")]

    def listener(*args):
        if errors:
            raise errors.pop()

    return listener


def cut(connection):
    """End a connection as a dying server does: the driver does not know."""
    with socket.socket(fileno=connection.fileno()) as sock:
        sock.shutdown(socket.SHUT_RDWR)
        sock.detach()


@databases("psycopg", "psycopg2", "mysqlclient")
def test_a_connection_lost_before_its_first_statement_is_exchanged_silently(db):
    """While there is no state, nobody notices; the pool counts it."""
    engine = db.create_engine()
    with engine.connect() as connection:
        cut(connection.connection.dbapi_connection)
        assert connection.execute(sa.text("SELECT 1")).scalar() == 1

    assert dict(engine.pool.stats().closed) == {"server": 1}


@databases("psycopg", "psycopg2", "mysqlclient")
def test_a_connection_lost_with_state_on_it_is_an_error(db):
    """After a statement there may be state; so the loss is told."""
    engine = db.create_engine()
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT 1"))
        cut(connection.connection.dbapi_connection)
        with pytest.raises(exc.DBAPIError) as caught:
            connection.execute(sa.text("SELECT 1"))
        connection.rollback()
        again = connection.execute(sa.text("SELECT 2")).scalar()

    assert caught.value.connection_invalidated
    assert again == 2


@databases("psycopg", "psycopg2", "mysqlclient")
def test_an_idle_connection_whose_server_is_gone_is_never_lent(db):
    """Without a ping: the socket tells."""
    engine = db.create_engine()
    with engine.connect() as connection:
        raw = connection.connection.dbapi_connection
    cut(raw)
    with engine.connect() as connection:
        assert connection.connection.dbapi_connection is not raw
        assert connection.execute(sa.text("SELECT 1")).scalar() == 1


@pytest.mark.parametrize("always", [True, "always"])
def test_pre_ping_asks_a_driver_nobody_tested_each_time(always):
    """As in SQLAlchemy; a connection that does not answer is replaced."""
    asked = []
    dialect = sa.create_engine("sqlite://").dialect
    dialect.driver = "another"
    dialect.do_ping = lambda connection: asked.append(connection) or len(asked) != 2
    opened = []

    class Driver:
        def __init__(self):
            opened.append(self)

        def rollback(self):
            """Do nothing."""

        close = rollback

    pool = QueuePool(Driver, dialect=dialect, pre_ping=always)
    for _ in range(4):
        pool.connect().close()

    assert (len(asked), len(opened)) == (3, 2)


def test_nothing_is_warned_of_when_everything_is_closed(pool):
    """No noise from proxies that are simply done with."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pool.connect().close()
        gc.collect()
