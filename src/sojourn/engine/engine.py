"""`Engine`: a Core engine to everybody else, and the short way to the driver for sessions.

`create_engine` lets Core do the creating (URL, plug-ins, dialect, listeners of the first connection), with a
pool class of ours, and then makes an `Engine` of the same parts. `metadata.create_all(engine)`, `inspect`,
Alembic and pandas see a Core engine; a session calls `acquire()` and speaks to the driver connection.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import sqlalchemy
from sqlalchemy import event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine import Engine as CoreEngine
from sqlalchemy.engine.base import OptionEngine as CoreOptionEngine
from sqlalchemy.exc import ArgumentError

from sojourn import corelink
from sojourn.corelink import LightConnection
from sojourn.engine.connection import Connection
from sojourn.engine.corelane import CoreLane
from sojourn.engine.drivers import (
    Driver,
    describe_unknown,
    find_driver,
    set_begin,
    set_foreign_keys,
)
from sojourn.engine.health import recognise_lost
from sojourn.engine.lending import LendingPool
from sojourn.engine.pools import OURS
from sojourn.plans import PlanCache

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.engine import Connection as CoreConnection

    from sojourn.flow import Acquire
    from sojourn.symbols import Traits

PLANS_KEPT = 500  # as many as Core keeps compiled statements
#: What a dialect outside the table writes binds in, so that arguments are tuples.
_POSITIONAL = {"named": "numeric", "pyformat": "format"}


def create_engine(
    url: str | URL, *, sqlite_foreign_keys: bool = False, retry: str | None = None, **options: Any
) -> Engine:
    """Create an engine; the arguments are those of `sqlalchemy.create_engine`, and those of our pools.

    *sqlite_foreign_keys* lets SQLite enforce foreign keys, which it does not by default. `retry="reads"` lets
    the first statement of a lease, if it reads, be sent again when its connection turns out to be lost.
    """
    if retry not in {None, "reads"}:
        msg = f"retry={retry!r} is not known: a write is never repeated. Use retry='reads', or None."
        raise ArgumentError(msg)
    if options.get("pool") is None:
        dialect: Any = make_url(url).get_dialect()
        wanted = options.get("poolclass") or dialect.get_pool_class(make_url(url))
        options["poolclass"] = OURS.get(wanted, wanted)
    execution_options = options.pop("execution_options", None)
    core = sqlalchemy.create_engine(url, **options)
    engine = Engine(
        core.pool,
        core.dialect,
        core.url,
        logging_name=core.logging_name,
        echo=core.echo,
        query_cache_size=int(options.get("query_cache_size", PLANS_KEPT)),
        execution_options=execution_options,
        hide_parameters=core.hide_parameters,
    )
    engine.retry = retry
    recognise_lost(engine.dialect)
    corelink.copy_events(core, engine)
    if engine.dialect.name == "sqlite":
        set_begin(engine.dialect)
        if sqlite_foreign_keys:
            event.listen(engine.pool, "connect", set_foreign_keys)
    return engine


def engine_from_config(
    configuration: Mapping[str, Any], prefix: str = "sqlalchemy.", **options: Any
) -> Engine:
    """Create an engine from the entries of *configuration* that start with *prefix*, usually texts."""
    found = {
        key.removeprefix(prefix): value for key, value in configuration.items() if key.startswith(prefix)
    }
    url = found.pop("url")
    return create_engine(url, **{"_coerce_config": True, **found, **options})


class Engine(CoreEngine):
    """Core's Engine, which also lends connections to sessions."""

    def __init__(
        self,
        pool: Any,
        dialect: Any,
        url: URL,
        *,
        query_cache_size: int = PLANS_KEPT,
        execution_options: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(
            pool,
            dialect,
            url,
            query_cache_size=query_cache_size,
            execution_options=execution_options,
            **options,
        )
        self._prepare(PlanCache(query_cache_size or PLANS_KEPT))

    retry: str | None = None  # "reads": repeat a first statement that reads, once, on another connection

    def _prepare(self, plan_cache: PlanCache) -> None:
        self.backend: Driver | None = find_driver(self.dialect)
        self.plan_cache = plan_cache

    # -- what plans are made for ------------------------------------------------------------

    @functools.cached_property
    def plan_dialect(self) -> Any:
        """The dialect plans are compiled with: binds are positional.

        What a server understands is known after the first connection only, so this makes one if need be.
        """
        dialect = self.dialect
        backend = self.backend
        if backend is None or backend.needs_server:
            self._connect_once()
        style = backend.paramstyle if backend is not None else _POSITIONAL.get(dialect.paramstyle)
        if style is None or style == dialect.paramstyle:
            return dialect
        return corelink.positional_twin(dialect, style)

    @functools.cached_property
    def traits(self) -> Traits:
        """What the unit of work must know of the database and its driver."""
        backend = self.backend
        if backend is None or backend.needs_server:
            self._connect_once()
        return describe_unknown(self.dialect) if backend is None else backend.describe(self.dialect)

    def _connect_once(self) -> None:
        if self.dialect.server_version_info is None:
            with self.connect():
                pass

    # -- sessions ---------------------------------------------------------------------------

    def acquire(self) -> Connection | CoreLane:
        """Lend a connection: on the fast lane if nobody watches and the driver is a tested one."""
        backend = self.backend
        if backend is None or corelink.is_watched(self):
            return CoreLane(self, self.connect())
        pool = self.pool
        proxy = None
        try:
            if isinstance(pool, LendingPool):
                record = pool.lease()
            else:  # a pool that is not ours lends through its proxy
                proxy = pool.connect()
                record = corelink.proxy_record(proxy)
        except self.dialect.loaded_dbapi.Error as error:
            corelink.raise_connect_error(self, error)
        if proxy is None:
            kept: Connection | None = record.lane
            if kept is not None and kept.engine is self and kept.dbapi is record.dbapi_connection:
                record.lane = None  # no cycle while lent: a dropped connection is noticed at once
                kept.lent = True
                return kept
        return Connection(self, pool, record, proxy, backend)

    def perform(self, request: Acquire) -> Connection | CoreLane:
        """Carry out the one request an engine knows: lend a connection, in a transaction."""
        lane = self.acquire()
        try:
            lane.begin()
        except BaseException:
            lane.abandon()
            raise
        return lane

    # -- Core's interface -------------------------------------------------------------------

    def connect(self) -> CoreConnection:
        """Lend a connection as Core's Connection."""
        try:
            proxy = self.pool.connect()
        except self.dialect.loaded_dbapi.Error as error:
            corelink.raise_connect_error(self, error)
        return LightConnection(self, proxy)

    def execution_options(self, **opt: Any) -> OptionEngine:
        """Return an engine on the same pool whose connections have these options."""
        return OptionEngine(self, opt)

    def dispose(self, close: bool = True) -> None:
        """Close the idle connections, the lent ones as they come back, and forget all plans.

        The pool stays, and so does its limit. With `close=False` (in a forked child) the old pool is dropped
        as it is, and a new one takes its place.
        """
        if close and isinstance(self.pool, LendingPool):
            self.pool.dispose()
            self.dispatch.engine_disposed(self)
        else:
            super().dispose(close)
        self.plan_cache.clear()


class OptionEngine(CoreOptionEngine, Engine):
    """An engine with execution options of its own, on the pool and the plans of another."""

    def __init__(self, proxied: Engine, execution_options: Any) -> None:
        super().__init__(proxied, execution_options)
        self.parent = proxied
        self.retry = proxied.retry
        self._prepare(proxied.plan_cache)

    @property
    def plan_dialect(self) -> Any:
        """The dialect plans are compiled with: the parent's."""
        return self.parent.plan_dialect

    @property
    def traits(self) -> Traits:
        """What the unit of work must know: the same as for the parent."""
        return self.parent.traits
