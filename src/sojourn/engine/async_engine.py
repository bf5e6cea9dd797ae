"""`AsyncEngine`: a URL, a pool per event loop, and a plan cache, for async drivers and without greenlet."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NoReturn, Self

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import AsyncAdaptedQueuePool, NullPool, StaticPool

from sojourn import corelink, errors
from sojourn.engine.async_connection import AsyncLane, Record
from sojourn.engine.async_core import AsyncConnection
from sojourn.engine.drivers import describe_psycopg, describe_sqlite
from sojourn.engine.native_aiosqlite import Aiosqlite
from sojourn.engine.native_asyncpg import Asyncpg
from sojourn.engine.native_psycopg import PsycopgAsync
from sojourn.engine.natives import Native
from sojourn.plans import PlanCache
from sojourn.pool.async_pool import AsyncPool, Handling

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from sqlalchemy import URL, Engine

    from sojourn.symbols import Traits

NATIVES: dict[str, type[Native]] = {"aiosqlite": Aiosqlite, "asyncpg": Asyncpg, "psycopg": PsycopgAsync}


class AsyncEngine:
    """Lends connections of an async driver to sessions and to `connect()`.

    `sync_engine` is a Core engine with the same dialect: listeners and echo are set there, and statements
    are compiled with it. It cannot connect by itself.
    """

    def __init__(self, sync_engine: Engine, pool: AsyncPool[Native], shared: _Shared) -> None:
        self.sync_engine = sync_engine
        self.pool = pool
        self._shared = shared

    # -- what sessions use --------------------------------------------------------------------

    @property
    def dialect(self) -> Any:
        """The dialect of the database and its driver."""
        return self.sync_engine.dialect

    @property
    def plan_dialect(self) -> Any:
        """The dialect plans are compiled for: the same, with positional binds."""
        return self._shared.plan_dialect

    @property
    def plan_cache(self) -> PlanCache:
        """The plans compiled so far."""
        return self._shared.plan_cache

    @property
    def traits(self) -> Traits:
        """What the unit of work must know of the database."""
        return self._shared.traits

    async def acquire(self) -> AsyncLane:
        """Lend a connection; the session gives it back by the request Return."""
        pool = self.pool.here()
        entry = await pool.acquire()
        native = entry.connection
        asof = corelink.schema_asof(self.dialect)
        if asof > native.schema_asof:
            try:
                await native.follow_schema(asof)
            except BaseException:
                pool.release(entry, healthy=False)
                raise
        return AsyncLane(self, pool, entry)

    async def perform(self, _request: Any) -> AsyncLane:
        """Carry out the one request an engine knows: lend a connection, in a transaction."""
        lane = await self.acquire()
        try:
            await lane.begin()
        except BaseException:
            lane.abandon()
            raise
        return lane

    # -- what programs use --------------------------------------------------------------------

    def connect(self) -> AsyncConnection:
        """Return a connection; `async with`, or await it and close it."""
        return AsyncConnection(self)

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """Yield a connection in a transaction that is committed at the end, rolled back on errors."""
        async with self.connect() as connection, connection.begin():
            yield connection

    async def raw_connection(self) -> Any:
        """Return a lane: `native.raw` is the driver's own; give it back by `await lane.release()`."""
        return await self.acquire()

    async def dispose(self, close: bool = True) -> None:
        """Close the pooled connections of this event loop and forget the compiled plans."""
        if close:
            await self.pool.dispose()
        self.plan_cache.clear()
        self.sync_engine.dispose(close=close)

    def execution_options(self, **options: Any) -> AsyncEngine:
        """Return an engine with these options for every connection, over the same pool."""
        return AsyncEngine(self.sync_engine.execution_options(**options), self.pool, self._shared)

    def get_execution_options(self) -> Mapping[str, Any]:
        """Return the options set by `execution_options`."""
        return self.sync_engine.get_execution_options()

    def update_execution_options(self, **options: Any) -> None:
        """Set options on this engine itself."""
        self.sync_engine.update_execution_options(**options)

    def clear_compiled_cache(self) -> None:
        """Forget compiled statements, here and in Core."""
        self.plan_cache.clear()
        self.sync_engine.clear_compiled_cache()

    @property
    def engine(self) -> Self:
        """This engine."""
        return self

    @property
    def url(self) -> URL:
        """Where the database is."""
        return self.sync_engine.url

    @property
    def name(self) -> str:
        """The name of the dialect."""
        return self.sync_engine.name

    @property
    def driver(self) -> str:
        """The name of the driver."""
        return self.sync_engine.driver

    @property
    def echo(self) -> Any:
        """Whether statements are logged."""
        return self.sync_engine.echo

    @echo.setter
    def echo(self, value: Any) -> None:
        self.sync_engine.echo = value

    def __repr__(self) -> str:
        return f"AsyncEngine({self.url!r})"


