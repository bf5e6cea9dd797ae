"""Contracts of SQLAlchemy Core's private names, second half: engine, pool, drivers."""

from __future__ import annotations

import gc
import sqlite3
from types import SimpleNamespace

import pytest
import sqlalchemy
from sqlalchemy import Column, Integer, MetaData, String, Table, event, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.pool import AsyncAdaptedQueuePool

from sojourn import corelink

customer = Table("customer", MetaData(), Column("id", Integer, primary_key=True), Column("name", String))


# -- engine and pool --------------------------------------------------------------------------


@pytest.fixture
def engine(tmp_path):
    """A Core engine on an SQLite file, disposed at the end."""
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'core.sqlite'}")
    yield engine
    engine.dispose()
    gc.collect()


def test_is_watched_sees_listeners_and_echo(engine):
    """A quiet engine is not watched; one with a listener for statements is."""
    assert not corelink.is_watched(engine)

    event.listen(engine, "before_cursor_execute", lambda *args: None)

    assert corelink.is_watched(engine)


def test_a_removed_listener_leaves_the_engine_unwatched():
    """Core's flag on the class stays after event.remove; the empty lists are looked at."""

    def listen(*args):
        """Hear nothing."""

    event.listen(sqlalchemy.Engine, "before_cursor_execute", listen)
    engine = sqlalchemy.create_engine("sqlite://")
    assert corelink.is_watched(engine)
    event.remove(sqlalchemy.Engine, "before_cursor_execute", listen)

    assert not corelink.is_watched(engine)
    event.listen(engine, "do_connect", listen)  # a token for each new connection, for example
    assert not corelink.is_watched(engine)


def test_copy_events_gives_the_copy_all_listeners(engine):
    """A listener of the source hears the target's statements."""
    heard = []
    event.listen(engine, "before_cursor_execute", lambda *args: heard.append(args[2]))
    target = sqlalchemy.create_engine("sqlite://")
    corelink.copy_events(engine, target)
    with target.connect() as connection:
        connection.execute(text("SELECT 1"))

    assert heard == ["SELECT 1"]
    assert corelink.is_watched(target)


def test_pool_arguments_make_a_like_pool(engine):
    """The options of a pool are what its class accepts."""
    twin = type(engine.pool)(**corelink.pool_arguments(engine.pool))
    connection = twin.connect()
    connection.close()
    twin.dispose()

    assert corelink.pool_arguments(twin)["dialect"] is engine.dialect
    assert corelink.reset_style(twin) == "rollback"


def test_a_lent_connection_never_connects_again(engine):
    """Core's Connection over a proxy works, and ends with it."""
    connection = corelink.lent_connection(engine, engine.pool.connect())

    assert connection.execute(text("SELECT 1")).scalar() == 1

    connection.invalidate()

    assert connection.closed
    assert engine.pool.checkedout() == 0


def test_invalidate_pool_renews_older_connections(engine):
    """After it, a pooled connection is replaced at its next use."""
    proxy = engine.pool.connect()
    record, old = corelink.proxy_record(proxy), proxy.dbapi_connection
    proxy.close()
    corelink.invalidate_pool(engine.pool, record, OSError("gone"))
    again = engine.pool.connect()
    new = again.dbapi_connection
    again.close()

    assert new is not old


class Events(corelink.EventPool):
    """A pool that only has the parts that do not lend."""


def test_an_event_pool_creates_discards_and_undoes(engine):
    """Under public names: the creator, the listeners, the dialect's rollback and close, the options."""
    heard = []
    pool = Events(
        engine.pool._creator,
        dialect=engine.dialect,
        recycle=30,
        pre_ping=True,
        events=[
            (lambda *args: heard.append("first"), "first_connect"),
            (lambda *args: heard.append("connect"), "connect"),
        ],
    )
    record = SimpleNamespace(dbapi_connection=None)
    connection = pool.create(record)
    pool.create(SimpleNamespace(dbapi_connection=None)).close()
    connection.execute("BEGIN")
    pool.undo(connection, was_reset=True, debug=False)
    still = connection.in_transaction
    pool.undo(connection, was_reset=False, debug=False)

    assert issubclass(Events, corelink.EventPool)
    assert heard == ["first", "connect", "connect"]
    assert record.dbapi_connection is connection
    assert (still, connection.in_transaction) == (True, False)
    assert pool.own_rollback(connection) == connection.rollback
    assert pool.asks_server(connection)
    assert (pool.dialect, pool.style, pool.recycles_after, pool.checks) == (
        engine.dialect, "rollback", 30, True,
    )  # fmt: skip
    assert not pool.logs_leases()

    pool.discard(connection)
    with pytest.raises(sqlite3.ProgrammingError):
        connection.execute("SELECT 1")


