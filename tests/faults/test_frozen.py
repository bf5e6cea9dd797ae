"""A server, or the way to it, that keeps its sockets open and says nothing: everything has a time limit.

Time limits are set low; each test allows a second or two more, for a machine that is busy.
"""

from __future__ import annotations

import contextlib
import threading
import time
from contextlib import contextmanager

import pytest

from sojourn import exc, text
from sojourn.orm import Session
from tests.databases import databases
from tests.faults.asking import ANSWER, WAYS, ask_engine, ask_session, fill
from tests.serverside import WHO, kill, sessions, wait_until

LIMIT = 0.3  # seconds; for a ping, a reset, a good-bye


def hasten(engine):
    """Give pings, resets and good-byes little time."""
    health = engine.pool.health
    health.ping_limit = health.reset_limit = health.close_limit = LIMIT
    return engine


@contextmanager
def within(seconds):
    """Fail if the block takes longer."""
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds


@pytest.mark.slow
@databases("postgresql")
@pytest.mark.parametrize("way", WAYS)
def test_a_frozen_backend_is_replaced_within_the_limit(victim, way):
    """A checkout that asks the server does not wait for a stopped process longer than its limit."""
    engine = hasten(victim.create_engine(pool_pre_ping="always", pool_size=1, max_overflow=0))
    (pid,) = fill(engine, 1)
    with victim.server.frozen(pid), within(LIMIT + 1.5):
        assert WAYS[way](engine) == 42

    wait_until(lambda: pid not in sessions(victim))


@pytest.mark.slow
@databases("mysql")
def test_a_frozen_server_is_an_error_within_the_limits(victim):
    """Where the whole server stands still the checkout fails within its limits; it works again after."""
    arguments = {"connect_timeout": 1}
    if victim.name == "pymysql":
        arguments["read_timeout"] = 1  # it reads the server's greeting without a limit otherwise
    engine = victim.create_engine(
        pool_pre_ping="always", pool_size=1, max_overflow=0, pool_timeout=1.0, connect_args=arguments
    )
    hasten(engine)
    fill(engine, 1)
    with victim.server.frozen(), within(LIMIT + 4):
        with pytest.raises(exc.SQLAlchemyError):
            ask_engine(engine)
        stats = engine.pool.stats()
        assert (stats.used, stats.waiting) == (0, 0)

    assert ask_engine(engine) == 42


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_a_silent_network_is_left_within_the_limit(victim, proxy, way):
    """Connections behind a silent network are replaced, each within the limit of a ping."""
    engine = hasten(victim.create_engine(pool_pre_ping="always", pool_size=2, max_overflow=0))
    fill(engine, 2)
    proxy.freeze()
    with within(2 * LIMIT + 2):
        assert WAYS[way](engine) == 42
    proxy.thaw()

    assert engine.pool.stats().pings_failed >= 1


@pytest.mark.slow
def test_giving_back_is_bounded(victim, proxy):
    """The rollback of a connection that is given back is cut off at its limit, and the connection closed.

    Core tells of a rollback that failed, which is as good as done: the server does it by itself.
    """
    engine = hasten(victim.create_engine(pool_size=1, max_overflow=0))
    connection = engine.connect()
    connection.execute(ANSWER)
    proxy.freeze()
    with within(2 * LIMIT + 2):
        with contextlib.suppress(exc.DBAPIError):
            connection.close()
        assert ask_session(engine) == 42
    proxy.thaw()


@pytest.mark.slow
def test_the_end_of_a_session_is_bounded(victim, proxy):
    """The same for a session that is closed."""
    engine = hasten(victim.create_engine(pool_size=1, max_overflow=0))
    session = Session(engine)
    session.execute(ANSWER)
    proxy.freeze()
    with within(2 * LIMIT + 2):
        with contextlib.suppress(exc.DBAPIError):
            session.close()
        assert ask_engine(engine) == 42
    proxy.thaw()


@pytest.mark.slow
def test_dispose_is_bounded(victim, proxy):
    """Closing the idle connections takes no longer than the limit for a good-bye, each."""
    engine = hasten(victim.create_engine(pool_size=3))
    fill(engine, 3)
    proxy.freeze()
    with within(3 * LIMIT + 2):
        engine.dispose()
    proxy.thaw()

    assert ask_engine(engine) == 42


@pytest.mark.slow
def test_closing_the_pool_cuts_off_who_is_stuck(victim, proxy):
    """`pool.close(timeout)` waits that long for what is lent, then ends it: a stuck statement fails."""
    engine = hasten(victim.create_engine(pool_size=2))
    connection = engine.connect()
    number = connection.execute(text(WHO[victim.dialect])).scalar_one()
    proxy.freeze()
    failures = []

    def use():
        try:
            connection.execute(ANSWER)
        except exc.DBAPIError as error:
            failures.append(error)

    thread = threading.Thread(target=use)
    thread.start()
    with within(LIMIT + 3):
        engine.pool.close(timeout=LIMIT)
        thread.join(10)
    proxy.thaw()

    assert [each.connection_invalidated for each in failures] == [True]
    connection.close()
    kill(victim, *sessions(victim) & {number})
    with pytest.raises(exc.SQLAlchemyError):
        engine.connect()


@pytest.mark.slow
def test_a_lease_held_too_long_is_taken_back(victim, proxy):
    """With `reclaim_after` a connection that is out for longer is cut off; who waits for it gets another."""
    engine = hasten(victim.create_engine(pool_size=1, max_overflow=0, reclaim_after=0.3, self_wait="wait"))
    held = engine.connect()
    held.execute(ANSWER)
    with within(5):
        assert ask_session(engine) == 42
    with pytest.raises(exc.DBAPIError):
        held.execute(ANSWER)
    held.close()

    assert engine.pool.stats().closed["reclaimed"] == 1
