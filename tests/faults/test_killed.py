"""The server ends single connections: by order, or because they were idle for too long."""

from __future__ import annotations

import threading

import pytest

from sojourn import exc, text
from sojourn.orm import Session
from tests.databases import databases
from tests.faults.asking import ANSWER, WAYS, ask_engine, ask_session, fill
from tests.models import Base, Customer
from tests.serverside import WHO, ask, kill, sessions, wait_until

#: What makes the server end this connection's session after a second of idleness.
IDLE = {
    "psycopg": {"options": "-c idle_session_timeout=500ms"},
    "psycopg2": {"options": "-c idle_session_timeout=500ms"},
    "pymysql": {"init_command": "SET wait_timeout=1"},
    "mysqlclient": {"init_command": "SET wait_timeout=1"},
}
#: The same for a transaction in which nothing happens.
IDLE_IN_TRANSACTION = {
    "psycopg": {"options": "-c idle_in_transaction_session_timeout=500ms"},
    "psycopg2": {"options": "-c idle_in_transaction_session_timeout=500ms"},
    "pymysql": {"init_command": "SET idle_transaction_timeout=1"},
    "mysqlclient": {"init_command": "SET idle_transaction_timeout=1"},
}


def whoami(connection):
    return connection.execute(text(WHO[connection.dialect.name])).scalar_one()


@pytest.mark.parametrize("way", WAYS)
def test_connections_killed_while_idle_fail_nobody(victim, way):
    """Kill every idle connection: each request after that succeeds, on a connection of its own (D1)."""
    engine = victim.create_engine(pool_size=5)
    numbers = fill(engine, 5)
    kill(victim, *numbers)

    assert [WAYS[way](engine) for _ in range(6)] == [42] * 6
    assert not sessions(victim) & numbers


@pytest.mark.parametrize("way", WAYS)
def test_connections_killed_while_idle_fail_nobody_with_a_ping(victim, way):
    """The same with `pool_pre_ping=True` (D1)."""
    engine = victim.create_engine(pool_size=5, pool_pre_ping=True)
    kill(victim, *fill(engine, 5))

    assert [WAYS[way](engine) for _ in range(6)] == [42] * 6


def test_a_connection_killed_between_checkout_and_first_statement_is_replaced(victim):
    """`engine.connect()` gives a connection that dies before it is used; its first statement works."""
    engine = victim.create_engine()
    number = fill(engine, 1)
    with engine.connect() as connection:
        kill(victim, *number)

        assert connection.execute(ANSWER).scalar_one() == 42


def test_a_kill_in_a_transaction_is_told_and_survived(victim):
    """The next statement raises a recognised disconnection, and the next request works (D5)."""
    engine = victim.create_engine()
    with engine.connect() as connection:
        kill(victim, whoami(connection))
        with pytest.raises(exc.DBAPIError) as caught:
            connection.execute(ANSWER)
        connection.rollback()
        assert connection.execute(ANSWER).scalar_one() == 42

    assert caught.value.connection_invalidated
    assert ask_engine(engine) == 42
    assert engine.pool.stats().used == 0


def test_a_session_whose_connection_is_killed_says_the_same_until_rollback(victim):
    """Every further use raises one and the same error, never a changing one; rollback heals it (D2)."""
    engine = victim.create_engine()
    with Session(engine) as session:
        kill(victim, session.execute(text(WHO[victim.dialect])).scalar_one())
        with pytest.raises(exc.DBAPIError) as first:
            session.execute(ANSWER)
        assert first.value.connection_invalidated
        further = []
        for _ in range(3):
            with pytest.raises(exc.SQLAlchemyError) as again:
                session.execute(ANSWER)
            further.append((type(again.value), str(again.value)))
        session.rollback()

        assert session.execute(ANSWER).scalar_one() == 42
    assert len(set(further)) == 1


def test_nothing_is_written_twice_when_a_commit_is_cut_off(victim):
    """Where the connection dies before COMMIT, commit raises and the row is not there (D3)."""
    engine = victim.create_engine(retry="reads")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Customer(name="once"))
        session.flush()
        kill(victim, session.execute(text(WHO[victim.dialect])).scalar_one())
        with pytest.raises(exc.SQLAlchemyError):
            session.commit()
        session.rollback()

    with Session(engine) as session:
        assert session.query(Customer).count() == 0


def test_a_write_is_never_repeated(victim):
    """`retry="reads"` does not send an INSERT again: the first statement of a lease fails if it is one."""
    engine = victim.create_engine(retry="reads", pool_size=1, max_overflow=0)
    Base.metadata.create_all(engine)
    with engine.connect() as connection:
        number = whoami(connection)
    outside = victim.create_engine()
    with outside.connect() as blocker:  # holds a lock, so that the INSERT is under way when it is killed
        blocker.execute(text(LOCK[victim.dialect]))

        failures = []

        def insert():
            try:
                with engine.begin() as connection:
                    connection.execute(text("INSERT INTO customer (name) VALUES ('twice')"))
            except exc.DBAPIError as error:
                failures.append(error)

        thread = threading.Thread(target=insert)
        thread.start()
        wait_until(lambda: is_waiting(victim, number))
        kill(victim, number)
        thread.join(10)
        blocker.execute(text(UNLOCK[victim.dialect]))
        blocker.rollback()

    assert not thread.is_alive()
    assert [each.connection_invalidated for each in failures] == [True]
    with Session(engine) as session:
        assert session.query(Customer).count() == 0


LOCK = {"postgresql": "LOCK TABLE customer", "mysql": "LOCK TABLES customer WRITE"}
UNLOCK = {"postgresql": "SELECT 1", "mysql": "UNLOCK TABLES"}


def is_waiting(db, number):
    """Whether connection *number* waits for a lock, by the server's own list."""
    if db.dialect == "postgresql":
        return ask(db, f"SELECT 1 FROM pg_stat_activity WHERE pid = {number} AND wait_event_type = 'Lock'")
    return ask(
        db, f"SELECT 1 FROM information_schema.processlist WHERE id = {number} AND state LIKE '%lock%'"
    )


@pytest.mark.slow
def test_the_server_closes_what_is_idle(victim):
    """After the server's own limit for idle sessions no request fails (D5)."""
    engine = victim.create_engine(pool_size=3, connect_args=IDLE[victim.name])
    numbers = fill(engine, 3)
    wait_until(lambda: not sessions(victim) & numbers)

    assert [ask_session(engine), ask_engine(engine), ask_session(engine)] == [42] * 3


@pytest.mark.slow
def test_the_server_closes_what_is_idle_in_a_transaction(victim):
    """After the server's limit for idle transactions the next use is told, as a disconnection (D5)."""
    engine = victim.create_engine(connect_args=IDLE_IN_TRANSACTION[victim.name])
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Customer(name="slow"))
        session.flush()
        number = session.execute(text(WHO[victim.dialect])).scalar_one()
        wait_until(lambda: number not in sessions(victim))
        with pytest.raises(exc.DBAPIError) as caught:
            session.execute(ANSWER)
        session.rollback()

        assert caught.value.connection_invalidated
        assert session.query(Customer).count() == 0


@databases("postgresql")
def test_bytes_from_a_living_server_do_not_cost_the_connection(victim):
    """A notification makes the socket readable; the connection is asked, answers, and is kept."""
    engine = victim.create_engine(pool_reset_on_return=None)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("LISTEN news"))
        number = whoami(connection)

    ask(victim, "NOTIFY news, 'hello'")

    with engine.connect() as connection:
        assert whoami(connection) == number
