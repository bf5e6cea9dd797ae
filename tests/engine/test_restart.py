"""A server that restarts: every driver recognises it, an idle application does not notice; D1, D5."""

from __future__ import annotations

import signal

import pytest
import sqlalchemy as sa
from sqlalchemy import exc

from sojourn import create_engine
from sojourn.flow import Commit, Return, Rollback
from tests.databases import server_only
from tests.engine.helpers import NAMES, begin, fetch, make_table, names_in, run
from tests.servers import STOP_SECONDS, ServerMissing

pytestmark = pytest.mark.slow


@pytest.fixture
def own(db):
    """A server of this test's own, and an engine on it."""
    try:
        server = db.driver.server()
    except ServerMissing as missing:
        pytest.skip(str(missing))
    database = "postgres" if db.dialect == "postgresql" else "mysql"
    url = sa.make_url(db.url).set(port=server.port, database=database)
    engine = create_engine(url)
    yield server, engine
    engine.dispose()
    server.stop()


def restart(server, how):
    """Stop the server, not its data, and start it again on its port."""
    server.process.send_signal(how)
    server.process.wait(STOP_SECONDS)
    server.start()


@server_only
@pytest.mark.parametrize("how", ["orderly", "crash"])
def test_d1_a_restart_while_idle_fails_no_request(own, how):
    """D1: the sockets say that their server is gone, before anything is sent on them."""
    server, engine = own
    make_table(engine)
    if engine.dialect.name == "postgresql":  # these servers write lazily, and would forget the table
        with engine.connect() as connection:
            connection.exec_driver_sql("CHECKPOINT")
    lanes = [begin(engine) for _ in range(3)]
    for lane in lanes:
        fetch(lane, sa.text("SELECT 1"))
    for lane in lanes:
        lane.perform(Return(lane))
    restart(server, server.stop_signal if how == "orderly" else signal.SIGQUIT)

    for _ in range(4):
        assert names_in(engine) == NAMES
        lane = begin(engine)
        assert fetch(lane, sa.text("SELECT name FROM thing ORDER BY id"), scalars=True) == NAMES
        lane.perform(Commit(lane))
        lane.perform(Return(lane))


@server_only
def test_d5_a_restart_in_the_middle_is_recognised_once_for_all(own):
    """D5: a transaction is lost, and says so; after it everything is as before."""
    server, engine = own
    table = make_table(engine)
    lane = begin(engine)
    other = begin(engine)
    run(lane, sa.update(table).values(name="lost"))
    fetch(other, sa.text("SELECT 1"))
    other.perform(Return(other))
    restart(server, server.stop_signal)

    with pytest.raises(exc.DBAPIError) as caught:
        fetch(lane, sa.select(table.c.id))
    assert caught.value.connection_invalidated
    assert engine.pool.checkedin() == 0
    lane.perform(Rollback(lane))
    lane.perform(Return(lane))
    assert names_in(engine) == NAMES
    assert engine.pool.checkedout() == 0
