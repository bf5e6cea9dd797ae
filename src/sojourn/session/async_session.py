"""`AsyncSession`: the async front of a session, native and without greenlet.

It drives the same flows as `Session`; each request is awaited. Two rules are its own. An attribute that
is not loaded cannot be loaded by reading it: that raises `NotLoadedInAsync`, which names the remedies.
And a session serves one task at a time: a second one that comes in between is refused.

A cancelled operation leaves nothing half-way: its connection is thrown away, the transaction is over,
entities are as after a rollback.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import sqlalchemy
from sqlalchemy.exc import NoResultFound

from sojourn import corelink, errors
from sojourn.engine.async_core import AsyncConnection
from sojourn.engine.async_result import AsyncResult, AsyncScalarResult
from sojourn.flow import Flow, drive_async
from sojourn.kernel.state import dict_of, state_of
from sojourn.loading.result import Result, ScalarResult
from sojourn.session.binds import NOTHING
from sojourn.session.blocking import run_blocking
from sojourn.session.core import SessionCore
from sojourn.session.session import PLAIN_KEYS
from sojourn.session.transaction import Stage, TransactionCore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable, Mapping

    from sojourn.session.reads import Stream

T = TypeVar("T")
S = TypeVar("S", bound="AsyncSession")


def perform(request: Any) -> Awaitable[Any]:
    """Carry out one request: its lane knows how."""
    reply: Awaitable[Any] = request.lane.perform(request)
    return reply


def refuse_load(instance: Any, state: Any, name: str) -> Any:
    """Refuse to load an attribute by reading it; what an identity map of an async session calls."""
    if state.session is None:
        raise errors.DetachedRead(type(instance).__name__, name)
    raise errors.NotLoadedInAsync(type(instance).__name__, name)


class AsyncSessionTransaction:
    """A transaction or savepoint: `async with` commits it, errors roll it back; or await it and end it."""

    def __init__(
        self, session: AsyncSession, *, nested: bool = False, level: TransactionCore | None = None
    ) -> None:
        self.session = session
        self.nested = nested
        self.sync_transaction = level

    async def start(self) -> Self:
        """Begin."""
        if self.sync_transaction is None:
            session = self.session
            if self.nested:
                self.sync_transaction = await session.run_flow(session.begin_nested_flow())
            else:
                self.sync_transaction = session.begin_anew()
        return self

    def __await__(self) -> Generator[Any, None, Self]:
        return self.start().__await__()

    def _level(self) -> TransactionCore:
        level = self.sync_transaction
        if level is None:
            raise errors.TransactionState(
                "This transaction has not begun.",
                "async with session.begin(): ..., or await session.begin().",
            )
        return level

    @property
    def is_active(self) -> bool:
        """Whether work can go on in this transaction."""
        return self.sync_transaction is not None and self.sync_transaction.is_active

    @property
    def has_failed(self) -> bool:
        """Whether a failed flush has rolled this level back, which is to be acknowledged by rollback()."""
        return self.sync_transaction is not None and self.sync_transaction.stage is Stage.DEACTIVE

    async def commit(self) -> None:
        """Commit this level and whatever is open inside it."""
        level = self._level()
        level.check("commit")
        await self.session.run_flow(self.session.commit_flow(level))

    async def rollback(self) -> None:
        """Roll this level back, with whatever is open inside it."""
        level = self._level()
        level.check("rollback")
        await self.session.run_flow(self.session.rollback_flow(level))

    async def __aenter__(self) -> Self:
        await self.start()
        self._level().enter_block()
        return self

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        level, session = self._level(), self.session
        level.leave_block()
        if kind is None:
            if level.stage in (Stage.ACTIVE, Stage.PREPARED):
                try:
                    await session.run_flow(session.commit_flow(level))
                except Exception:
                    if self.has_failed:  # the block's flush failed: its level ends with it
                        await session.run_flow(session.rollback_flow(level))
                    raise
            elif level.stage is Stage.DEACTIVE and level.cause is not None:
                # The block swallowed the error of a failed flush: it cannot end as if all were well (CF-5).
                await session.run_flow(session.rollback_flow(level))
                raise errors.PendingRollback(level.cause) from level.cause
        elif level.stage in (Stage.ACTIVE, Stage.PREPARED, Stage.DEACTIVE):
            await session.run_flow(session.rollback_flow(level))

    def __repr__(self) -> str:
        return f"<AsyncSessionTransaction: {self.sync_transaction or 'not begun'!r}>"


class AsyncSession(SessionCore):
    """A conversation with the database: entities by identity, changes in batches, one transaction."""

    is_async = True

    def __init__(self, bind: Any = None, *, sync_session_class: Any = None, **options: Any) -> None:
        options.pop("future", None)  # accepted for old code: there is no other style
        super().__init__(bind, **options)
        self.sync_session_class = sync_session_class  # of the front that run_sync hands out
        self.identity.loader = refuse_load
        self._busy = False
        self._opened: Stream | None = None
        for engine in (self.bind, *self.binds.values()):
            if isinstance(engine, sqlalchemy.Engine):
                raise errors.SessionError(
                    f"AsyncSession cannot wait for a blocking engine ({engine!r}).",
                    "Make an async one: create_async_engine('postgresql+asyncpg://...'), "
                    "'sqlite+aiosqlite:///...'.",
                )

    # -- the one door -----------------------------------------------------------------------

    async def run_flow(self, flow: Flow[T]) -> T:
        """Drive a flow: the one door through which an async session acts."""
        if self._busy:
            flow.close()
            raise self._overlap()
        self._busy = True
        try:
            return await drive_async(flow, perform)
        except Exception:
            raise
        except BaseException:
            self.cancelled()
            raise
        finally:
            self._busy = False

    async def _ask(self, request: Any) -> Any:
        """Perform a single request without a flow: what the two-phase operations do."""
        if self._busy:
            raise self._overlap()
        self._busy = True
        try:
            return await request.lane.perform(request)
        except Exception:
            raise
        except BaseException:
            self.cancelled()
            raise
        finally:
            self._busy = False

    def _overlap(self) -> errors.SessionError:
        return errors.SessionError(
            f"{self!r} is in the middle of an operation of another task.",
            "Use one session per task: async with async_sessionmaker(engine)() as session: ...",
        )

    # -- life -------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        await self.close()

    async def close(self) -> None:
        """End the transaction, give connections back, let go of every entity; usable again afterwards."""
        await self.run_flow(self.close_flow())

    aclose = close

    async def reset(self) -> None:
        """Do as close() does, and stay usable whatever close_resets_only says."""
        keep, self.close_resets_only = self.close_resets_only, True
        try:
            await self.close()
        finally:
            self.close_resets_only = keep

    async def invalidate(self) -> None:
        """Close, and drop the connections instead of giving them back."""
        self.identity.detach_all()
        for lane in self.lanes.values():
            lane.invalidate(None)
        self.discard()

    # -- transaction ------------------------------------------------------------------------

    def begin(self) -> AsyncSessionTransaction:
        """Begin a transaction; `async with` commits it at the end and rolls it back on errors."""
        return AsyncSessionTransaction(self)

    def begin_nested(self) -> AsyncSessionTransaction:
        """Set a savepoint; `async with` releases it at the end and rolls it back on errors."""
        return AsyncSessionTransaction(self, nested=True)

    def begin_anew(self) -> TransactionCore:
        """Begin a transaction; raise SessionError if one is begun."""
        self._refuse_open_transaction()
        keep, self.autobegin = self.autobegin, True
        try:
            return self.begin_transaction()
        finally:
            self.autobegin = keep

    def get_transaction(self) -> Any:
        """Return the root transaction, None before the first use."""
        level = super().get_transaction()
        return None if level is None else AsyncSessionTransaction(self, level=level)

    def get_nested_transaction(self) -> Any:
        """Return the innermost savepoint, None outside of one."""
        level = super().get_nested_transaction()
        return None if level is None else AsyncSessionTransaction(self, nested=True, level=level)

    async def commit(self) -> None:
        """Flush and commit; inside `async with session.begin_nested()` it releases that savepoint (CF-3)."""
        await self.run_flow(self.commit_flow())

    async def rollback(self) -> None:
        """Roll back; inside `async with session.begin_nested()` this undoes that savepoint only (CF-3)."""
        await self.run_flow(self.rollback_flow())

    async def prepare(self) -> None:
        """Prepare the transaction for two-phase commit (AsyncSession(twophase=True))."""
        await self.run_flow(self.prepare_flow())

    async def flush(self, objects: Iterable[Any] | None = None) -> None:
        """Send what changed to the database, without committing."""
        await self.run_flow(self.flush_flow(objects))

    async def connection(
        self,
        bind_arguments: Mapping[str, Any] | None = None,
        execution_options: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> AsyncConnection:
        """Return a Core connection on this session's transaction: the same database connection."""
        engine = self.get_bind(**(bind_arguments or NOTHING))
        lane = await self.run_flow(self.lane_flow(engine))
        connection = AsyncConnection(engine, lane, await lane.blocking(lane.core_connection))
        return await connection.execution_options(**execution_options) if execution_options else connection

    # -- reading ----------------------------------------------------------------------------

    async def get(
        self,
        entity: type[T] | Any,
        ident: Any,
        *,
        options: Any = None,
        populate_existing: bool = False,
        with_for_update: Any = None,
        identity_token: Any = None,
        execution_options: Mapping[str, Any] = NOTHING,
        bind_arguments: Mapping[str, Any] | None = None,
    ) -> T | None:
        """Return the entity with this primary key, or None."""
        plain = not populate_existing and with_for_update is None and not execution_options
        if plain and bind_arguments is None:
            layout = getattr(entity, "__sojourn_layout__", None)
            if layout is not None and ident.__class__ in PLAIN_KEYS and layout.scalar_key:
                found: T | None = self.identity.find_loaded(layout, ident)
                if found is not None and found.__class__ is entity:
                    return found
                request = self.get_request(layout, ident)
                if request is not None:
                    rows = await self._ask(request)
                    return rows[0] if rows else None
        loaded: T | None = await self.run_flow(
            self.get_flow(
                entity,
                ident,
                populate_existing=populate_existing,
                with_for_update=with_for_update,
                execution_options=execution_options,
                bind=(bind_arguments or NOTHING).get("bind"),
            )
        )
        return loaded

    async def get_one(self, entity: type[T] | Any, ident: Any, **options: Any) -> T:
        """Return the entity with this primary key; raise NoResultFound without one."""
        found: T | None = await self.get(entity, ident, **options)
        if found is None:
            msg = f"No row was found for {getattr(entity, '__name__', entity)} with key {ident!r}"
            raise NoResultFound(msg)
        return found

    async def get_many(self, entity: type[T], idents: Iterable[Any]) -> list[T | None]:
        """Return the entities with these keys in that order, None for the missing, in one statement (G2)."""
        return await self.run_flow(self.get_many_flow(entity, idents))

    async def execute(
        self,
        statement: Any,
        params: Any = None,
        *,
        execution_options: Mapping[str, Any] = NOTHING,
        bind_arguments: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> Result[Any]:
        """Run a statement; all its rows are there when this returns."""
        request = self.select_request(statement, False, params, execution_options, bind_arguments)
        if request is not None:
            values = await self._ask(request)
            return Result(values, request.plan.keys, single=request.plan.single)
        result: Result[Any] = await self.run_flow(
            self._gathered_flow(statement, params, execution_options, bind_arguments, scalars=False)
        )
        return result

    async def scalars(
        self,
        statement: Any,
        params: Any = None,
        *,
        execution_options: Mapping[str, Any] = NOTHING,
        bind_arguments: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> ScalarResult[Any]:
        """Run a statement; the result hands out the first value of each row."""
        request = self.select_request(statement, True, params, execution_options, bind_arguments)
        if request is not None:
            return ScalarResult(await self._ask(request))
        result: ScalarResult[Any] = await self.run_flow(
            self._gathered_flow(statement, params, execution_options, bind_arguments, scalars=True)
        )
        return result

    async def scalar(self, statement: Any, params: Any = None, **options: Any) -> Any:
        """Run a statement and return the first value of its first row, or None."""
        return (await self.scalars(statement, params, **options)).first()

    async def stream(
        self,
        statement: Any,
        params: Any = None,
        *,
        execution_options: Mapping[str, Any] = NOTHING,
        bind_arguments: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> AsyncResult[Any]:
        """Run a statement; its rows are fetched while one iterates."""
        options = {**execution_options, "stream_results": True}
        result, stream = await self.run_flow(
            self._opened_flow(statement, params, options, bind_arguments, scalars=False)
        )
        if stream is None:  # it has no rows to wait for: they came with the statement
            rows = list(result)
            return AsyncResult(_from_list(rows), tuple(result.keys()))
        metadata = corelink.row_metadata(stream.plan.keys)

        def rows_of(values: list[Any]) -> list[Any]:
            return [corelink.new_row(metadata, (value,)) for value in values]

        return AsyncResult(
            self._pull(stream),
            stream.plan.keys,
            rows_of if stream.plan.single else None,
            yield_per=options.get("yield_per", 0),
        )

    async def stream_scalars(
        self, statement: Any, params: Any = None, **options: Any
    ) -> AsyncScalarResult[Any]:
        """Run a statement and fetch the first value of each row while one iterates."""
        return (await self.stream(statement, params, **options)).scalars()

    def pull_from(self, stream: Stream) -> Any:
        """Note a stream that a flow has opened; whoever drives the flow picks it up."""
        self._opened = stream
        return lambda _size: []

    def _opened_flow(
        self, statement: Any, params: Any, options: Any, arguments: Any, *, scalars: bool
    ) -> Flow[tuple[Any, Stream | None]]:
        """Return a statement's result, and the stream if it opened one."""
        self._opened = None
        result = yield from self.execute_flow(statement, params, options, arguments, scalars=scalars)
        stream, self._opened = self._opened, None
        return result, stream

    def _gathered_flow(
        self, statement: Any, params: Any, options: Any, arguments: Any, *, scalars: bool
    ) -> Flow[Any]:
        """Return a statement's result with all its rows, though it may ask for a stream (yield_per)."""
        result, stream = yield from self._opened_flow(statement, params, options, arguments, scalars=scalars)
        if stream is None:
            return result
        values: list[Any] = []
        while batch := (yield from stream.more_flow(1000)):
            values += batch
        return (
            ScalarResult(values) if scalars else Result(values, stream.plan.keys, single=stream.plan.single)
        )

    def _pull(self, stream: Stream) -> Callable[[int], Awaitable[list[Any]]]:
        return lambda size: self.run_flow(stream.more_flow(size))

    async def load(self, instance: Any, *attributes: Any) -> None:
        """Load attributes that are not loaded, before they are read."""
        state = self.state_for(instance)
        for attribute in attributes:
            name = self.attribute_name(instance, attribute)
            if name not in dict_of(instance):
                await self.run_flow(self.load_flow(state, instance, name))

    async def refresh(
        self, instance: Any, attribute_names: Iterable[Any] | None = None, with_for_update: Any = None
    ) -> None:
        """Load an entity anew, overwriting what is loaded; given names refresh only these."""
        await self.run_flow(self.refresh_flow(instance, attribute_names, with_for_update))

    async def refresh_all(self, instances: Iterable[Any]) -> None:
        """Load several entities anew, in one statement per class and batch."""
        await self.run_flow(self.refresh_all_flow(list(instances)))

    # -- changing ---------------------------------------------------------------------------

    async def delete(self, instance: Any) -> None:  # type: ignore[override]  # as in SQLAlchemy: cascades may load
        """Mark *instance* for deletion by the next flush."""
        super().delete(instance)

    async def delete_all(self, instances: Iterable[Any]) -> None:  # type: ignore[override]
        """Mark each of *instances* for deletion by the next flush."""
        for instance in instances:
            super().delete(instance)

    async def merge(self, instance: T, *, load: bool = True, options: Any = None) -> T:
        """Copy the state of *instance* onto this session's entity of that key, and return it."""
        merged: T = await self.run_flow(self.merge_flow(instance, load=load))
        return merged

    async def merge_all(self, instances: Iterable[T], *, load: bool = True, options: Any = None) -> list[T]:
        """Merge several, loading their targets in one statement per class and batch."""
        return await self.run_flow(self.merge_all_flow(instances, load=load))

    # -- blocking code ----------------------------------------------------------------------

    async def run_sync(self, fn: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Run blocking code with a blocking `Session` over this one as its first argument, in a thread.

        There, reading an attribute loads it. Cancelling costs the connection, and the code is refused
        everything from then on.
        """
        if self._busy:
            raise self._overlap()
        self._busy = True
        try:
            return await run_blocking(self, fn, args, kwargs)
        except Exception:
            raise
        except BaseException:
            self.cancelled()
            raise
        finally:
            self._busy = False
            self.identity.loader = refuse_load

    @property
    def sync_session(self) -> AsyncSession:
        """This session; blocking code gets its own front from `run_sync`."""
        return self

    @classmethod
    def object_session(cls, instance: Any) -> Any:
        """Return the session an entity belongs to, or None."""
        return state_of(instance).session

    def __repr__(self) -> str:
        identity, transaction = self.identity, self.transaction
        where = f" on {self.bind!r}" if self.bind is not None else ""
        sets = f"{len(identity.new)} new, {len(identity.dirty)} dirty, {len(identity.deleted)} deleted"
        return f"<AsyncSession{where}: {sets}, {'no transaction' if transaction is None else transaction!r}>"


def _from_list(rows: list[Any]) -> Callable[[int], Awaitable[list[Any]]]:
    """Return a source of the rows of a statement that was not streamed."""

    async def pull(size: int) -> list[Any]:
        taken = rows[:size]
        del rows[:size]
        return taken

    return pull


class AsyncAttrs:
    """A mixin: `await entity.awaitable_attrs.name` loads an attribute unless it is loaded, and returns it."""

    @property
    def awaitable_attrs(self) -> Any:
        """The attributes of this entity, as awaitables."""
        return _AwaitableAttrs(self)


class _AwaitableAttrs:
    __slots__ = ("_entity",)

    def __init__(self, entity: Any) -> None:
        self._entity = entity

    def __getattr__(self, name: str) -> Awaitable[Any]:
        return _awaited(self._entity, name)


async def _awaited(entity: Any, name: str) -> Any:
    state = state_of(entity)
    if name in state.layout.attributes and name not in dict_of(entity) and state.session is not None:
        await state.session.load(entity, name)
    return getattr(entity, name)


class async_sessionmaker(Generic[S]):  # noqa: N801 - the field's name
    """Makes async sessions with the same arguments."""

    def __init__(self, bind: Any = None, *, class_: type[S] = AsyncSession, **options: Any) -> None:  # type: ignore[assignment]
        self.class_: type[S] = class_
        self.kw: dict[str, Any] = {"bind": bind, **options}

    def __call__(self, **local: Any) -> S:
        """Return a new session; keyword arguments override the maker's."""
        return self.class_(**{**self.kw, **local})

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[S]:
        """Yield a new session in a transaction that is committed at the end, and close it."""
        async with self() as session, session.begin():
            yield session

    def configure(self, **options: Any) -> None:
        """Change the arguments of sessions made from now on."""
        self.kw.update(options)

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.kw.items() if value is not None)
        return f"async_sessionmaker({self.class_.__name__}, {given})"
