"""What a pool asks a driver connection: alive, in a transaction, clean; and how errors are sorted."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from contextlib import closing, contextmanager

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from sojourn import create_engine
from sojourn.engine.health import Health, recognise_lost
from tests.databases import databases, mysql_only, postgresql_only, server_only, sqlite_only
from tests.servers import find_server

SOON = 10.0  # seconds; more than anything here takes, also on a busy machine


@contextmanager
def opened(db, **options):
    """Open a driver connection, and give it with what knows its ways."""
    engine = db.create_engine(poolclass=sa.pool.NullPool, **options)
    with engine.connect():
        pass  # the dialect learns about the server
    dbapi = engine.raw_connection()
    health = Health(engine.dialect)
    connection = dbapi.dbapi_connection
    dbapi.detach()
    try:
        yield connection, health
    finally:
        health.close(connection)


def run(connection, text):
    """Execute a statement; return its rows if it has any."""
    with closing(connection.cursor()) as cursor:
        cursor.execute(text)
        return list(cursor.fetchall()) if cursor.description else []


def number_of(connection, db):
    """Return how the server calls this session."""
    mine = "SELECT pg_backend_pid()" if db.dialect == "postgresql" else "SELECT connection_id()"
    return run(connection, mine)[0][0]


def kill(db, number):
    """End a session from another connection."""
    text = "SELECT pg_terminate_backend({})" if db.dialect == "postgresql" else "KILL {}"
    with db.sync_engine().connect() as other:
        other.exec_driver_sql(text.format(number))


def wait_for(poll):
    """Wait, not for ever, until the socket has something to say."""
    return bool(poll(SOON * 1000))


@contextmanager
def frozen(db, connection):
    """Stop the server process behind *connection*, PostgreSQL's only: a MariaDB would stop for all."""
    pid = number_of(connection, db)
    connection.rollback()
    os.kill(pid, signal.SIGSTOP)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGCONT)


# -- the socket --------------------------------------------------------------------------------


@sqlite_only
def test_a_database_without_a_socket_has_nothing_to_poll(db):
    """SQLite: nothing to ask, nothing to cut, nothing to abandon."""
    with opened(db) as (connection, health):
        assert health.arm(connection) is None
        health.cut(connection)
        assert health.ping(connection)
        assert run(connection, "SELECT 1") == [(1,)]


@server_only
def test_a_healthy_idle_connection_has_nothing_to_say(db):
    """No false alarm after connecting, after statements, after a ping, after a commit."""
    with opened(db) as (connection, health):
        poll = health.arm(connection)
        heard = [poll(0)]
        for _ in range(20):
            run(connection, "SELECT 1")
            heard.append(poll(0))
        connection.commit()
        heard.append(poll(0))
        assert health.ping(connection)
        heard.append(poll(0))

        assert heard == [[]] * 23


@server_only
def test_d1_a_killed_idle_connection_is_heard_without_asking_the_server(db):
    """D1: its socket says so, and a ping confirms it."""
    with opened(db) as (connection, health):
        poll = health.arm(connection)
        number = number_of(connection, db)
        connection.rollback()
        kill(db, number)

        assert wait_for(poll)
        assert not health.ping(connection)


@postgresql_only
def test_a_notification_is_no_reason_to_close(db):
    """The socket has bytes, the ping says that the connection serves."""
    with opened(db) as (connection, health):
        poll = health.arm(connection)
        run(connection, "LISTEN news")
        connection.commit()
        with db.sync_engine().connect() as other:
            other.exec_driver_sql("NOTIFY news")
            other.commit()

        assert wait_for(poll)
        assert health.ping(connection)
        assert run(connection, "SELECT 1") == [(1,)]


@server_only
@pytest.mark.slow
def test_d5_an_expired_session_is_heard_and_recognised(db):
    """D5: the server's own time-out for idle sessions."""
    setting = (
        "SET idle_session_timeout = 200" if db.dialect == "postgresql" else "SET SESSION wait_timeout = 1"
    )
    with opened(db) as (connection, health):
        recognise_lost(health.dialect)
        poll = health.arm(connection)
        run(connection, setting)
        connection.commit()

        assert wait_for(poll)
        error = failure(lambda: run(connection, "SELECT 1"))
        assert health.dialect.is_disconnect(error, connection, None)


