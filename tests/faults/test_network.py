"""What networks do: close, reset, half-close, refuse, cut a reply in two; for every driver, by a proxy."""

from __future__ import annotations

import contextlib
import threading

import pytest

from sojourn import exc, text
from sojourn.orm import Session
from tests.faults.asking import ANSWER, WAYS, ask_engine, ask_session, fill

FAULTS = ("drop", "reset", "half_close")


@pytest.mark.parametrize("fault", FAULTS)
def test_connections_lost_while_idle_fail_nobody(victim, proxy, fault):
    """Whichever way idle connections end, every request after that succeeds, whatever way it takes."""
    engine = victim.create_engine(pool_size=4)
    fill(engine, 4)
    getattr(proxy, fault)()

    assert [ask(engine) for _ in range(2) for ask in WAYS.values()] == [42] * 6
    assert engine.pool.stats().used == 0


@pytest.mark.parametrize("fault", FAULTS)
def test_a_connection_lost_in_a_transaction_is_told(victim, proxy, fault):
    """The statement after the loss raises a recognised disconnection, and the next request works (D5)."""
    engine = victim.create_engine()
    with Session(engine) as session:
        assert session.execute(ANSWER).scalar_one() == 42
        getattr(proxy, fault)()
        with pytest.raises(exc.DBAPIError) as caught:
            session.execute(ANSWER)
        session.rollback()

    assert caught.value.connection_invalidated
    assert ask_session(engine) == 42


def test_a_reply_cut_in_the_middle_is_a_loss(victim, proxy):
    """Half a result raises a recognised disconnection; no row of it is taken for the whole."""
    engine = victim.create_engine()
    long = text("SELECT " + ", ".join(f"'{n:0500}'" for n in range(40)))
    with engine.connect() as connection:
        connection.execute(ANSWER)
        proxy.cut_replies(after=2000)
        with pytest.raises(exc.DBAPIError) as caught:
            connection.execute(long)

    assert caught.value.connection_invalidated
    assert ask_engine(engine) == 42


@pytest.mark.parametrize("way", [ask_engine, ask_session])
def test_a_loss_before_the_return_is_not_the_next_ones(victim, proxy, way):
    """A connection that dies before it is given back is replaced; whoever comes next hears nothing of it."""
    engine = victim.create_engine(pool_size=1, max_overflow=0)
    connection = engine.connect()
    assert connection.execute(ANSWER).scalar_one() == 42
    proxy.drop()
    with contextlib.suppress(exc.DBAPIError):  # of its rollback, as Core raises it
        connection.close()

    assert way(engine) == 42
    stats = engine.pool.stats()
    assert (stats.idle, stats.used) == (1, 0)


def test_a_server_that_refuses_for_a_moment_is_tried_again(victim, proxy):
    """Refused connections are retried while the caller may wait; the request succeeds once it can."""
    engine = victim.create_engine(pool_size=2)
    fill(engine, 2)
    proxy.refuse()
    proxy.reset()
    timer = threading.Timer(0.3, proxy.accept)
    timer.start()

    assert ask_session(engine) == 42
    timer.join()


def test_a_server_that_goes_on_refusing_is_named(victim, proxy):
    """With the time for connecting over, the error tells what the driver said; nothing stays taken."""
    engine = victim.create_engine(pool_timeout=0.5)
    fill(engine, 1)
    proxy.refuse()
    proxy.reset()
    with pytest.raises(exc.SQLAlchemyError):
        ask_session(engine)
    stats = engine.pool.stats()
    assert (stats.used, stats.connecting, stats.waiting) == (0, 0, 0)
    proxy.accept()

    assert ask_session(engine) == 42
