"""Pool events: the same ones, in the same order and with the same arguments as from SQLAlchemy's pools.

Each scenario runs on SQLAlchemy's class and on ours of that name, with a driver that does nothing.
"""

from __future__ import annotations

import gc

import pytest
import sqlalchemy as sa
import sqlalchemy.pool
from sqlalchemy import event, exc

import sojourn.pool
from sojourn import create_engine

EVENTS = (
    "first_connect", "connect", "checkout", "reset", "checkin", "invalidate", "soft_invalidate", "close",
    "detach", "close_detached",
)  # fmt: skip


class Driver:
    """A connection that can be rolled back, committed and closed, and numbers itself."""

    count = 0

    def __init__(self):
        type(self).count += 1
        self.number = self.count

    def cursor(self):
        return object()

    def rollback(self):
        """Do nothing."""

    commit = close = rollback


def listen_to_all(pool):
    """Return the list that every event of *pool* is written to: name and arguments, made comparable."""
    heard = []

    def plain(value):
        if isinstance(value, Driver):
            return f"connection {value.number}"
        if isinstance(value, sqlalchemy.pool.ConnectionPoolEntry):
            return "record"
        if isinstance(value, sqlalchemy.pool.PoolProxiedConnection):
            return "proxy"
        return repr(value)

    for name in EVENTS:
        event.listen(
            pool, name, lambda *args, name=name: heard.append((name, *[plain(value) for value in args]))
        )
    return heard


def use(pool):
    pool.connect().close()
    pool.connect().close()


def use_two(pool):
    first, second = pool.connect(), pool.connect()
    second.close()
    first.close()


def invalidate(pool):
    connection = pool.connect()
    connection.invalidate(ValueError("why"))
    connection.close()
    pool.connect().close()


def invalidate_softly(pool):
    connection = pool.connect()
    connection.invalidate(soft=True)
    connection.close()


def detach(pool):
    connection = pool.connect()
    connection.detach()
    connection.close()
    pool.connect().close()


def dispose(pool):
    use(pool)
    pool.dispose()


def drop(pool):
    pool.connect()
    gc.collect()


def reset_by_core(pool):
    pool.connect()._close_special(transaction_reset=True)


def fail_to_reset(pool):
    connection = pool.connect()

    def fail():
        raise OSError("gone")

    connection.dbapi_connection.rollback = fail
    connection.close()


def call_dead(pool):
    """Let a listener find the connection dead."""
    pool.connect().close()
    dead = []

    def check(connection, record, proxy):
        if not dead:
            dead.append(connection)
            raise exc.DisconnectionError

    event.listen(pool, "checkout", check)
    pool.connect().close()


SCENARIOS = [
    use, use_two, invalidate, invalidate_softly, detach, dispose, drop, reset_by_core, fail_to_reset,
    call_dead,
]  # fmt: skip
CLASSES = ["QueuePool", "NullPool", "StaticPool", "SingletonThreadPool", "AssertionPool"]


def run(module, name, scenario):
    Driver.count = 0
    pool = getattr(module, name)(creator=Driver)
    heard = listen_to_all(pool)
    try:
        scenario(pool)
    except AssertionError as error:
        heard.append(type(error).__name__)
    pool.dispose()
    return heard


#: What differs on purpose: of those who share a connection, the last one gives it back.
SHARED = {("StaticPool", "use_two")}


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
@pytest.mark.filterwarnings("ignore:A connection acquired at:ResourceWarning")
def test_listeners_hear_what_they_hear_of_sqlalchemy(name, scenario, caplog):
    """Every event, in order, with its arguments."""
    if (name, scenario.__name__) in SHARED:
        pytest.skip("not applicable: sharing a connection is not copied; see the next test")
    theirs = run(sqlalchemy.pool, name, scenario)

    assert run(sojourn.pool, name, scenario) == theirs


