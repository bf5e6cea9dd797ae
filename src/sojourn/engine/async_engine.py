"""`AsyncEngine`: a URL, a pool per event loop, and a plan cache, for async drivers and without greenlet."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import NullPool, StaticPool
from sqlalchemy.util import asbool

from sojourn import corelink, errors
from sojourn.engine.async_connection import AsyncLane
from sojourn.engine.async_core import AsyncConnection
from sojourn.engine.async_events import ListenedPool, Listeners
from sojourn.engine.async_handling import NativeHandling
from sojourn.engine.async_opening import NATIVES, Shared, open_native
from sojourn.engine.health import recognise_lost
from sojourn.pooling.async_pool import AsyncPool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from sqlalchemy import URL, Engine

    from sojourn.engine.async_events import AsyncRecord
    from sojourn.engine.natives import Native
    from sojourn.plans import PlanCache
    from sojourn.pooling.loop_pool import LoopPool
    from sojourn.pooling.scaling import Autoscaler
    from sojourn.symbols import Traits


class AsyncEngine:
    """Lends connections of an async driver to sessions and to `connect()`.

    `sync_engine` is a Core engine with the same dialect: listeners and echo are set there, and statements
    are compiled with it. It cannot connect by itself.
    """

    def __init__(self, sync_engine: Engine, pool: AsyncPool, shared: Shared) -> None:
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

    @property
    def retry(self) -> str | None:
        """What may be sent again when its connection is lost: "reads", or nothing."""
        return self._shared.retry

    async def acquire(self) -> AsyncLane:
        """Lend a connection; the session gives it back by the request Return."""
        pool = self.pool.here()
        return AsyncLane(self, pool, await self.lend(pool))

    async def lend(self, pool: LoopPool) -> AsyncRecord:
        """Lend a record: acquired, shown to listeners, and up to date with changed types."""
        record: Any = await pool.acquire()
        handling: Any = pool.handling
        if handling.events.watches_leases:
            record = await handling.check_out(pool, record)
        asof = corelink.schema_asof(self.dialect)
        if asof > record.connection.schema_asof:
            try:
                await record.connection.follow_schema(asof)
            except BaseException:
                pool.release(record, "broken")
                raise
        return record  # type: ignore[no-any-return]

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
        """Return a lane: `driver_connection` is the driver's own; give it back by `await lane.release()`."""
        return await self.acquire()

    async def dispose(self, close: bool = True) -> None:
        """Close the pooled connections of this event loop and forget the compiled plans."""
        if close:
            await self.pool.dispose()
        self.plan_cache.clear()
        self.sync_engine.dispose(close=close)

    def autoscale(self, min: int, max: int, **options: Any) -> Autoscaler:  # noqa: A002 - the pair reads well
        """Let the pool's size follow the load, between *min* and *max*; options: see `Autoscaler`."""
        return self.pool.autoscale(min, max, **options)

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


def create_async_engine(url: str | URL, **options: Any) -> AsyncEngine:
    """Make an engine for `sqlite+aiosqlite`, `postgresql+asyncpg` or `postgresql+psycopg`.

    Takes what `sqlalchemy.ext.asyncio.create_async_engine` takes, and `sqlite_foreign_keys=True` to let
    SQLite enforce foreign keys; of the pool also *pool_idle*, *max_idle*, *min_idle*, *connect_retry*,
    *ping_after*, *leak_after*, *reclaim_after*, *self_wait*, *max_waiting* (see `AsyncPool`).
    `retry="reads"` lets a query that is the first of its lease be sent again if its connection was lost.
    """
    url = make_url(url)
    if options.get("server_side_cursors"):
        msg = "Leave server_side_cursors out: connection.stream() and session.stream() use them as needed."
        raise ArgumentError(msg)
    creator = options.pop("async_creator", None)
    foreign_keys = options.pop("sqlite_foreign_keys", False)
    retry = options.pop("retry", None)
    if retry not in (None, "reads"):
        msg = f'retry={retry!r} is not known. Use retry="reads": a write is never sent twice.'
        raise ArgumentError(msg)
    memory = _is_memory(url)
    pool_options = _pool_options(options, memory)
    connect_args = dict(options.get("connect_args") or {})
    sync_engine = corelink.create_async_core_engine(
        url, poolclass=ListenedPool, creator=_refuse_to_connect, **options
    )
    dialect: Any = sync_engine.dialect
    native_class = NATIVES.get(dialect.driver)
    if native_class is None:
        raise errors.DriverMissing(
            f"{dialect.name}+{dialect.driver} is not an async driver that sojourn knows.",
            "Use sqlite+aiosqlite://, postgresql+asyncpg:// or postgresql+psycopg://.",
        )
    recognise_lost(dialect)
    args, parameters = dialect.create_connect_args(url)
    parameters = {**parameters, **connect_args}

    async def opener() -> Native:
        return await open_native(native_class, dialect, creator, args, dict(parameters), foreign_keys, memory)

    shared = Shared(sync_engine, opener, retry)
    handling = NativeHandling(shared.connect, Listeners(sync_engine.pool), resets=creator is None)
    pool = AsyncPool(handling, shared=memory, name=sync_engine.pool.logging_name or "", **pool_options)
    sync_engine.pool.lending = pool
    return AsyncEngine(sync_engine, pool, shared)


def _refuse_to_connect() -> Any:
    raise errors.BlockingCall


#: What create_async_engine() takes -> what `AsyncPool` calls it, and what it is made of a text.
POOL_OPTIONS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "pool_size": ("size", int),
    "max_overflow": ("overflow", int),
    "pool_timeout": ("timeout", float),
    "pool_use_lifo": ("lifo", asbool),
    "pool_idle": ("idle_limit", float),
    "max_idle": ("max_idle", float),
    "min_idle": ("min_idle", int),
    "connect_retry": ("connect_retry", float),
    "ping_after": ("ping_after", float),
    "leak_after": ("leak_after", float),
    "reclaim_after": ("reclaim_after", float),
    "self_wait": ("self_wait", str),
    "max_waiting": ("max_waiting", int),
}


def _pool_options(options: dict[str, Any], memory: bool) -> dict[str, Any]:
    """Take the pool's options out of *options*, under the names that the pool has for them."""
    found = {}
    for theirs in POOL_OPTIONS.keys() & options.keys():
        ours, make = POOL_OPTIONS[theirs]
        value = options.pop(theirs)
        found[ours] = None if value is None else make(value)
    recycle = options.pop("pool_recycle", -1)
    if recycle is not None and int(recycle) >= 0:
        found["max_age"] = float(recycle)
    if options.pop("pool_pre_ping", False) == "always":
        found["ping_after"] = 0.0
    if options.pop("pool", None) is not None:
        msg = "An async engine makes its own pool: give pool_size, max_overflow, pool_timeout instead."
        raise ArgumentError(msg)
    kind = options.pop("poolclass", None)
    if kind is not None and issubclass(kind, NullPool):
        found.update(size=0, reuse=False)
    elif memory or (kind is not None and issubclass(kind, StaticPool)):
        found.update(size=1, overflow=0)
    return found


def _is_memory(url: URL) -> bool:
    """Tell whether the one connection is the database."""
    database = url.database or ""
    if url.get_backend_name() != "sqlite" or "cache=shared" in database or url.query.get("cache") == "shared":
        return False
    return database in ("", ":memory:") or url.query.get("mode") == "memory" or "mode=memory" in database