def test_the_loggers_of_an_event_pool_are_where_cores_are():
    """`logging.getLogger("sqlalchemy.pool")` is what people configure."""
    assert Events(sqlite3.connect).logger.name == "sqlalchemy.pool.impl.Events"


@pytest.mark.parametrize("target", [Events, None], ids=["class", "pool"])
@pytest.mark.parametrize("name", ["checkout", "checkin", "reset"])
def test_a_lease_watch_sees_listeners_come_and_go(name, target):
    """Cheaply: the watch was made before, and keeps the empty lists."""
    pool = Events(sqlite3.connect)
    watch = corelink.LeaseWatch(pool)

    def look():
        return watch.sees_lease(), watch.sees_reset(), watch.sees_return(), watch.is_quiet()

    def listen(*args):
        """Hear nothing."""

    assert look() == (False, False, False, True)
    event.listen(target or pool, name, listen)
    assert look() == (name == "checkout", name == "reset", name == "checkin", name == "checkout")
    event.remove(target or pool, name, listen)


def test_a_lease_watch_sees_the_log():
    """A line per lease is wanted at level DEBUG."""
    watch = corelink.LeaseWatch(Events(sqlite3.connect, echo="debug"))

    assert (watch.sees_lease(), watch.sees_reset(), watch.is_quiet()) == (True, True, False)


def test_a_light_connection_is_cores_in_all_it_does(engine):
    """Transactions, savepoints, options, invalidation, listeners on class, engine and connection."""
    heard = []
    event.listen(engine, "engine_connect", lambda connection: heard.append("engine_connect"))
    connection = corelink.LightConnection(engine, engine.raw_connection())
    event.listen(connection, "before_cursor_execute", lambda *args: heard.append(args[2]))

    assert isinstance(connection, sqlalchemy.Connection)
    with connection.begin():
        nested = connection.begin_nested()
        connection.execute(text("SELECT 1"))
        nested.rollback()
    connection.execution_options(isolation_level="AUTOCOMMIT")
    connection.invalidate()
    assert connection.invalidated
    assert connection.execute(text("SELECT 2")).scalar() == 2
    sqlalchemy.inspect(connection).get_table_names()
    connection.close()

    assert [line for line in heard if "SAVEPOINT" not in line][:3] == [
        "engine_connect",
        "SELECT 1",
        "SELECT 2",
    ]
    assert connection.closed
    assert engine.pool.checkedout() == 0
    with pytest.raises(sqlalchemy.exc.ResourceClosedError):
        connection.execute(text("SELECT 1"))


def test_a_light_connection_logs_where_its_engine_does(caplog):
    """`echo=True` writes the statements."""
    engine = sqlalchemy.create_engine("sqlite://", echo=True)
    with corelink.LightConnection(engine, engine.raw_connection()) as connection:
        connection.execute(text("SELECT 1"))
    engine.dispose()

    assert "SELECT 1" in caplog.text


def test_wrap_error_is_cores_exception_of_that_meaning(engine):
    """A driver's error becomes Core's class with statement, parameters and the mark of a lost one."""
    error = corelink.wrap_error(
        engine, sqlite3.IntegrityError("twice"), "INSERT", (1,), disconnect=False, many=False
    )
    lost = corelink.wrap_error(engine, sqlite3.OperationalError("x"), None, None, disconnect=True, many=False)

    assert isinstance(error, sqlalchemy.exc.IntegrityError)
    assert (error.statement, error.params) == ("INSERT", (1,))
    assert not error.connection_invalidated
    assert lost.connection_invalidated


def test_raise_connect_error_is_cores_exception(engine):
    """A driver's error while connecting becomes Core's class."""

    def fail():
        try:
            raise sqlite3.OperationalError("cannot open")
        except sqlite3.OperationalError as error:
            corelink.raise_connect_error(engine, error)

    with pytest.raises(sqlalchemy.exc.OperationalError) as caught:
        fail()

    assert "cannot open" in str(caught.value)