def test_of_those_who_share_a_connection_the_last_gives_it_back():
    """Nobody's work is rolled back by somebody else's close."""
    heard = run(sojourn.pool, "StaticPool", use_two)

    assert [name for name, *_ in heard] == [
        "first_connect", "connect", "checkout", "checkout", "reset", "checkin", "close"
    ]  # fmt: skip


@pytest.mark.parametrize("name", CLASSES)
def test_a_session_s_lease_is_heard_like_any_other(name):
    """The short way fires checkout, reset and checkin with a connection, a record and a proxy."""
    Driver.count = 0
    pool = getattr(sojourn.pool, name)(creator=Driver)
    heard = listen_to_all(pool)
    record = pool.lease()
    pool.end_lease(record, dirty=True)
    record = pool.lease()
    pool.end_lease(record)
    states = [args[-1] for args in heard if args[0] == "reset"]

    assert [name for name, *_ in heard if name in {"checkout", "reset", "checkin"}] == [
        "checkout", "reset", "checkin", "checkout", "reset", "checkin"
    ]  # fmt: skip
    assert heard[2] == ("checkout", "connection 1", "record", "proxy")
    assert "transaction_was_reset=False" in states[0]
    assert "transaction_was_reset=True" in states[1]


def test_a_listener_on_sqlalchemy_s_class_hears_of_ours():
    """Instrumentation listens on `sqlalchemy.pool.Pool`."""
    heard = []

    def hear(*args):
        heard.append(args)

    event.listen(sqlalchemy.pool.Pool, "checkout", hear)
    try:
        sojourn.pool.QueuePool(creator=Driver).connect().close()
    finally:
        event.remove(sqlalchemy.pool.Pool, "checkout", hear)

    assert len(heard) == 1


@pytest.mark.parametrize("name", ["checkout", "checkin", "reset"])
def test_a_listener_keeps_sessions_on_the_short_way(sqlite_db, name):
    """What listens is told; the lane stays the fast one."""
    engine = sqlite_db.create_engine()
    heard = []
    event.listen(engine, name, lambda *args: heard.append(name))
    lane = engine.acquire()
    lane.release()

    assert type(lane).__name__ == "Connection"
    assert heard == [name]


def test_events_given_at_creation_are_heard():
    """`pool_events` is Core's option."""
    opened = []
    engine = create_engine("sqlite://", pool_events=[(lambda *args: opened.append(1), "connect")])
    engine.connect().close()
    engine.dispose()

    assert opened == [1]


def test_a_failing_connect_listener_leaves_nothing_behind():
    """The connection is closed, the place is free, and the next one may succeed."""
    pool = sojourn.pool.QueuePool(creator=Driver, pool_size=1, max_overflow=0)
    closed = []
    trouble = [ValueError("no")]

    def fail(connection, record):
        connection.close = lambda: closed.append(connection.number)
        if trouble:
            raise trouble.pop()

    event.listen(pool, "connect", fail)
    with pytest.raises(ValueError, match="no"):
        pool.connect()

    assert len(closed) == 1
    assert pool.checkedout() == 0
    pool.connect().close()
    assert pool.checkedin() == 1


# -- the log ----------------------------------------------------------------------------------


def test_the_log_is_silent_unless_asked(sqlite_db, caplog):
    """K5: no line for opening, lending, giving back or closing."""
    engine = sqlite_db.create_engine()
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT 1"))
    engine.acquire().release()
    engine.dispose()

    assert not caplog.records


def test_the_log_tells_of_every_step_when_asked_and_never_a_password(db, caplog):
    """K5: `echo_pool="debug"`."""
    engine = db.create_engine(echo_pool="debug")
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT 1"))
    engine.acquire().release()
    engine.dispose()
    lines = [record.getMessage() for record in caplog.records if "pool" in record.name]
    text = "\n".join(lines)

    for word in ("Opened connection", "lent", "comes back", "Closing connection"):
        assert word in text
    password = engine.url.password
    assert not password or f":{password}@" not in text
