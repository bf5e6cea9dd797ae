"""psycopg's AsyncConnection: raw cursors with `$n`, transactions begun by the driver itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from sojourn.engine.bridge import PsycopgBridge
from sojourn.engine.drivers import BinaryArray
from sojourn.engine.natives import Native, Reply

if TYPE_CHECKING:
    from collections.abc import Sequence


SERVED = (0, 1, 2)  # PGRES_EMPTY_QUERY, COMMAND_OK, TUPLES_OK


class PsycopgAsync(Native):
    """psycopg's AsyncConnection through raw cursors (`$n`); the driver itself sends BEGIN when due."""

    bridge_class = PsycopgBridge

    def __init__(self, raw: Any, dialect: Any, begin_text: str = "BEGIN") -> None:
        super().__init__(raw, dialect, begin_text)
        from psycopg import AsyncRawCursor, AsyncRawServerCursor  # noqa: PLC0415 - only with this driver
        from psycopg.types.array import ListBinaryDumper  # noqa: PLC0415 - only with this driver

        raw.adapters.register_dumper(BinaryArray, ListBinaryDumper)
        self._cursor = AsyncRawCursor
        self._server_cursor = AsyncRawServerCursor
        self._streams = 0
        self._open: list[Any] = []
        self.watch()

    def begin(self) -> None:
        """Nothing to do: psycopg starts a transaction with the first statement."""

    async def rows(self, text: str, args: tuple[Any, ...]) -> list[Any]:
        """Run a statement and return its rows."""
        cursor = self._cursor(self.raw)
        await cursor.execute(text, args)
        return await cursor.fetchall()

    async def described(self, text: str, args: tuple[Any, ...]) -> tuple[Any, list[Any]]:
        """Run a statement and return its cursor description with its rows."""
        cursor = self._cursor(self.raw)
        await cursor.execute(text, args)
        return cursor.description, await cursor.fetchall()

    async def change(self, text: str, args: tuple[Any, ...]) -> int:
        """Run a statement and return its row count."""
        cursor = self._cursor(self.raw)
        await cursor.execute(text, args or None)
        return cursor.rowcount

    async def change_many(self, text: str, rows: Sequence[Any]) -> int:
        """Run a statement once per row of arguments, pipelined; return the summed row count."""
        cursor = self._cursor(self.raw)
        await cursor.executemany(text, rows)
        return cursor.rowcount

    async def outside(self, text: str) -> None:
        """Run a statement that must stand outside of any transaction."""
        await self.raw.set_autocommit(True)
        try:
            await self.change(text, ())
        finally:
            await self.raw.set_autocommit(False)

    async def answer(self, text: str, params: Any, *, many: bool, positional: bool) -> Reply:
        """Run a statement of Core, which writes its parameters as `%(name)s`."""
        cursor = self._cursor(self.raw) if positional else self.raw.cursor()
        if many:
            await cursor.executemany(text, params)
            return Reply(None, [], cursor.rowcount, None)
        await cursor.execute(text, (params or None) if positional else params)
        rows = await cursor.fetchall() if cursor.description else []
        return Reply(cursor.description, rows, cursor.rowcount, None)

    async def open(self, text: str, params: Any, *, positional: bool) -> tuple[Any, Any]:
        """Start a statement whose rows are fetched bit by bit."""
        self._streams += 1
        name = f"sojourn_{self._streams}"
        cursor = self._server_cursor(self.raw, name) if positional else self.raw.cursor(name)
        self._open.append(cursor)
        await cursor.execute(text, params)
        return cursor, cursor.description

    async def more(self, handle: Any, size: int) -> list[Any]:
        """Fetch the next rows of an open statement."""
        rows: list[Any] = await handle.fetchmany(size)
        return rows

    async def shut(self, handle: Any) -> None:
        """End an open statement."""
        await handle.close()
        self._open = [cursor for cursor in self._open if cursor is not handle]

    async def _forget_streams(self) -> None:
        """Close what was left open: the server has, with the transaction, so nothing is sent."""
        cursors, self._open = self._open, []
        for cursor in cursors:
            await cursor.close()

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return bool(self.raw.pgconn.transaction_status != 0)  # libpq's PQTRANS_IDLE

    async def commit(self) -> None:
        """Commit; psycopg sends nothing where nothing was started."""
        await self.raw.commit()
        if self._open:
            await self._forget_streams()

    async def rollback(self) -> None:
        """Roll back; psycopg sends nothing where nothing was started."""
        await self.raw.rollback()
        if self._open:
            await self._forget_streams()

    @property
    def closed(self) -> bool:
        """Whether the connection is known to be closed."""
        return bool(self.raw.closed)

    @property
    def number(self) -> int | None:
        """How the server numbers the session."""
        return None if self.raw.closed else self.raw.pgconn.backend_pid

    def fileno(self) -> int | None:
        """Return the descriptor of the socket, None once it is closed."""
        return None if self.raw.closed else self.raw.pgconn.socket

    async def ping(self) -> None:
        """Send an empty query, which begins no transaction, and wait for the answer."""
        from psycopg import OperationalError, generators  # noqa: PLC0415 - only with this driver

        pgconn = self.raw.pgconn
        async with self.raw.lock:
            pgconn.send_query(b"")
            results = await self.raw.wait(generators.execute(pgconn))
        if not results or results[-1].status not in SERVED:
            raise OperationalError("the server did not answer an empty query")

    @property
    def can_reset(self) -> bool:
        """Whether a session can be made as new; not if SQLAlchemy has told it an encoding."""
        return getattr(self.dialect, "client_encoding", None) is None

    async def reset_session(self) -> bool:
        """Discard all; psycopg sees the command's answer, and forgets the statements it has prepared."""
        raw = self.raw
        before = raw.autocommit
        if not before:
            await raw.set_autocommit(True)
        await raw.execute("DISCARD ALL", prepare=False)
        if not before:
            await raw.set_autocommit(False)
        return True

    def terminate(self) -> asyncio.Future[Any] | None:
        """Close at once, or as soon as the operation that was cancelled has let go of the socket.

        Before that its number could be given to another connection, whose watcher it would remove.
        """
        if self.raw.lock.locked():
            return asyncio.ensure_future(self._close_after())
        self._close_now()
        return None

    async def _close_after(self) -> None:
        async with self.raw.lock:
            self._close_now()

    def _close_now(self) -> None:
        # Neither awaits anything: a connection outside a pool of psycopg's own, a cursor of a closed one.
        for closing in (self.raw.close(), self._forget_streams()):
            try:
                closing.send(None)
            except StopIteration:
                continue
            closing.close()
        self.raw.pgconn.finish()
