"""Open connections of async drivers and make them ready, as Core's engine would."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from typing import TYPE_CHECKING, Any, NoReturn

from sojourn import corelink
from sojourn.engine.async_events import AsyncProxy
from sojourn.engine.drivers import describe_psycopg, describe_sqlite
from sojourn.engine.native_aiosqlite import Aiosqlite
from sojourn.engine.native_asyncpg import Asyncpg
from sojourn.engine.native_psycopg import PsycopgAsync
from sojourn.plans import PlanCache

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sqlalchemy import Engine

    from sojourn.engine.async_events import AsyncRecord
    from sojourn.engine.natives import Native

NATIVES: dict[str, type[Native]] = {"aiosqlite": Aiosqlite, "asyncpg": Asyncpg, "psycopg": PsycopgAsync}


class Shared:
    """What an engine and its variants with other execution options have in common."""

    def __init__(
        self, sync_engine: Engine, opener: Callable[[], Awaitable[Native]], retry: str | None
    ) -> None:
        dialect: Any = sync_engine.dialect
        self.sync_engine = sync_engine
        self.opener = opener
        self.retry = retry
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

    async def connect(self, record: AsyncRecord) -> Native:
        """Open a connection for *record* and make it ready, as Core's engine would."""
        engine = self.sync_engine
        try:
            native = await self.opener()
        except Exception as error:  # noqa: BLE001 - raised again in Core's words
            _fail_to_connect(engine, error)
        record.connection = native
        try:
            await self._make_ready(native, record)
        except BaseException:
            native.terminate_now()
            raise
        return native

    async def _make_ready(self, native: Native, record: AsyncRecord) -> None:
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
            await native.block(self._greet, native, record, hook, isolate, usual)
            native.tainted = False  # what is set now is meant to stay
        else:
            native.autocommit = usual

    def _greet(self, native: Native, record: AsyncRecord, hook: Any, isolate: Any, usual: bool) -> None:
        """Run what Core and listeners do with a new connection; blocking code."""
        engine, bridge = self.sync_engine, native.bridge
        if hook:
            hook(bridge)
        if corelink.listens_to_connect(engine.pool):
            corelink.fire_connect(engine.pool, bridge, record)
        native.autocommit = usual
        if isolate:
            isolate(bridge, record)
        if not self.initialized:
            connection = corelink.lent_connection(engine, AsyncProxy(engine.pool, bridge, record))
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


def _fail_to_connect(engine: Engine, error: Exception) -> NoReturn:
    """Raise Core's exception for a connection that could not be opened."""
    try:
        raise corelink.async_driver_error(engine.dialect, error)  # noqa: TRY301
    except Exception as known:  # noqa: BLE001 - Core looks at the exception that is being handled
        corelink.raise_connect_error(engine, known)


async def open_native(
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