def test_positional_twin_writes_another_style_and_leaves_the_original():
    """The twin compiles with its own marks; the original still with its own."""
    dialect = postgresql.dialect(paramstyle="pyformat")
    twin = corelink.positional_twin(dialect, "numeric_dollar")
    statement = select(customer).where(customer.c.id == 1)

    assert "$1" in str(statement.compile(dialect=twin))
    assert "%(id_1)s" in str(statement.compile(dialect=dialect))


# -- async engines ----------------------------------------------------------------------------


def test_an_async_core_engine_is_made_without_greenlet():
    """The engine has the async dialect and opens nothing by itself."""
    engine = corelink.create_async_core_engine("sqlite+aiosqlite://")

    assert engine.dialect.is_async
    assert engine.dialect.driver == "aiosqlite"


def test_on_connect_isolation_is_there_only_when_asked_for():
    """An engine told an isolation level has something to run on connect."""
    plain = corelink.create_async_core_engine("postgresql+asyncpg://h/d")
    told = corelink.create_async_core_engine("postgresql+asyncpg://h/d", isolation_level="SERIALIZABLE")

    assert corelink.on_connect_isolation(plain.dialect) is None
    assert callable(corelink.on_connect_isolation(told.dialect))


def test_listeners_for_new_connections_are_told():
    """`connect` hears each connection, and `first_connect` the first only."""
    heard = []
    other = corelink.create_async_core_engine("sqlite+aiosqlite://", poolclass=AsyncAdaptedQueuePool)

    assert not corelink.listens_to_connect(other.pool)

    event.listen(other.pool, "connect", lambda *args: heard.append("connect"))
    event.listen(other.pool, "first_connect", lambda *args: heard.append("first"))
    corelink.fire_connect(other.pool, object(), object())
    corelink.fire_connect(other.pool, object(), object())

    assert corelink.listens_to_connect(other.pool)
    assert heard == ["first", "connect", "connect"]


def test_async_driver_errors_become_db_api_ones():
    """An asyncpg error becomes the class of the dialect's DB-API that says the same."""
    asyncpg = pytest.importorskip("asyncpg")
    dialect = corelink.create_async_core_engine("postgresql+asyncpg://h/d").dialect
    error = corelink.async_driver_error(dialect, asyncpg.UniqueViolationError("twice"))

    assert isinstance(error, dialect.dbapi.IntegrityError)


def test_a_stale_statement_makes_asyncpg_forget_its_types():
    """An error about a cached statement moves the time from which types count."""
    pytest.importorskip("asyncpg")
    dialect = corelink.create_async_core_engine("postgresql+asyncpg://h/d").dialect
    before = corelink.schema_asof(dialect)
    corelink.note_error(dialect, ValueError("another thing"))

    assert corelink.schema_asof(dialect) == before

    corelink.note_error(dialect, dialect.dbapi.InvalidCachedStatementError("stale"))

    assert corelink.schema_asof(dialect) > before
    assert corelink.schema_asof(sqlite.dialect()) == 0


def test_network_addresses_may_be_asked_for_as_text():
    """The dialect knows whether it was asked, and has a coroutine that arranges it."""
    plain = corelink.create_async_core_engine("postgresql+asyncpg://h/d").dialect
    told = corelink.create_async_core_engine("postgresql+asyncpg://h/d", native_inet_types=False).dialect

    assert not corelink.text_inet(plain)
    assert corelink.text_inet(told)


async def test_inet_codecs_set_codecs_on_the_driver_connection():
    """Inet and cidr get codecs of their own on the driver connection that the bridge holds."""
    dialect = corelink.create_async_core_engine("postgresql+asyncpg://h/d", native_inet_types=False).dialect
    kinds = []

    async def set_type_codec(kind, **options):
        kinds.append(kind)

    driver = SimpleNamespace(set_type_codec=set_type_codec)
    await corelink.inet_codecs(dialect, SimpleNamespace(_connection=driver))

    assert sorted(kinds) == ["cidr", "inet"]


def test_psycopgs_question_about_types_can_be_answered_by_us():
    """The dialect asks our function, bound to nothing else, about a PostgreSQL type."""
    dialect = corelink.create_async_core_engine("postgresql+psycopg://h/d").dialect
    corelink.replace_type_fetch(dialect, lambda connection, name: (connection, name))

    assert dialect._type_info_fetch("c", "hstore") == ("c", "hstore")