class _Shared:
    """What an engine and its variants with other execution options have in common."""

    def __init__(self, sync_engine: Engine, opener: Callable[[], Awaitable[Native]]) -> None:
        dialect: Any = sync_engine.dialect
        self.sync_engine = sync_engine
        self.opener = opener
        self.plan_cache = PlanCache()
        self.plan_dialect = dialect
        self.initialized = False
        describe = describe_sqlite if dialect.name == "sqlite" else describe_psycopg
        self.traits = dataclasses.replace(
            describe(dialect), is_async=True, executemany_rowcount=dialect.driver != "asyncpg"
        )
        if dialect.driver == "psycopg":
            self.plan_dialect = corelink.positional_twin(dialect, "numeric_dollar")
            corelink.replace_type_fetch(dialect, _fetch_type)

    async def connect(self) -> Native:
        """Open a connection and make it ready, as Core's engine would."""
        engine = self.sync_engine
        try:
            native = await self.opener()
        except Exception as error:  # noqa: BLE001 - raised again in Core's words
            _fail_to_connect(engine, error)
        try:
            await self._make_ready(native)
        except BaseException:
            native.terminate_now()
            raise
        return native

    async def _make_ready(self, native: Native) -> None:
        dialect: Any = self.sync_engine.dialect
        native.schema_asof = time.time()
        usual, native.autocommit = native.autocommit, True  # a PRAGMA must stand outside a transaction
        if isinstance(native, Asyncpg):
            await dialect.setup_asyncpg_json_codec(native.bridge)
            await dialect.setup_asyncpg_jsonb_codec(native.bridge)
            if corelink.text_inet(dialect):
                await corelink.inet_codecs(dialect, native.bridge)
            hook = None
        else:
            hook = dialect.on_connect_url(self.sync_engine.url)
        isolate = corelink.on_connect_isolation(dialect)
        if hook or isolate or not self.initialized or corelink.listens_to_connect(self.sync_engine.pool):
            await native.block(self._greet, native, hook, isolate, usual)
        else:
            native.autocommit = usual

    def _greet(self, native: Native, hook: Any, isolate: Any, usual: bool) -> None:
        """Run what Core and listeners do with a new connection; blocking code."""
        engine, bridge, record = self.sync_engine, native.bridge, Record(None, native)
        if hook:
            hook(bridge)
        if corelink.listens_to_connect(engine.pool):
            corelink.fire_connect(engine.pool, bridge, record)
        native.autocommit = usual
        if isolate:
            isolate(bridge, record)
        if not self.initialized:
            connection = corelink.lent_connection(engine, corelink.LentProxy(engine.pool, record))
            dialect: Any = engine.dialect
            dialect.initialize(connection)
            bridge.rollback()
            self.initialized = True
            if self.plan_dialect is not dialect:
                corelink.replace_type_fetch(dialect, _fetch_type)
                twin = corelink.positional_twin(dialect, "numeric_dollar")
                self.plan_dialect.__dict__.update(twin.__dict__)


def _fetch_type(connection: Any, name: str) -> Any:
    """Ask PostgreSQL about a type, for Core's psycopg dialect; blocking code."""
    from psycopg.types import TypeInfo  # noqa: PLC0415 - only with this driver

    bridge = connection.connection.dbapi_connection
    return bridge.call(TypeInfo.fetch(bridge.driver_connection, name))


def create_async_engine(url: str | URL, **options: Any) -> AsyncEngine:
    """Make an engine for `sqlite+aiosqlite`, `postgresql+asyncpg` or `postgresql+psycopg`.

    Takes what `sqlalchemy.ext.asyncio.create_async_engine` takes, and `sqlite_foreign_keys=True` to let
    SQLite enforce foreign keys.
    """
    url = make_url(url)
    if options.get("server_side_cursors"):
        msg = "Leave server_side_cursors out: connection.stream() and session.stream() use them as needed."
        raise ArgumentError(msg)
    creator = options.pop("async_creator", None)
    foreign_keys = options.pop("sqlite_foreign_keys", False)
    pool_options, memory = _pool_options(url, options)
    ping = options.pop("pool_pre_ping", False)
    connect_args = dict(options.get("connect_args") or {})
    sync_engine = corelink.create_async_core_engine(
        url, poolclass=AsyncAdaptedQueuePool, creator=_refuse_to_connect, **options
    )
    dialect: Any = sync_engine.dialect
    native_class = NATIVES.get(dialect.driver)
    if native_class is None:
        raise errors.DriverMissing(
            f"{dialect.name}+{dialect.driver} is not an async driver that sojourn knows.",
            "Use sqlite+aiosqlite://, postgresql+asyncpg:// or postgresql+psycopg://.",
        )
    args, parameters = dialect.create_connect_args(url)
    parameters = {**parameters, **connect_args}

    async def open_native() -> Native:
        return await _open(native_class, dialect, creator, args, dict(parameters), foreign_keys, memory)

    shared = _Shared(sync_engine, open_native)
    handling: Handling[Native] = Handling(
        shared.connect, _close, Native.terminate_now, alive=_is_alive, ping=_ping if ping else None
    )
    return AsyncEngine(sync_engine, AsyncPool(handling, shared=memory, **pool_options), shared)