@postgresql_only
def test_d5_an_expired_transaction_is_recognised(db):
    """D5: idle_in_transaction_session_timeout ends the session in the middle of its work."""
    with opened(db) as (connection, health):
        recognise_lost(health.dialect)
        poll = health.arm(connection)
        run(connection, "SET idle_in_transaction_session_timeout = 50")

        assert wait_for(poll)
        error = failure(lambda: run(connection, "SELECT 1"))
        assert health.dialect.is_disconnect(error, connection, None)


@server_only
@pytest.mark.parametrize("busy", [False, True])
@pytest.mark.slow
def test_d5_a_killed_connection_is_recognised(db, busy):
    """D5: killed while idle in a transaction, and while a statement runs."""
    with opened(db) as (connection, health):
        recognise_lost(health.dialect)
        number = number_of(connection, db)
        if busy:
            threading.Timer(0.2, kill, (db, number)).start()
            wait = "SELECT pg_sleep(20)" if db.dialect == "postgresql" else "SELECT SLEEP(20)"
            error = failure(lambda: run(connection, wait))
        else:
            kill(db, number)
            assert wait_for(health.arm(connection))
            error = failure(lambda: run(connection, "SELECT 1"))

        assert health.dialect.is_disconnect(error, connection, None)


def failure(call):
    """Return what *call* raises."""
    with pytest.raises(Exception) as caught:
        call()
    return caught.value


# -- limits ------------------------------------------------------------------------------------


@postgresql_only
@pytest.mark.slow
def test_a_ping_of_a_frozen_server_ends_in_time(db):
    """E4: the limit holds though nothing answers; closing does not wait either."""
    with opened(db) as (connection, health):
        with frozen(db, connection):
            started = time.monotonic()
            served = health.ping(connection, 0.3)
            pinged = time.monotonic()
            health.close(connection, 0.3)
            closed = time.monotonic()

        assert not served
        assert 0.25 <= pinged - started < 2
        assert closed - pinged < 2


@postgresql_only
@pytest.mark.parametrize("what", ["rollback", "reset_session"])
@pytest.mark.slow
def test_cleaning_up_with_a_frozen_server_ends_in_time(db, what):
    """Neither a rollback nor a reset waits longer than it is told to, and says that it failed."""
    with opened(db) as (connection, health):
        pid = number_of(connection, db)
        os.kill(pid, signal.SIGSTOP)
        try:
            started = time.monotonic()
            clean = getattr(health, what)(connection, seconds=0.3)
            took = time.monotonic() - started
        finally:
            os.kill(pid, signal.SIGCONT)

        assert not clean
        assert 0.25 <= took < 2


@mysql_only
@pytest.mark.slow
def test_the_same_with_a_server_that_accepts_and_says_nothing(db):
    """A proxy that swallows everything stands for a MariaDB that froze."""
    server = find_server(db.driver.server)
    with Swallower(server.port) as proxy, opened_through(db, proxy.port) as (connection, health):
        assert health.ping(connection)
        run(connection, "SELECT 1")
        proxy.swallow.set()
        took = []
        for act in (lambda: health.ping(connection, 0.3), lambda: health.rollback(connection, 0.3)):
            started = time.monotonic()
            assert not act()
            took.append(time.monotonic() - started)

        assert all(seconds < 2 for seconds in took)
        assert took[0] >= 0.25


@contextmanager
def opened_through(db, port):
    """Open a connection by way of another port."""
    url = sa.make_url(db.url).set(port=port)
    engine = create_engine(url, poolclass=sa.pool.NullPool)
    connection = engine.raw_connection()
    dbapi = connection.dbapi_connection
    connection.detach()
    health = Health(engine.dialect)
    try:
        yield dbapi, health
    finally:
        health.close(dbapi, 0.3)


