"""What a pool can do with a connection of an async driver: open, ask, clean, close, in bounded time.

A time limit does not cancel: what awaits a frozen server may not hear of a cancellation for long. It cuts the
connection off instead (`Native.cut`), which ends whatever waits for it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy.exc import DisconnectionError, InvalidRequestError
from sqlalchemy.pool import PoolResetState

from sojourn import corelink
from sojourn.engine.async_events import AsyncProxy, AsyncRecord, Listeners
from sojourn.engine.health import CLOSE_LIMIT, PING_LIMIT, RESET_LIMIT, sort_connect_error
from sojourn.pooling.async_pool import Handling

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sojourn.engine.natives import Native
    from sojourn.pooling.core import Entry
    from sojourn.pooling.loop_pool import LoopPool
    from sojourn.pooling.stats import LeaseInfo

T = TypeVar("T")

#: A connection that was closed for one of these is replaced: its place keeps its notes.
REPLACED = frozenset(("broken", "expired", "server", "soft"))


async def within(seconds: float, native: Native, work: Awaitable[T]) -> T:
    """Await *work* on *native*, and cut the connection off if it is not over in *seconds*."""
    alarm = asyncio.get_running_loop().call_later(seconds, native.cut)
    try:
        return await work
    finally:
        alarm.cancel()


class NativeHandling(Handling):
    """Open connections by *opener*, tell *events*; *resets* says whether a session can be made as new."""

    def __init__(
        self, opener: Callable[[AsyncRecord], Awaitable[Native]], events: Listeners, *, resets: bool
    ) -> None:
        self.events = events
        self.ping_limit = PING_LIMIT
        self.reset_limit = RESET_LIMIT
        self.close_limit = CLOSE_LIMIT
        self._opener = opener
        self._resets = resets
        self._notes: deque[dict[Any, Any]] = deque(maxlen=64)

    # -- opening and closing ------------------------------------------------------------------

    async def connect(self) -> AsyncRecord:
        """Open a connection and make it ready."""
        record = AsyncRecord(self.events, None, self._notes.pop() if self._notes else None)
        try:
            native = await self._opener(record)
        except Exception as error:
            self.events.debug("Could not connect: %s", error)
            raise
        record.connection = native
        record.poll = native.poll
        record.fd = native.fileno()
        self.events.debug("Opened connection %r", native)
        return record

    def fileno(self, entry: Any) -> int | None:
        """Return the descriptor of the connection's socket."""
        return entry.fd  # type: ignore[no-any-return]

    async def close(self, entry: Any, reason: str) -> None:
        """Tell the listeners, say goodbye and close."""
        native = entry.connection
        self.events.debug("Closing connection %r (%s)", native, reason)
        if self.events.hear("close"):
            await within(self.close_limit, native, self.events.tell("close", native, native.bridge, entry))
        self._remember(entry, reason)
        await self.say_goodbye(entry)

    async def say_goodbye(self, entry: Entry) -> None:
        """Close, in bounded time."""
        native = entry.connection
        await within(self.close_limit, native, native.close())

    def terminate(self, entry: Any, reason: str) -> Awaitable[Any] | None:
        """Close at once."""
        native = entry.connection
        if native is None:
            return None
        self.events.debug("Dropping connection %r (%s)", native, reason)
        if self.events.hear("close"):
            self.events.tell_now("close", native.bridge, entry)
        self._remember(entry, reason)
        return native.terminate_now()  # type: ignore[no-any-return]

    def _remember(self, record: AsyncRecord, reason: str) -> None:
        if reason in REPLACED and record.notes:
            self._notes.append(record.notes)

    def statement(self, entry: Entry) -> str | None:
        """Return the last statement of the lease, without its values."""
        return None if entry.connection is None else entry.connection.statement

    def cut(self, entry: Entry) -> None:
        """Let whoever uses the connection fail now."""
        entry.connection.cut()

    def abandon(self, entry: Any) -> None:
        """Let a forked child's copy never speak, and its lane refuse."""
        lane = None if entry.lane is None else entry.lane()
        if lane is not None:
            lane.lose()
        entry.connection.leave_behind()

    async def serves(self, entry: Entry) -> bool:
        """Ask the server for a sign of life."""
        native = entry.connection
        try:
            await within(self.ping_limit, native, native.ping())
        except Exception as error:  # noqa: BLE001 - whatever it says, it is no sign of life
            self.events.note(
                "Connection %r does not answer (%s); it is replaced", native, type(error).__name__
            )
            return False
        return not native.closed

    def is_transient(self, error: BaseException) -> bool:
        """Tell whether connecting again soon may help."""
        return sort_error(error) is True

    def is_hopeless(self, error: BaseException) -> bool:
        """Tell whether connecting again cannot help."""
        return sort_error(error) is False

    def leaked(self, lease: LeaseInfo) -> None:
        """Say who holds a connection for longer than `leak_after`."""
        self.events.pool.logger.warning("Connection held for long: %s", lease)

    # -- leases -------------------------------------------------------------------------------

    async def check_out(self, pool: LoopPool, record: Any) -> AsyncRecord:
        """Tell listeners and the log of a lease; return another record if a listener calls this one dead."""
        for _ in range(3):
            native = record.connection
            self.events.debug("Connection %r lent", native)
            try:
                proxy = AsyncProxy(self.events.pool, native.bridge, record)
                await self.events.tell("checkout", native, native.bridge, record, proxy)
            except DisconnectionError as error:
                self.events.note("A listener calls connection %r dead: %s", native, error)
                self._drop(pool, record, error)
                if error.invalidate_pool:
                    pool.doom(pool.core.now)
                record = await pool.acquire()
            except BaseException as error:
                self._drop(pool, record, error)
                raise
            else:
                return record  # type: ignore[no-any-return]
        pool.release(record)
        msg = "The listeners of 'checkout' called each of three connections dead."
        raise InvalidRequestError(msg)

    def _drop(self, pool: LoopPool, record: Any, error: BaseException) -> None:
        self.tell_invalid(record, error)
        pool.release(record, "broken")
        self.tell_gone(record)

    def tell_invalid(self, record: AsyncRecord, error: BaseException | None) -> None:
        """Tell listeners and the log that a connection is about to be thrown away."""
        events = self.events
        reason = "no reason given" if error is None else f"{type(error).__name__}: {error}"
        events.note("Connection %r invalidated (%s)", record.connection, reason)
        if events.hear("invalidate"):
            events.tell_now("invalidate", record.dbapi_connection, record, error)

    def tell_gone(self, record: AsyncRecord) -> None:
        """Tell listeners that a lease ended without a connection."""
        if self.events.hear("checkin"):
            self.events.tell_now("checkin", None, record)

    async def clean(self, record: Any, leave: Callable[[], None] | None) -> str | None:
        """Undo what a lease left; return why to close the connection, or None. *leave* ends Core's part."""
        native, events = record.connection, self.events
        if events.watches_returns:
            events.debug("Connection %r comes back", native)
            if events.hear("reset"):
                state = PoolResetState(transaction_was_reset=False, terminate_only=False, asyncio_safe=True)
                await events.tell("reset", native, native.bridge, record, state)
        if leave is not None:
            await within(self.reset_limit, native, native.block(leave))
        kind = "skipped"
        style = events.pool.style
        if native.due:
            native.due = False
        elif native.in_transaction and style != "none":
            kind = style
            step = native.commit() if style == "commit" else native.rollback()
            await within(self.reset_limit, native, step)
        if native.tainted and not native.keep:
            native.tainted = False
            if not (self._resets and not corelink.listens_to_connect(events.pool) and native.can_reset):
                return "reset"
            kind = "session"
            if not await within(self.reset_limit, native, native.reset_session()):
                return "reset"
        self._count(record, kind)
        return None

    def _count(self, record: Any, kind: str) -> None:
        lane = record.lane and record.lane()
        if lane is not None:
            lane.count_reset(kind)

    async def check_in(self, record: Any) -> None:
        """Tell who asked for it, and the listeners, that a lease is over."""
        native = record.connection
        while record.finalize_callback:
            finalizer = record.finalize_callback.pop()
            await within(self.reset_limit, native, native.block(finalizer, native.bridge))
        if self.events.hear("checkin"):
            await within(self.reset_limit, native, self.events.tell("checkin", native, native.bridge, record))
            if native.in_transaction:  # a listener's
                await within(self.reset_limit, native, native.rollback())


def sort_error(error: BaseException) -> bool | None:
    """Tell whether to try again (True), that it is pointless (False), or that nobody knows (None)."""
    for known in (error, getattr(error, "orig", None), error.__cause__):
        if known is None:
            continue
        found = sort_connect_error(known)
        if found is not None:
            return found
        if str(getattr(known, "sqlstate", None) or "").startswith("08"):
            return True
        if isinstance(known, OSError) and "Connect call failed" in str(
            known
        ):  # asyncio, of several addresses
            return True
    return None
