"""`AsyncLane`: performs requests over an async driver, no greenlet.

A lane is one lent connection. Three rules keep a cancelled task from doing harm: after anything but
an `Exception` the connection is thrown away at once, since nobody knows where the conversation with
the server stands; its place in the pool is free again in the same moment; a lane that was given back
or thrown away refuses everything.

Blocking code (Core's own way, listeners, `run_sync`) gets a Core `Connection` over the same driver
connection and in the same transaction; see bridge.py.
"""

from __future__ import annotations

import warnings
import weakref
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Protocol

from sqlalchemy.exc import DBAPIError, PendingRollbackError, SQLAlchemyError

from sojourn import corelink, errors
from sojourn.engine.async_events import AsyncProxy
from sojourn.engine.native_asyncpg import is_refusal
from sojourn.engine.natives import Native, Reply
from sojourn.engine.sending import bind_rows
from sojourn.engine.taint import changes_session, is_plain_read
from sojourn.flow import (
    Begin,
    Close,
    Commit,
    Core,
    Execute,
    ExecuteMany,
    Fetch,
    Finish,
    InsertEach,
    More,
    Open,
    Prepare,
    Release,
    Return,
    Rollback,
    RollbackTo,
    Rows,
    Savepoint,
)
from sojourn.pooling.places import describe

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sqlalchemy import Connection, Engine

    from sojourn.engine.async_events import AsyncRecord
    from sojourn.engine.async_handling import NativeHandling
    from sojourn.pooling.loop_pool import LoopPool

#: Options that make Core fetch bit by bit; a buffered result must not have them.
_STREAMING = ("stream_results", "yield_per", "max_row_buffer")
#: Requests that send something, and those of them that may be repeated if they are plain reads.
_STATEMENTS = frozenset((Fetch, Rows, Execute, ExecuteMany, InsertEach, Open, Savepoint))
_QUERIES = frozenset((Fetch, Rows))
#: How often a first statement may find that its connection was lost: a server that goes takes all along.
TRIES = 20


class LaneEngine(Protocol):
    """What a lane needs of its `AsyncEngine`."""

    @property
    def sync_engine(self) -> Engine: ...

    @property
    def dialect(self) -> Any: ...  # Any: dialects differ in what they offer

    @property
    def retry(self) -> str | None: ...

    async def lend(self, pool: LoopPool) -> AsyncRecord: ...


