"""`AsyncLane`: performs requests over an async driver, no greenlet.

A lane is one lent connection. Three rules keep a cancelled task from doing harm: after anything but
an `Exception` the connection is thrown away at once, since nobody knows where the conversation with
the server stands; its place in the pool is free again in the same moment; a lane that was given back
or thrown away refuses everything.

Blocking code (Core's own way, listeners, `run_sync`) gets a Core `Connection` over the same driver
connection and in the same transaction; see bridge.py.
"""

from __future__ import annotations

import time
import warnings
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Protocol

from sqlalchemy.exc import PendingRollbackError, SQLAlchemyError

from sojourn import corelink, errors
from sojourn.engine.connection import bind_rows
from sojourn.engine.natives import Native, Reply
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

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sqlalchemy import Connection, Engine

    from sojourn.pool.async_pool import LoopPool
    from sojourn.pool.core import Entry

#: Options that make Core fetch bit by bit; a buffered result must not have them.
_STREAMING = ("stream_results", "yield_per", "max_row_buffer")


class LaneEngine(Protocol):
    """What a lane needs of its `AsyncEngine`."""

    @property
    def sync_engine(self) -> Engine: ...

    @property
    def dialect(self) -> Any: ...  # Any: dialects differ in what they offer


class Record:
    """What Core wants to know of the pool's side of a connection."""

    def __init__(self, lane: AsyncLane | None, native: Native) -> None:
        # No circle: a lane that is dropped ends at once, not when the collector comes.
        self._lane = None if lane is None else weakref.ref(lane)
        self.dbapi_connection = native.bridge
        self.driver_connection = native.raw
        self.info: dict[Any, Any] = {}
        self.record_info: dict[Any, Any] = {}
        self.finalize_callback: deque[Callable[[Any], Any]] = deque()
        self.starttime = time.time()

    def invalidate(self, e: BaseException | None = None, soft: bool = False) -> None:
        """Throw the connection away."""
        lane = None if self._lane is None else self._lane()
        if lane is not None and not soft:
            lane.invalidate(e)


class AsyncLane:
    """One lent connection of an `AsyncEngine`; `perform` answers a request with an awaitable."""

    __slots__ = (
        "__weakref__", "_begun", "_core", "_entry", "_native", "_pool", "_prepared", "_record", "_watched",
        "engine",
    )  # fmt: skip

    def __init__(self, engine: LaneEngine, pool: LoopPool[Native], entry: Entry[Native]) -> None:
        self.engine = engine  # Any: the AsyncEngine, which imports this file
        self._begun = False
        self._prepared: str | None = None
        self._pool = pool
        self._entry = entry
        self._native: Native | None = entry.connection
        self._core: Connection | None = None
        self._record: Record | None = None
        self._watched = corelink.is_watched(engine.sync_engine)

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
        """The driver's own connection."""
        return self.native.raw

    @property
    def is_valid(self) -> bool:
        """Whether the lane still has its connection."""
        return self._native is not None

    # -- requests -----------------------------------------------------------------------------

    def perform(self, request: Any) -> Awaitable[Any]:
        """Carry out one request."""
        return self._performers[request.__class__](self, request)

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
        try:
            if self._core is not None:
                await native.block(self._leave)
            elif native.in_transaction:
                await native.rollback()
        except Exception:  # noqa: BLE001 - a connection that cannot be reset is of no use
            self.invalidate(None)
            return
        except BaseException as error:
            self.invalidate(error)
            raise
        self._native = self._core = self._record = None
        self._pool.release(self._entry)

    def _leave(self) -> None:
        core, record = self._core, self._record
        if core is not None:
            core.close()
        if record is not None and self._native is not None:
            while record.finalize_callback:
                record.finalize_callback.popleft()(self._native.bridge)

    def invalidate(self, error: BaseException | None) -> None:
        """Throw the connection away; never awaits. An in-memory database is rolled back and kept."""
        native, self._native = self._native, None
        if native is None:
            return
        self._core = self._record = None
        if native.keep:
            native.terminate()
            self._pool.release(self._entry)
        else:
            self._pool.release(self._entry, healthy=False)

    def abandon(self) -> None:
        """Throw the connection away from wherever and whenever: by the garbage collector, from any thread."""
        native, self._native = self._native, None
        if native is not None:
            self._core = self._record = None
            self._pool.forget(self._entry)

    def __del__(self) -> None:
        if self._native is not None:
            warnings.warn(
                f"a connection of {self.engine!r} was dropped without being given back; "
                "use 'async with', or await close().",
                ResourceWarning,
                stacklevel=2,
            )
            self.abandon()

    # -- blocking code ------------------------------------------------------------------------

    async def blocking(self, work: Callable[..., Any], *args: Any) -> Any:
        """Run blocking code in a thread; cancelling it costs the connection."""
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
            record = self._record = Record(self, self.native)
            proxy = corelink.LentProxy(self.engine.sync_engine.pool, record)
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
        lost = dialect.is_disconnect(known, native.bridge, None)
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
