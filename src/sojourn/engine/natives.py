"""`Native`: what a connection of an async driver must be able to do; one file per driver says how.

Each class wraps one raw driver connection and knows its text conventions, how it starts a
transaction, what it can tell about row counts, and how to throw it away at once. Nothing here knows
plans, pools or sessions.

A transaction is *due* after `begin()`: it starts together with the first statement, so that a session
that only reads its identity map never talks to the server. On aiosqlite each request is one function
run by the connection's own thread, hence one thread crossing, BEGIN included.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import select
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from sojourn import corelink
from sojourn.engine.bridge import BridgeConnection, ThreadBridge
from sojourn.engine.sockets import replace_by_nothing, shut_down

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence


class Reply(NamedTuple):
    """What one statement brought back, all of it."""

    description: Sequence[Any] | None
    rows: list[Any]
    rowcount: int
    lastrowid: int | None


class Native:
    """A raw driver connection; `due` says that BEGIN is still to be sent."""

    bridge_class: ClassVar[type[BridgeConnection]] = ThreadBridge

    def __init__(self, raw: Any, dialect: Any, begin_text: str = "BEGIN") -> None:
        self.raw = raw
        self.dialect = dialect
        self.begin_text = begin_text
        self.autocommit = False
        self.due = False
        self.schema_asof = 0.0  # until when this connection has followed changes of types
        self.statement: str | None = None  # the last one of this lease
        self.tainted = False  # a statement of this lease may have changed what the server session remembers
        self.fresh = False  # nothing was asked of it in this lease
        self.holder: Any = None  # a weak reference to the lane that has it
        self.poll: Callable[[float], Any] | None = (
            None  # poll(0) is true once the socket has something to say
        )
        self.bridge = self.bridge_class(self)

    # -- statements: text with positional arguments as the driver takes them -------------------

    def rows(self, text: str, args: tuple[Any, ...]) -> Awaitable[list[Any]]:
        """Run a statement and return its rows."""
        raise NotImplementedError

    async def described(self, text: str, args: tuple[Any, ...]) -> tuple[Any, list[Any]]:
        """Run a statement and return its cursor description with its rows."""
        raise NotImplementedError

    def change(self, text: str, args: tuple[Any, ...]) -> Awaitable[int]:
        """Run a statement and return its row count."""
        raise NotImplementedError

    def change_many(self, text: str, rows: Sequence[Any]) -> Awaitable[int]:
        """Run a statement once per row of arguments; return the summed row count, -1 if unknown."""
        raise NotImplementedError

    def insert_each(self, text: str, rows: Sequence[Any]) -> Awaitable[list[int]]:
        """Run an INSERT once per row of arguments and return the row ids."""
        raise NotImplementedError

    def command(self, text: str) -> Awaitable[Any]:
        """Run a statement without arguments or rows: SAVEPOINT and its like."""
        return self.change(text, ())

    async def outside(self, text: str) -> None:
        """Run a statement that must stand outside of any transaction."""
        await self.command(text)

    def translate(self, error: Exception) -> Exception:
        """Return the dialect's DB-API error for a driver's."""
        return corelink.async_driver_error(self.dialect, error)

    async def answer(self, text: str, params: Any, *, many: bool, positional: bool) -> Reply:
        """Run a statement of Core; *positional* says that it is written for the fast lane."""
        raise NotImplementedError

    # -- streams ------------------------------------------------------------------------------

    async def open(self, text: str, params: Any, *, positional: bool) -> tuple[Any, Any]:
        """Start a statement whose rows are fetched bit by bit; return a handle and a description."""
        raise NotImplementedError

    def more(self, handle: Any, size: int) -> Awaitable[list[Any]]:
        """Fetch the next rows of an open statement."""
        raise NotImplementedError

    async def shut(self, handle: Any) -> None:
        """End an open statement."""

    # -- transactions -------------------------------------------------------------------------

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open or due."""
        raise NotImplementedError

    def begin(self) -> None:
        """Let the next statement start a transaction."""
        self.due = not self.autocommit and not self.in_transaction

    async def commit(self) -> None:
        """Commit; nothing is sent where nothing was started."""
        if self.due:
            self.due = False
        elif self.in_transaction:
            await self.command("COMMIT")

    async def rollback(self) -> None:
        """Roll back; nothing is sent where nothing was started."""
        if self.due:
            self.due = False
        elif self.in_transaction:
            await self.command("ROLLBACK")

    # -- life ---------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether the connection is known to be of no use any more; asks the socket, not the server."""
        return False

    @property
    def keep(self) -> bool:
        """Whether `terminate` leaves a connection that may be lent again."""
        return False

    @property
    def number(self) -> int | None:
        """How the server numbers the session."""
        return None

    def fileno(self) -> int | None:
        """Return the descriptor of the socket, None where there is none."""
        return None

    def watch(self) -> None:
        """Make `poll`, for a connection with a socket."""
        fd = self.fileno()
        if fd is not None and hasattr(select, "poll"):  # not on Windows
            poll = select.poll()
            poll.register(fd, select.POLLIN | select.POLLPRI | getattr(select, "POLLRDHUP", 0))
            self.poll = poll.poll

    async def ping(self) -> None:
        """Ask the server for a sign of life, outside of any transaction."""
        await self.rows("SELECT 1", ())

    def is_lost(self, error: Exception) -> bool:
        """Tell whether *error* means that there is no connection any more."""
        known = self.translate(error)
        return isinstance(known, self.dialect.dbapi.Error) and bool(
            self.dialect.is_disconnect(known, self.bridge, None)
        )

    def unsent(self, error: BaseException) -> bool:
        """Tell whether *error* of a first statement means that nothing has reached the server."""
        return False

    def cut(self) -> None:
        """Let whoever uses the connection fail now; never awaits, never raises."""
        shut_down(self.fileno())

    def leave_behind(self) -> None:
        """Let a forked child's copy never speak: the socket is the parent's."""
        replace_by_nothing(self.fileno())

    @property
    def can_reset(self) -> bool:
        """Whether `reset_session` loses nothing that was set while connecting."""
        return False

    async def reset_session(self) -> bool:
        """Let the server forget what the session was told; False: close the connection."""
        return False

    def take_bridge(self, other: Native) -> None:
        """Serve the bridge of *other* from now on: blocking code goes on with this connection."""
        bridge = other.bridge
        other.bridge = other.bridge_class(other)
        self.bridge = bridge
        bridge.serve(self)

    async def close(self) -> None:
        """Say goodbye and close."""
        await self.raw.close()

    def terminate(self) -> asyncio.Future[Any] | None:
        """Close at once, without waiting: the state of the conversation is unknown.

        What is returned, if anything, is done when the last of it is over.
        """
        raise NotImplementedError

    def terminate_now(self) -> asyncio.Future[Any] | None:
        """Do as `terminate`, and never fail."""
        try:
            return self.terminate()
        except Exception:  # noqa: BLE001 - it is thrown away; there is nobody to tell
            return None

    async def follow_schema(self, asof: float) -> None:
        """Forget what the driver knows of types if they changed since."""

    # -- blocking code ------------------------------------------------------------------------

    async def block(self, work: Callable[..., Any], *args: Any) -> Any:
        """Run blocking code in a thread; it talks to this connection through `bridge`."""
        bridge = self.bridge
        bridge.attach(asyncio.get_running_loop())
        context = contextvars.copy_context()
        job = asyncio.get_running_loop().run_in_executor(None, functools.partial(context.run, work, *args))
        try:
            return await job
        except Exception:
            raise
        except BaseException:
            bridge.abandon()
            raise

    def __repr__(self) -> str:
        number = "" if self.number is None else f" {self.number}"
        return f"<{type(self).__name__}{number}>"
