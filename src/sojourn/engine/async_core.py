"""`AsyncConnection`: Core's Connection for async programs, each call awaited.

Everything is done by Core's own `Connection`, in a thread and over the connection's bridge: transactions,
savepoints, options, defaults and results are exactly Core's. Sessions take the short way instead, see
async_connection.py.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from sqlalchemy.exc import InvalidRequestError, ResourceClosedError

from sojourn import corelink
from sojourn.engine.async_connection import AsyncLane, LaneEngine, buffered
from sojourn.engine.async_result import AsyncResult, AsyncScalarResult

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator, Mapping

    from sqlalchemy import Connection, CursorResult, ScalarResult, Transaction

T = TypeVar("T")


class LendingEngine(LaneEngine, Protocol):
    """What a connection needs of its `AsyncEngine`."""

    async def acquire(self) -> AsyncLane: ...


class AsyncTransaction:
    """A transaction or savepoint: `async with` commits it, errors roll it back; or await it and end it."""

    def __init__(self, connection: AsyncConnection, start: Callable[[Connection], Transaction]) -> None:
        self.connection = connection
        self.sync_transaction: Transaction | None = None
        self._start = start

    @classmethod
    def over(cls, connection: AsyncConnection, transaction: Transaction | None) -> AsyncTransaction | None:
        """Return the async front of a transaction that has begun."""
        if transaction is None:
            return None
        front = cls(connection, lambda _core: transaction)
        front.sync_transaction = transaction
        return front

    async def start(self) -> Self:
        """Begin."""
        connection = self.connection
        await connection.opened()
        self.sync_transaction = await connection.run_sync(self._start)
        return self

    def __await__(self) -> Generator[Any, None, Self]:
        return self.start().__await__()

    @property
    def is_active(self) -> bool:
        """Whether the transaction can go on."""
        return self.sync_transaction is not None and self.sync_transaction.is_active

    @property
    def is_valid(self) -> bool:
        """Whether the transaction began and its connection was not lost."""
        return self.sync_transaction is not None and self.sync_transaction.is_valid

    async def _end(self, verb: str) -> None:
        transaction = self.sync_transaction
        if transaction is None:
            msg = (
                "This transaction has not begun: async with connection.begin(), or await connection.begin()."
            )
            raise InvalidRequestError(msg)
        await self.connection.run_sync(lambda _core: getattr(transaction, verb)())

    async def commit(self) -> None:
        """Commit, or release the savepoint."""
        await self._end("commit")

    async def rollback(self) -> None:
        """Roll back."""
        await self._end("rollback")

    async def close(self) -> None:
        """Roll back what was not committed."""
        await self._end("close")

    async def prepare(self) -> None:
        """Prepare a two-phase transaction."""
        await self._end("prepare")

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        transaction = self.sync_transaction
        if transaction is None or not self.connection.usable:
            return  # cancelled: the connection is gone and the transaction with it
        if kind is None and self.is_active:
            try:
                await self.commit()
            except BaseException:
                if self.connection.usable:
                    await self.close()
                raise
        elif self.is_active or kind is not None:
            await self.rollback()


class AsyncConnection:
    """A connection of an `AsyncEngine`; `async with engine.connect()`, or `await` it and close it."""

    def __init__(
        self, engine: LendingEngine, lane: AsyncLane | None = None, core: Connection | None = None
    ) -> None:
        self.engine = engine  # Any: the AsyncEngine, which imports this file
        self._lane = lane
        self._core = core
        self._own = lane is None  # a session's connection is the session's to give back
        self._closed = False

    # -- life ---------------------------------------------------------------------------------

    async def start(self) -> Self:
        """Take a connection from the pool."""
        if self._lane is not None:
            msg = "connection is already started"
            raise InvalidRequestError(msg)
        self._lane = lane = await self.engine.acquire()
        try:
            if corelink.is_watched(self.engine.sync_engine):  # a listener of engine_connect may want to block
                self._core = await lane.blocking(lane.core_connection)
            else:
                self._core = lane.core_connection()
        except BaseException:
            await lane.release()
            raise
        return self

    async def opened(self) -> None:
        """Start unless started."""
        if self._lane is None:
            await self.start()

    def __await__(self) -> Generator[Any, None, Self]:
        return self.start().__await__()

    async def __aenter__(self) -> Self:
        await self.opened()
        return self

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        await self.close()

    async def close(self) -> None:
        """Give the connection back; what was not committed is rolled back."""
        self._closed = True
        if self._own and self._lane is not None:
            await self._lane.release()

    aclose = close

    async def invalidate(self, exception: BaseException | None = None) -> None:
        """Throw the database connection away."""
        if self._lane is not None:
            self._lane.invalidate(exception)

    async def get_raw_connection(self) -> Any:
        """Return an object whose `driver_connection` is the driver's own connection."""
        return self._open_lane().native.bridge

    @property
    def usable(self) -> bool:
        """Whether the connection is there: neither closed nor lost."""
        return not self._closed and self._lane is not None and self._lane.is_valid

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    @property
    def invalidated(self) -> bool:
        """Whether the database connection was thrown away."""
        return not self._closed and self._lane is not None and not self._lane.is_valid

    def _open_lane(self) -> AsyncLane:
        if self._closed:
            msg = "This Connection is closed"
            raise ResourceClosedError(msg)
        if self._lane is None:
            msg = "This connection was not started: async with engine.connect() as connection, or await it."
            raise InvalidRequestError(msg)
        return self._lane

    @property
    def sync_connection(self) -> Connection | None:
        """Core's connection, for blocking code: what `run_sync` hands to its function."""
        return self._core

    def _started(self) -> Connection:
        self._open_lane()
        if self._core is None:
            msg = "This connection was not started."
            raise InvalidRequestError(msg)
        return self._core

    async def run_sync(self, fn: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Run blocking code with Core's `Connection` as its first argument, in a thread."""
        core = self._started()
        done: T = await self._open_lane().blocking(lambda: fn(core, *args, **kwargs))
        return done

    # -- statements ---------------------------------------------------------------------------

    async def execute(
        self, statement: Any, parameters: Any = None, *, execution_options: Mapping[str, Any] | None = None
    ) -> CursorResult[Any]:
        """Run a statement; its rows are all there when this returns."""
        result: CursorResult[Any] = await self.run_sync(buffered, statement, parameters, execution_options)
        return result

    async def scalars(
        self, statement: Any, parameters: Any = None, *, execution_options: Mapping[str, Any] | None = None
    ) -> ScalarResult[Any]:
        """Run a statement; the result hands out the first value of each row."""
        return (await self.execute(statement, parameters, execution_options=execution_options)).scalars()

    async def scalar(
        self, statement: Any, parameters: Any = None, *, execution_options: Mapping[str, Any] | None = None
    ) -> Any:
        """Run a statement and return the first value of its first row, or None."""
        return (await self.execute(statement, parameters, execution_options=execution_options)).scalar()

    async def exec_driver_sql(
        self, statement: str, parameters: Any = None, execution_options: Mapping[str, Any] | None = None
    ) -> CursorResult[Any]:
        """Run a text with parameters as the driver writes them."""
        return await self.run_sync(
            lambda core: core.exec_driver_sql(statement, parameters, execution_options=execution_options)
        )

    @asynccontextmanager
    async def _streaming(
        self, statement: Any, parameters: Any, options: Mapping[str, Any] | None
    ) -> AsyncIterator[AsyncResult[Any]]:
        result = await self._open_stream(statement, parameters, options)
        try:
            yield result
        finally:
            if self.usable:
                await result.close()

    async def _open_stream(
        self, statement: Any, parameters: Any, options: Mapping[str, Any] | None
    ) -> AsyncResult[Any]:
        asked = {**(options or {}), "stream_results": True}
        result = await self.run_sync(
            lambda core: core.execute(statement, parameters, execution_options=asked)
        )

        async def pull(size: int) -> list[Any]:
            if size:
                return list(await self.run_sync(lambda _core: result.fetchmany(size)))
            await self.run_sync(lambda _core: result.close())
            return []

        return AsyncResult(pull, tuple(result.keys()), yield_per=asked.get("yield_per", 0) or 0)

    def stream(
        self, statement: Any, parameters: Any = None, *, execution_options: Mapping[str, Any] | None = None
    ) -> Streaming:
        """Run a statement and fetch its rows bit by bit; await it, or `async with`."""
        return Streaming(
            lambda: self._open_stream(statement, parameters, execution_options),
            lambda: self._streaming(statement, parameters, execution_options),
        )

    async def stream_scalars(
        self, statement: Any, parameters: Any = None, *, execution_options: Mapping[str, Any] | None = None
    ) -> AsyncScalarResult[Any]:
        """Run a statement and fetch the first value of each row bit by bit."""
        return (await self._open_stream(statement, parameters, execution_options)).scalars()

    # -- transactions -------------------------------------------------------------------------

    def begin(self) -> AsyncTransaction:
        """Begin a transaction."""
        return AsyncTransaction(self, lambda core: core.begin())

    def begin_nested(self) -> AsyncTransaction:
        """Set a savepoint."""
        return AsyncTransaction(self, lambda core: core.begin_nested())

    def begin_twophase(self, xid: Any = None) -> AsyncTransaction:
        """Begin a transaction for two-phase commit."""
        return AsyncTransaction(self, lambda core: core.begin_twophase(xid))

    def get_transaction(self) -> AsyncTransaction | None:
        """Return the transaction that is open, None before the first statement."""
        return AsyncTransaction.over(self, self._started().get_transaction())

    def get_nested_transaction(self) -> AsyncTransaction | None:
        """Return the innermost savepoint, None outside of one."""
        return AsyncTransaction.over(self, self._started().get_nested_transaction())

    async def commit(self) -> None:
        """Commit the transaction."""
        await self.run_sync(lambda core: core.commit())

    async def rollback(self) -> None:
        """Roll the transaction back; nothing is left of it once the connection was lost."""
        if self.invalidated:
            return
        await self.run_sync(lambda core: core.rollback())

    def in_transaction(self) -> bool:
        """Whether a transaction has begun."""
        return self.usable and self._core is not None and self._core.in_transaction()

    def in_nested_transaction(self) -> bool:
        """Whether a savepoint is open."""
        return self.usable and self._core is not None and self._core.in_nested_transaction()

    # -- options ------------------------------------------------------------------------------

    async def execution_options(self, **options: Any) -> Self:
        """Set options for what is executed from now on, such as `isolation_level`."""
        await self.run_sync(lambda core: core.execution_options(**options))
        return self

    def get_execution_options(self) -> Mapping[str, Any]:
        """Return the options in force."""
        return self._started().get_execution_options()

    async def get_isolation_level(self) -> Any:
        """Return the isolation level in force."""
        return await self.run_sync(lambda core: core.get_isolation_level())

    @property
    def default_isolation_level(self) -> Any:
        """The isolation level of the first connection of the engine."""
        return self._started().default_isolation_level

    @property
    def sync_engine(self) -> Any:
        """Core's engine: where listeners are set."""
        return self.engine.sync_engine

    @property
    def dialect(self) -> Any:
        """The dialect of the database and its driver."""
        return self.engine.dialect

    @property
    def info(self) -> dict[Any, Any]:
        """A dictionary for whatever the program wants to keep with the connection."""
        return self._started().info

    def __repr__(self) -> str:
        state = "closed" if self._closed else "not started" if self._lane is None else repr(self._lane)
        return f"<AsyncConnection of {self.engine!r}: {state}>"


class Streaming:
    """What `stream()` returns: awaited it is the result, in `async with` it also closes it."""

    def __init__(self, opening: Callable[[], Any], streaming: Callable[[], Any]) -> None:
        self._opening = opening
        self._streaming = streaming
        self._entered: Any = None

    def __await__(self) -> Generator[Any, None, AsyncResult[Any]]:
        return self._opening().__await__()  # type: ignore[no-any-return]

    async def __aenter__(self) -> AsyncResult[Any]:
        self._entered = self._streaming()
        return await self._entered.__aenter__()  # type: ignore[no-any-return]

    async def __aexit__(self, *error: object) -> None:
        await self._entered.__aexit__(*error)
