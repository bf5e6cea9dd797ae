"""The server is restarted, while the program is idle and while sixteen threads work."""

from __future__ import annotations

import time

import pytest

from sojourn.orm import Session
from tests.faults.asking import ANSWER, QUESTION, WAYS, ask_engine, causes, fill
from tests.faults.load import Load
from tests.serverside import sessions

THREADS = 16


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [False, True], ids=["fast", "crash"])
def test_a_restart_while_idle_is_not_noticed(victim, at_once):
    """After a restart, or a crash, every request of an idle program succeeds, whatever way it takes (D5)."""
    engine = victim.create_engine(pool_size=5)
    before = fill(engine, 5)
    victim.server.restart(at_once=at_once)

    assert [ask(engine) for _ in range(5) for ask in WAYS.values()] == [42] * 15
    assert not sessions(victim) & before or victim.dialect == "mysql"  # MariaDB counts from one again


@pytest.mark.slow
def test_a_restart_under_load_costs_at_most_the_statements_in_flight(victim):
    """Of sixteen threads each fails at most once, with a statement sent before the server was down."""
    engine = victim.create_engine(pool_size=5, max_overflow=10)

    def request(sent):
        with engine.connect() as connection:
            sent()
            assert connection.execute(ANSWER).scalar_one() == 42

    outcomes = restart_under_load(victim, request)

    assert len(outcomes.failed) <= THREADS, outcomes.describe()
    assert all(each.sent <= outcomes.down for each in outcomes.failed), outcomes.describe()


@pytest.mark.slow
def test_a_restart_under_load_costs_nothing_where_reads_are_repeated(victim):
    """With `retry="reads"` a read that was in flight is sent again, and no request fails."""
    engine = victim.create_engine(pool_size=5, max_overflow=10, retry="reads")

    def request(sent):
        with Session(engine) as session:
            sent()
            assert session.scalar(QUESTION) == 42

    outcomes = restart_under_load(victim, request)

    assert not outcomes.failed, outcomes.describe()


def restart_under_load(victim, request):
    """Restart the server under sixteen threads; check that all work again soon; return the outcomes."""
    with Load(request, THREADS) as load:
        start = time.monotonic()
        load.wait_for(THREADS * 20)
        rate = THREADS * 20 / (time.monotonic() - start)
        victim.server.halt()
        load.down = time.monotonic()
        victim.server.start()
        up = time.monotonic()
        load.wait_for(THREADS * 20)
        # Whoever waited for the server has tried again within the longest pause between two tries.
        assert time.monotonic() - up < 2 + 3 * THREADS * 20 / rate
    assert load.succeeded(up)
    return load


@pytest.mark.slow
def test_a_server_that_stays_away_is_named_in_the_error(victim):
    """Where the server does not come back, requests end within their limits with the driver's error."""
    engine = victim.create_engine(pool_size=2, pool_timeout=1.0)
    fill(engine, 2)
    victim.server.halt()
    try:
        start = time.monotonic()
        with pytest.raises(Exception) as caught:
            ask_engine(engine)
        took = time.monotonic() - start
    finally:
        victim.server.start()

    assert took < 3
    assert any(isinstance(each, engine.dialect.loaded_dbapi.Error) for each in causes(caught.value))
    assert ask_engine(engine) == 42