class Swallower:
    """Pass bytes on to *port* until told to swallow what the client says."""

    def __init__(self, port):
        self.swallow = threading.Event()
        self.target = port
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self.sockets = [self.listening]

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def _accept(self):
        try:
            while True:
                client, _ = self.listening.accept()
                server = socket.create_connection(("127.0.0.1", self.target))
                self.sockets += [client, server]
                threading.Thread(target=self._pass, args=(client, server, True), daemon=True).start()
                threading.Thread(target=self._pass, args=(server, client, False), daemon=True).start()
        except OSError:
            pass

    def _pass(self, source, target, asks):
        try:
            while data := source.recv(65536):
                if not (asks and self.swallow.is_set()):
                    target.sendall(data)
            target.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def __exit__(self, *exc_info):
        for each in self.sockets:
            with closing(each):
                try:
                    each.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass


@server_only
@pytest.mark.slow
def test_cutting_ends_what_another_thread_waits_for(db):
    """A statement in progress fails at once, in the thread that waits for it, as a lost connection."""
    with opened(db) as (connection, health):
        recognise_lost(health.dialect)
        threading.Timer(0.2, health.cut, (connection,)).start()
        wait = "SELECT pg_sleep(20)" if db.dialect == "postgresql" else "SELECT SLEEP(20)"
        started = time.monotonic()
        error = failure(lambda: run(connection, wait))

        assert time.monotonic() - started < 5
        assert health.dialect.is_disconnect(error, connection, None)


def test_a_closed_connection_bears_every_question(db):
    """Nothing raises, and nothing is touched that is no longer ours."""
    with opened(db) as (connection, health):
        connection.close()

        assert health.arm(connection) is None
        assert not health.ping(connection)
        assert health.in_transaction(connection) in {None, False}
        assert not health.reset_session(connection)
        health.cut(connection)
        health.abandon(connection)
        health.close(connection)


# -- transactions ------------------------------------------------------------------------------


@databases("sqlite", "postgresql")
def test_an_open_transaction_is_proven(db):
    """None before, one after a statement, none after the rollback."""
    with opened(db) as (connection, health):
        seen = [health.in_transaction(connection)]
        run(connection, "BEGIN" if db.dialect == "sqlite" else "SELECT 1")
        seen.append(health.in_transaction(connection))
        assert health.rollback(connection)
        seen.append(health.in_transaction(connection))

        assert seen == [False, True, False]


@postgresql_only
def test_a_failed_transaction_is_open_too(db):
    """It must be rolled back before the next one."""
    with opened(db) as (connection, health):
        failure(lambda: run(connection, "SELECT 1/0"))

        assert health.in_transaction(connection)
        assert health.rollback(connection)
        assert run(connection, "SELECT 1") == [(1,)]


@mysql_only
def test_mysqls_drivers_prove_nothing(db):
    """PyMySQL's server_status stays 0 while SELECT ... FOR UPDATE holds its locks."""
    with opened(db) as (connection, health):
        run(connection, "CREATE TABLE t (a INT) ENGINE=InnoDB")
        run(connection, "SELECT * FROM t FOR UPDATE")

        assert health.in_transaction(connection) is None


@postgresql_only
def test_a_begin_in_autocommit_is_rolled_back(db):
    """psycopg2's own rollback() does nothing there."""
    with opened(db) as (connection, health):
        connection.autocommit = True
        run(connection, "BEGIN")
        run(connection, "CREATE TABLE t (a int)")
        assert health.in_transaction(connection)

        assert health.rollback(connection)
        assert run(connection, "SELECT to_regclass('t') IS NULL") == [(True,)]


# -- the session -------------------------------------------------------------------------------