def _fail_to_connect(engine: Engine, error: Exception) -> NoReturn:
    """Raise Core's exception for a connection that could not be opened."""
    try:
        raise corelink.async_driver_error(engine.dialect, error)  # noqa: TRY301
    except Exception as known:  # noqa: BLE001 - Core looks at the exception that is being handled
        corelink.raise_connect_error(engine, known)


def _refuse_to_connect() -> Any:
    raise errors.BlockingCall


def _pool_options(url: URL, options: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """Take the pool's options out of *options*; tell also whether the one connection is the database."""
    names = {
        "pool_size": "size",
        "max_overflow": "overflow",
        "pool_timeout": "timeout",
        "pool_use_lifo": "lifo",
    }
    found = {ours: options.pop(theirs) for theirs, ours in names.items() if theirs in options}
    recycle = options.pop("pool_recycle", -1)
    if recycle is not None and recycle >= 0:
        found["max_age"] = recycle
    kind = options.pop("poolclass", None)
    if options.pop("pool", None) is not None:
        msg = "An async engine makes its own pool: give pool_size, max_overflow, pool_timeout instead."
        raise ArgumentError(msg)
    database = url.database or ""
    memory = url.get_backend_name() == "sqlite" and (
        database in ("", ":memory:") or url.query.get("mode") == "memory" or "mode=memory" in database
    )
    if "cache=shared" in database or url.query.get("cache") == "shared":
        memory = False
    if kind is not None and issubclass(kind, NullPool):
        found.update(size=0, reuse=False)
    elif memory or (kind is not None and issubclass(kind, StaticPool)):
        found.update(size=1, overflow=0)
    return found, memory


async def _open(
    kind: type[Native],
    dialect: Any,
    creator: Any,
    args: Any,
    parameters: dict[str, Any],
    foreign_keys: bool,
    memory: bool,
) -> Native:
    """Open a raw connection of the driver and wrap it."""
    if kind is Aiosqlite:
        return await _open_sqlite(dialect, creator, args, parameters, foreign_keys, memory)
    if kind is Asyncpg:
        import asyncpg  # noqa: PLC0415

        parameters.pop("prepared_statement_name_func", None)
        size = parameters.pop("prepared_statement_cache_size", None)
        if size is not None:
            parameters.setdefault("statement_cache_size", size)
        return Asyncpg(await (creator or asyncpg.connect)(*args, **parameters), dialect)
    import psycopg  # noqa: PLC0415

    return PsycopgAsync(await (creator or psycopg.AsyncConnection.connect)(*args, **parameters), dialect)


async def _open_sqlite(
    dialect: Any,
    creator: Any,
    args: Any,
    parameters: dict[str, Any],
    foreign_keys: bool,
    memory: bool,
) -> Native:
    import aiosqlite  # noqa: PLC0415 - an optional driver

    # A word as isolation level keeps its meaning, the kind of BEGIN; BEGIN itself is ours (C7).
    level = parameters.pop("isolation_level", "")
    if creator:
        raw = await creator(*args, **parameters)
    else:
        connecting: Any = aiosqlite.connect(*args, isolation_level=None, **parameters)
        thread: Any = getattr(connecting, "_thread", connecting)
        thread.daemon = True  # or a forgotten connection would keep the process from ending
        try:
            raw = await connecting
        except Exception:
            # The thread's last words go to the event loop, which may be closed soon.
            await asyncio.get_running_loop().run_in_executor(None, thread.join)
            raise
    native = Aiosqlite(raw, dialect, f"BEGIN {level}" if level else "BEGIN", keep=memory)
    native.autocommit = level is None
    try:
        if creator:
            await native.block(setattr, native.db, "isolation_level", None)
        if foreign_keys:
            await native.rows("PRAGMA foreign_keys=ON", ())
    except BaseException:
        native.terminate_now()
        raise
    return native


def _is_alive(native: Native) -> bool:
    return not native.closed


async def _close(native: Native) -> None:
    await native.close()


async def _ping(native: Native) -> bool:
    try:
        await native.ping()
    except asyncio.CancelledError:
        raise
    except Exception:  # noqa: BLE001 - whatever it says, it is no sign of life
        return False
    return True