class AsyncLane:
    """One lent connection of an `AsyncEngine`; `perform` answers a request with an awaitable."""

    __slots__ = (
        "__weakref__", "_begun", "_core", "_first", "_native", "_pool", "_prepared", "_proxy", "_record",
        "_watched", "engine",
    )  # fmt: skip

    def __init__(self, engine: LaneEngine, pool: LoopPool, record: AsyncRecord) -> None:
        self.engine = engine
        self._begun = False
        self._prepared: str | None = None
        self._pool = pool
        self._core: Connection | None = None
        self._proxy: AsyncProxy | None = None
        self._watched = corelink.is_watched(engine.sync_engine)
        self._hold(record)

    def _hold(self, record: AsyncRecord) -> None:
        """Speak through the connection of *record* from now on."""
        native: Native = record.connection
        self._record = record
        self._native: Native | None = native
        self._first = native.fresh = True  # nothing was asked of it in this lease
        native.statement = None
        record.lane = native.holder = weakref.ref(self)

    tries = TRIES

    @property
    def native(self) -> Native:
        """The driver connection; raise PendingRollbackError once it was lost or given back."""
        native = self._native
        if native is None:
            msg = "This connection was lost or given back. Roll back, then go on: await session.rollback()."
            raise PendingRollbackError(msg)
        return native

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open, or starts with the next statement."""
        return self._native is not None and self._native.in_transaction

    @property
    def driver_connection(self) -> Any:
        """The driver's own connection; what it is used for is not seen, so it is cleaned afterwards."""
        native = self.native
        self._first = native.fresh = False
        native.tainted = True
        return native.raw

    @property
    def is_valid(self) -> bool:
        """Whether the lane still has its connection."""
        return self._native is not None

    # -- requests -----------------------------------------------------------------------------

    def perform(self, request: Any) -> Awaitable[Any]:
        """Carry out one request."""
        kind = request.__class__
        if self._first and kind in _STATEMENTS:
            return self._perform_first(request, kind)
        return self._performers[kind](self, request)

    async def _perform_first(self, request: Any, kind: type) -> Any:
        """Carry out the lease's first statement, on another connection if this one was lost meanwhile.

        Once something was sent it is sent again only if it is a plain read and the engine allows that.
        """
        self._first = False
        repeatable = self.native.fresh and not self._watched
        if repeatable:
            await self.settle()
        performer = self._performers[kind]
        for _ in range(TRIES if repeatable else 0):
            native = self.native
            try:
                return await performer(self, request)
            except DBAPIError as error:
                cause = error.__cause__ or error
                repeats = kind in _QUERIES and self.may_repeat(request.plan.text)
                if not (error.connection_invalidated and (repeats or native.unsent(cause))):
                    raise
                await self._go_on(native, error)
        return await performer(self, request)

    def may_repeat(self, text: str) -> bool:
        """Tell whether a first statement may be sent again although it was sent."""
        return self.engine.retry == "reads" and is_plain_read(text, self.engine.dialect.name)

    async def settle(self) -> None:
        """Take another connection if the server has closed this one, which nobody has used yet."""
        native, record = self.native, self._record
        native.fresh = False
        if native.poll is not None and native.poll(0) and not await self._handling.serves(record):
            await self.replace(None)

    async def replace(self, error: BaseException | None) -> None:
        """Take another connection instead of one that was lost before anything was sent."""
        native, record = self.native, self._record
        by, site = record.by, record.site  # this may run in a task of the bridge's
        self._native = None
        self._end_lease(record, "server", error)
        await self._go_on(native, error)
        self._record.by, self._record.site = by, site

    async def _go_on(self, lost: Native, error: BaseException | None) -> None:
        """Take another connection, also for Core's Connection if there is one over the *lost* one."""
        try:
            fresh = await self.engine.lend(self._pool)
        except Exception as failed:
            if error is None:
                raise
            raise error from failed
        native: Native = fresh.connection
        native.take_bridge(lost)
        self._hold(fresh)
        self._first = native.fresh = False
        if self._proxy is not None:
            self._proxy.serve(fresh)
        if self._begun:
            native.begin()

    def _note(self, plan: Any, native: Native) -> None:
        """Remember what is sent, and whether it may change the server session."""
        native.statement = plan.text
        if plan.taints is not False:
            if plan.taints is None:
                plan.taints = changes_session(plan.text, self.engine.dialect.name)
            if plan.taints:
                native.tainted = True

    async def _fetch(self, request: Fetch) -> list[Any]:
        plan = request.plan
        description, rows = await self._ask(plan, request.params, plan.loader is None)
        loader = plan.loader or plan.resolve(description)
        load = loader.scalars if request.scalars else loader.load
        loaded: list[Any] = load(rows, request.identity, request.flags)
        return loaded

    async def _rows(self, request: Rows) -> list[tuple[Any, ...]]:
        plan = request.plan
        describe = plan.row_processors is None and plan.compiled is not None
        description, rows = await self._ask(plan, request.params, describe)
        processed: list[tuple[Any, ...]] = plan.process_rows(rows, description)
        return processed

    async def _ask(self, plan: Any, params: tuple[Any, ...], describe: bool) -> tuple[Any, list[Any]]:
        """Return the driver's rows, with their description if asked for."""
        native = self._native or self.native
        text, args = plan.bind(params)
        self._note(plan, native)
        try:
            if self._watched:
                reply = await native.block(self._observe, text, args, False)
                return reply.description, list(reply.rows)
            if describe:
                return await native.described(text, args)
            return None, await native.rows(text, args)
        except Exception as error:  # noqa: BLE001 - raised again in Core's words
            self._fail(error, text, args)
        except BaseException as error:
            self.invalidate(error)
            raise

    async def _execute(self, request: Execute) -> int:
        native = self._native or self.native
        text, args = request.plan.bind(request.params)
        self._note(request.plan, native)
        try:
            if self._watched:
                return (await native.block(self._observe, text, args, False)).rowcount  # type: ignore[no-any-return]
            return await native.change(text, args)
        except Exception as error:  # noqa: BLE001 - raised again in Core's words
            self._fail(error, text, args)
        except BaseException as error:
            self.invalidate(error)
            raise

    async def _execute_many(self, request: ExecuteMany) -> int:
        text, rows = bind_rows(request)
        native = self._native or self.native
        self._note(request.plan, native)
        try:
            if self._watched:
                return (await native.block(self._observe, text, rows, True)).rowcount  # type: ignore[no-any-return]
            return await native.change_many(text, rows)
        except Exception as error:  # noqa: BLE001 - raised again in Core's words
            self._fail(error, text, rows, many=True)
        except BaseException as error:
            self.invalidate(error)
            raise

    async def _insert_each(self, request: InsertEach) -> list[int]:
        text, rows = bind_rows(request)
        native = self._native or self.native
        self._note(request.plan, native)
        try:
            if self._watched:
                return await native.block(  # type: ignore[no-any-return]
                    lambda: [self._observe(text, row, False).lastrowid for row in rows]
                )
            return await native.insert_each(text, rows)
        except Exception as error:  # noqa: BLE001 - raised again in Core's words
            self._fail(error, text, rows, many=True)
        except BaseException as error:
            self.invalidate(error)
            raise

    async def _guard(self, work: Awaitable[Any], text: str) -> Any:
        """Await a step of the driver; translate its errors, and drop the connection if it is cancelled."""
        try:
            return await work
        except Exception as error:  # noqa: BLE001 - raised again in Core's words
            self._fail(error, text, None)
        except BaseException as error:
            self.invalidate(error)
            raise

    async def _core_request(self, request: Core) -> Any:
        return await self.blocking(self._core_execute, request.statement, request.params, request.options)

    def _core_execute(self, statement: Any, params: Any, options: Any) -> Any:
        """Run a Core executable in a thread; all its rows are there when this returns."""
        return buffered(self.core_connection(), statement, params, options)

    # -- streams ------------------------------------------------------------------------------

    async def _open(self, request: Open) -> Any:
        plan = request.plan
        text, args = plan.bind(request.params)
        self._note(plan, self.native)
        handle, description = await self._guard(self.native.open(text, args, positional=True), text)
        if plan.loader is None:
            plan.resolve(description)
        return handle

    async def _more(self, request: More) -> Any:
        return await self._guard(self.native.more(request.handle, request.size), "FETCH")

    async def _close(self, request: Close) -> None:
        if self._native is not None:
            await self._guard(self._native.shut(request.handle), "CLOSE")

    # -- transactions -------------------------------------------------------------------------

    async def _begin(self, _request: Begin) -> None:
        await self.begin()

    async def begin(self) -> None:
        """Start a transaction; the server is told with the first statement."""
        self._begun = True
        if self._watched or self._core is not None:
            await self.blocking(self.core_connection)
        self.native.begin()

    async def _finish(self, _request: Finish) -> None:
        await self._commit(None)
        await self.release()

    async def _commit(self, _request: Commit | None) -> None:
        self._begun = False
        if self._prepared is not None:
            await self._finish_prepared("COMMIT")
        elif self._core is not None:
            await self.blocking(self._core.commit)
        elif (native := self.native).due:
            native.due = False
        else:
            await self._guard(native.commit(), "COMMIT")

    async def _rollback(self, _request: Rollback) -> None:
        if self._native is None:
            return  # nothing is left of the transaction
        self._begun = False
        if self._prepared is not None:
            await self._finish_prepared("ROLLBACK")
        elif self._core is not None:
            await self.blocking(self._core.rollback)
        elif (native := self.native).due:
            native.due = False
        else:
            await self._guard(native.rollback(), "ROLLBACK")

    async def _savepoint(self, request: Savepoint) -> None:
        await self._command(f"SAVEPOINT {request.name}")

    async def _release_savepoint(self, request: Release) -> None:
        await self._command(f"RELEASE SAVEPOINT {request.name}")

    async def _rollback_to(self, request: RollbackTo) -> None:
        if self._native is not None:
            await self._command(f"ROLLBACK TO SAVEPOINT {request.name}")

    async def _command(self, text: str) -> None:
        if self._watched:
            await self.blocking(self._observe, text, (), False)
        else:
            await self._guard(self.native.command(text), text)

    async def _prepare(self, request: Prepare) -> None:
        if self.engine.dialect.name != "postgresql":
            raise errors.SessionError(
                f"{self.engine!r} cannot prepare a transaction for two-phase commit.",
                "Use twophase=True with databases that have it: PostgreSQL.",
            )
        xid = request.name.replace("'", "''")
        await self._command(f"PREPARE TRANSACTION '{xid}'")
        self._prepared = xid

    async def _finish_prepared(self, verb: str) -> None:
        """End a prepared transaction, which no longer belongs to the connection; it stands outside of any."""
        xid, self._prepared = self._prepared, None
        native = self.native
        native.due = False
        await self._guard(native.outside(f"{verb} PREPARED '{xid}'"), verb)

    # -- the end ------------------------------------------------------------------------------

    async def _return(self, request: Return) -> None:
        if request.discard:
            self.invalidate(None)
        else:
            await self.release()

    async def release(self) -> None:
        """Give the connection back, clean: what was not committed is rolled back."""
        native = self._native
        if native is None:
            return
        record, pool, handling = self._record, self._pool, self._handling
        if not record.lent:
            await self._close_detached()
            return
        core = self._core
        try:
            reason = None
            native.due = False
            if core is not None and not (core.in_transaction() or self._watched):
                core.close()  # nothing is left to say, so no thread is needed to say it
                core = None
            if core is None and not (
                native.tainted or native.in_transaction or handling.events.watches_returns
            ):
                self.count_reset("skipped")
            else:
                reason = await handling.clean(record, None if core is None else core.close)
                if record.finalize_callback or handling.events.hear("checkin"):
                    await handling.check_in(record)
        except Exception as error:  # noqa: BLE001 - a connection that cannot be reset is of no use
            self.invalidate(error, reason="reset")
            return
        except BaseException as error:
            self.invalidate(error)
            raise
        self._native = self._core = self._proxy = None
        pool.release(record, reason)

    def invalidate(self, error: BaseException | None, *, reason: str = "broken") -> None:
        """Throw the connection away; never awaits. An in-memory database is rolled back and kept."""
        native, record = self._native, self._record
        if native is None:
            return
        self.lose()
        if not record.lent:  # detached
            native.terminate_now()
        elif native.keep:
            native.terminate()
            self._pool.release(record)
        else:
            self._end_lease(record, reason, error)

    def _end_lease(self, record: AsyncRecord, reason: str, error: BaseException | None = None) -> None:
        """Give a connection back to be thrown away, and tell the listeners."""
        handling = self._handling
        handling.tell_invalid(record, error)
        self._pool.release(record, reason)
        handling.tell_gone(record)

    @property
    def _handling(self) -> NativeHandling:
        return self._pool.handling  # type: ignore[return-value]

    def lose(self) -> None:
        """Refuse everything from now on."""
        self._native = self._core = self._proxy = None

    def abandon(self) -> None:
        """Throw the connection away from wherever and whenever: by the garbage collector, from any thread."""
        if self._native is not None:
            self.lose()
            self._pool.forget(self._record)

    def detach(self) -> None:
        """Let the pool forget the connection and open another in its place; `release` closes it for good."""
        record, events = self._record, self._handling.events
        self._pool.detach(record)
        if events.hear("detach"):
            events.tell_now("detach", record.dbapi_connection, record)

    async def _close_detached(self) -> None:
        record, handling = self._record, self._handling
        self.lose()
        if handling.events.hear("close_detached"):
            handling.events.tell_now("close_detached", record.dbapi_connection)
        await handling.say_goodbye(record)

    def count_reset(self, kind: str) -> None:
        """Count how a lease ended."""
        resets = self._pool.resets
        resets[kind] = resets.get(kind, 0) + 1

    def __del__(self) -> None:
        if self._native is not None:
            warnings.warn(
                f"a connection of {self.engine!r} acquired at {describe(self._record.site)} was dropped "
                "without being given back; use 'async with', or await close().",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )
            self.abandon()

    # -- blocking code ------------------------------------------------------------------------

    async def blocking(self, work: Callable[..., Any], *args: Any) -> Any:
        """Run blocking code in a thread; cancelling it costs the connection."""
        self._first = False
        try:
            return await self.native.block(work, *args)
        except Exception:
            raise
        except BaseException as error:
            self.invalidate(error)
            raise

    def core_connection(self) -> Connection:
        """Return Core's Connection over this one, in this one's transaction; call it in blocking code."""
        core = self._core
        if core is None:
            proxy = self._proxy = AsyncProxy(self.engine.sync_engine.pool, self.native.bridge, self._record)
            core = self._core = corelink.lent_connection(self.engine.sync_engine, proxy)
        if self._begun and not core.in_transaction():
            core.begin()
        return core

    def _observe(self, text: str, args: Any, many: bool) -> Reply:
        """Run a text of the fast lane through Core, so that listeners and the log see it."""
        core, bridge = self.core_connection(), self.native.bridge
        bridge.positional = True
        try:
            result = core.exec_driver_sql(text, (list(args) if many else args) or None)
            rows: list[Any] = []
            description = None
            if result.returns_rows:
                description = result.cursor.description
                rows = list(result.cursor.fetchall())
            lastrowid = getattr(result.context.cursor, "lastrowid", None)
            reply = Reply(description, rows, result.rowcount, lastrowid)
            result.close()
        finally:
            bridge.positional = False
        return reply

    def _fail(self, error: Exception, text: str | None, args: Any, *, many: bool = False) -> NoReturn:
        """Raise a driver's error as Core does; a dead connection is thrown away."""
        native, engine = self._native, self.engine.sync_engine
        if native is None or isinstance(error, SQLAlchemyError):
            raise error
        dialect: Any = engine.dialect
        known = corelink.async_driver_error(dialect, error)
        if not isinstance(known, dialect.dbapi.Error):
            raise error
        corelink.note_error(dialect, known)
        lost = dialect.is_disconnect(known, native.bridge, None) or is_refusal(error)
        if lost:
            self.invalidate(known)
        raise corelink.wrap_error(engine, known, text, args, disconnect=lost, many=many) from error

    def __repr__(self) -> str:
        if self._native is None:
            return f"<AsyncLane of {self.engine!r}: given back>"
        return f"<AsyncLane of {self.engine!r}: {'in a transaction' if self.in_transaction else 'idle'}>"

    _performers: ClassVar[dict[type, Callable[..., Awaitable[Any]]]] = {
        Fetch: _fetch,
        Rows: _rows,
        Execute: _execute,
        ExecuteMany: _execute_many,
        InsertEach: _insert_each,
        Open: _open,
        More: _more,
        Close: _close,
        Core: _core_request,
        Begin: _begin,
        Commit: _commit,
        Finish: _finish,
        Rollback: _rollback,
        Savepoint: _savepoint,
        Release: _release_savepoint,
        RollbackTo: _rollback_to,
        Prepare: _prepare,
        Return: _return,
    }


def buffered(core: Connection, statement: Any, params: Any, options: Any) -> Any:
    """Execute on a Core connection and return a result that needs no further I/O."""
    asked = (
        {**statement.get_execution_options(), **(options or {})}
        if hasattr(statement, "get_execution_options")
        else dict(options or {})
    )
    plain = {**(options or {}), **{name: None for name in _STREAMING if asked.get(name)}}
    return core.execute(statement, params, execution_options=plain)