@postgresql_only
def test_e7_a_reset_session_remembers_nothing(db):
    """E7: settings, temporary tables, locks, prepared statements, listening, an open transaction."""
    with opened(db) as (connection, health):
        before = run(connection, "SHOW search_path")
        run(connection, "SET search_path = pg_catalog")
        run(connection, "CREATE TEMP TABLE mine (a int)")
        run(connection, "SELECT pg_advisory_lock(7)")
        run(connection, "PREPARE mine AS SELECT 1")
        run(connection, "LISTEN news")
        connection.commit()
        run(connection, "SELECT 1")

        assert health.reset_session(connection)
        assert not health.in_transaction(connection)
        assert run(connection, "SHOW search_path") == before
        assert run(connection, "SELECT to_regclass('pg_temp.mine') IS NULL") == [(True,)]
        assert run(connection, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [(0,)]
        assert run(connection, "SELECT count(*) FROM pg_prepared_statements WHERE name = 'mine'") == [(0,)]
        assert run(connection, "SELECT count(*) FROM pg_listening_channels()") == [(0,)]
        assert not connection.autocommit


@databases("psycopg")
def test_statements_that_the_driver_prepared_go_on_working_after_a_reset(db):
    """The server forgets them, so psycopg has to."""
    with opened(db) as (connection, health):
        for _ in range(2):
            connection.execute("SELECT %s::int", (1,), prepare=True)
        assert health.reset_session(connection)

        assert connection.execute("SELECT %s::int", (1,), prepare=True).fetchall() == [(1,)]


@databases("pymysql")
def test_e7_a_reset_of_pymysql_keeps_what_the_driver_had_said(db):
    """E7: variables, locks and temporary tables go; character set, autocommit mode and database stay."""
    about = "SELECT @@character_set_client, @@collation_connection, @@autocommit, DATABASE()"
    with opened(db) as (connection, health):
        before = run(connection, about)
        run(connection, "SET @mine = 1, SESSION sql_mode = '', NAMES latin1")
        run(connection, "CREATE TEMPORARY TABLE mine (a INT)")
        run(connection, "SELECT GET_LOCK('mine', 0)")

        assert health.reset_session(connection)
        assert run(connection, "SELECT @mine, IS_FREE_LOCK('mine')") == [(None, 1)]
        assert "mine" in str(failure(lambda: run(connection, "SELECT * FROM mine")))
        assert run(connection, about) == before


@databases("mysqlclient")
def test_e7_what_cannot_be_reset_says_so(db):
    """Nothing of mysqlclient leads to the command, so the connection is to be closed."""
    with opened(db) as (connection, health):
        assert not health.reset_session(connection)


@databases("psycopg", "pymysql")
def test_e7_what_listeners_told_a_connection_is_not_forgotten(db):
    """A reset would undo it, so the connection is closed, and the next one is told again."""
    engine = db.create_engine()
    health = Health(engine.dialect)
    with opened(db) as (connection, _):
        assert health.reset_session(connection, engine.pool)
        event.listen(engine.pool, "connect", lambda *args: None)
        assert not health.reset_session(connection, engine.pool)


@databases("pymysql")
def test_an_isolation_level_of_the_engine_is_not_forgotten(db):
    """There it is a variable of the session."""
    with opened(db, isolation_level="SERIALIZABLE") as (connection, health):
        assert not health.reset_session(connection)


def test_e7_sqlites_connections_are_closed_but_those_in_memory(sqlite_db):
    """A database in memory would end with its connection."""
    import sqlite3

    with opened(sqlite_db) as (connection, health):
        run(connection, "PRAGMA foreign_keys=ON")
        assert not health.reset_session(connection)
        with closing(sqlite3.connect(":memory:")) as memory:
            assert health.reset_session(memory)


# -- forking -----------------------------------------------------------------------------------


@server_only
def test_an_abandoned_copy_says_no_goodbye(db):
    """In a forked child: closing it there leaves the parent's session as it is."""
    with opened(db) as (connection, health):
        number = number_of(connection, db)
        connection.rollback()
        child = os.fork()
        if child == 0:
            try:
                health.abandon(connection)
                connection.close()
            finally:
                os._exit(0)
        ended, status = os.waitpid(child, 0)

        assert (ended, status) == (child, 0)
        assert health.ping(connection)
        assert number_of(connection, db) == number
