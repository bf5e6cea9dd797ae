"""One class per async driver: what a connection must be able to do, in that driver's own words.

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
from sojourn.engine.bridge import BridgeConnection, DirectBridge, PsycopgBridge, ThreadBridge
from sojourn.engine.drivers import BinaryArray

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
    prepares: ClassVar[bool] = False

    def __init__(self, raw: Any, dialect: Any, begin_text: str = "BEGIN") -> None:
        self.raw = raw
        self.dialect = dialect
        self.begin_text = begin_text
        self.autocommit = False
        self.due = False
        self.schema_asof = 0.0  # until when this connection has followed changes of types
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

    async def ping(self) -> None:
        """Ask the server for a sign of life."""
        await self.rows("SELECT 1", ())

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


class Aiosqlite(Native):
    """aiosqlite: a sqlite3 connection that lives in a thread of its own."""

    bridge_class = DirectBridge

    def __init__(self, raw: Any, dialect: Any, begin_text: str = "BEGIN", *, keep: bool = False) -> None:
        super().__init__(raw, dialect, begin_text)
        self._keep = keep  # an in-memory database ends with its connection
        # The two private names of aiosqlite used here (contract: tests/engine/test_async_natives.py).
        # Its public calls cross the thread once per cursor operation; one function per request halves that.
        self.db = raw._conn  # noqa: SLF001
        self.work: Callable[..., Awaitable[Any]] = raw._execute  # noqa: SLF001

    def _start(self) -> str | None:
        """Return the BEGIN that is due, once."""
        if not self.due:
            return None
        self.due = False
        return self.begin_text

    def rows(self, text: str, args: tuple[Any, ...]) -> Awaitable[list[Any]]:
        """Run a statement and return its rows."""
        return self.work(_sqlite_rows, self.db, self._start(), text, args)

    async def described(self, text: str, args: tuple[Any, ...]) -> tuple[Any, list[Any]]:
        """Run a statement and return its cursor description with its rows."""
        reply = await self.work(_sqlite_answer, self.db, self._start(), text, args)
        return reply.description, reply.rows

    def change(self, text: str, args: tuple[Any, ...]) -> Awaitable[int]:
        """Run a statement and return its row count."""
        return self.work(_sqlite_change, self.db, self._start(), text, args)

    def change_many(self, text: str, rows: Sequence[Any]) -> Awaitable[int]:
        """Run a statement once per row of arguments; return the summed row count."""
        return self.work(_sqlite_change_many, self.db, self._start(), text, rows)

    def insert_each(self, text: str, rows: Sequence[Any]) -> Awaitable[list[int]]:
        """Run an INSERT once per row of arguments and return the row ids."""
        return self.work(_sqlite_insert_each, self.db, self._start(), text, rows)

    async def open(self, text: str, params: Any, *, positional: bool) -> tuple[Any, Any]:
        """Start a statement whose rows are fetched bit by bit."""
        cursor = await self.work(_sqlite_open, self.db, self._start(), text, params)
        return cursor, cursor.description

    def more(self, handle: Any, size: int) -> Awaitable[list[Any]]:
        """Fetch the next rows of an open statement."""
        return self.work(handle.fetchmany, size)

    async def shut(self, handle: Any) -> None:
        """End an open statement."""
        await self.work(handle.close)

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open or due."""
        return self.due or self.db.in_transaction

    @property
    def keep(self) -> bool:
        """Whether `terminate` leaves a connection that may be lent again."""
        return self._keep

    async def commit(self) -> None:
        """Commit; nothing is sent where nothing was started."""
        if self.due:
            self.due = False
        elif self.db.in_transaction:
            await self.work(self.db.commit)

    async def rollback(self) -> None:
        """Roll back; nothing is sent where nothing was started."""
        if self.due:
            self.due = False
        elif self.db.in_transaction:
            await self.work(self.db.rollback)

    def terminate(self) -> asyncio.Future[Any] | None:
        """Stop what runs and close; an in-memory database is rolled back and kept instead.

        The thread works its queue in order: whoever gets the connection next comes after the rollback.
        """
        self.due = False
        self.db.interrupt()
        if not self._keep:
            stopped: asyncio.Future[Any] | None = self.raw.stop()
            return stopped
        job: Any = self.work(_sqlite_clear, self.db)
        job.send(None)  # puts the work into the queue
        job.close()  # nobody waits for it
        return None

    async def block(self, work: Callable[..., Any], *args: Any) -> Any:
        """Run blocking code in the connection's own thread."""
        context = contextvars.copy_context()
        return await self.work(context.run, _run_once, [functools.partial(work, *args)])


def _run_once(job: list[Callable[[], Any]]) -> Any:
    """Run the work and let go of it: the thread remembers its last job, and all that refers to."""
    return job.pop()()


def _sqlite_rows(db: Any, start: str | None, text: str, args: Any) -> list[Any]:
    if start is not None:
        db.execute(start)
    rows: list[Any] = db.execute(text, args).fetchall()
    return rows


def _sqlite_answer(db: Any, start: str | None, text: str, args: Any) -> Reply:
    if start is not None:
        db.execute(start)
    cursor = db.execute(text, args)
    rows = cursor.fetchall() if cursor.description else []
    return Reply(cursor.description, rows, cursor.rowcount, cursor.lastrowid)


def _sqlite_change(db: Any, start: str | None, text: str, args: Any) -> int:
    if start is not None:
        db.execute(start)
    rowcount: int = db.execute(text, args).rowcount
    return rowcount


def _sqlite_change_many(db: Any, start: str | None, text: str, rows: Any) -> int:
    if start is not None:
        db.execute(start)
    rowcount: int = db.executemany(text, rows).rowcount
    return rowcount


def _sqlite_insert_each(db: Any, start: str | None, text: str, rows: Any) -> list[int]:
    if start is not None:
        db.execute(start)
    cursor = db.cursor()
    execute = cursor.execute
    found = []
    for row in rows:
        execute(text, row)
        found.append(cursor.lastrowid)
    return found


def _sqlite_open(db: Any, start: str | None, text: str, args: Any) -> Any:
    if start is not None:
        db.execute(start)
    return db.execute(text, args)


def _sqlite_clear(db: Any) -> None:
    if db.in_transaction:
        db.rollback()


class Asyncpg(Native):
    """asyncpg: `$n` texts with casts, statements prepared and kept by the driver itself."""

    def __init__(self, raw: Any, dialect: Any, begin_text: str = "BEGIN") -> None:
        super().__init__(raw, dialect, begin_text)
        self.isolation: str | None = None
        self.readonly = False
        self.deferrable = False

    async def _begin(self) -> None:
        self.due = False
        await self.raw.execute(self.begin_text)

    def set_isolation(self, level: str | None) -> None:
        """Note how transactions begin from now on; "autocommit" means: not at all."""
        self.autocommit = level == "autocommit"
        self.isolation = None if self.autocommit else level
        self.note_characteristics()

    def note_characteristics(self) -> None:
        """Write the text of BEGIN anew."""
        parts = ["BEGIN"]
        if self.isolation:
            parts.append("ISOLATION LEVEL " + self.isolation.replace("_", " ").upper())
        if self.readonly:
            parts.append("READ ONLY")
        if self.deferrable:
            parts.append("DEFERRABLE")
        self.begin_text = " ".join(parts)

    def rows(self, text: str, args: tuple[Any, ...]) -> Awaitable[list[Any]]:
        """Run a statement and return its rows."""
        if self.due:
            return self._begin_rows(text, args)
        rows: Awaitable[list[Any]] = self.raw.fetch(text, *args)
        return rows

    async def _begin_rows(self, text: str, args: tuple[Any, ...]) -> list[Any]:
        await self._begin()
        rows: list[Any] = await self.raw.fetch(text, *args)
        return rows

    async def described(self, text: str, args: tuple[Any, ...]) -> tuple[Any, list[Any]]:
        """Run a statement and return its cursor description with its rows."""
        if self.due:
            await self._begin()
        statement = await self.raw.prepare(text)
        return _asyncpg_description(statement), await statement.fetch(*args)

    async def change(self, text: str, args: tuple[Any, ...]) -> int:
        """Run a statement and return its row count."""
        if self.due:
            await self._begin()
        return _tag_count(await self.raw.execute(text, *args))

    async def change_many(self, text: str, rows: Sequence[Any]) -> int:
        """Run a statement once per row of arguments; asyncpg does not tell the row count."""
        if self.due:
            await self._begin()
        await self.raw.executemany(text, rows)
        return -1

    async def answer(self, text: str, params: Any, *, many: bool, positional: bool) -> Reply:
        """Run a statement of Core."""
        if many:
            return Reply(None, [], await self.change_many(text, params), None)
        if self.due:
            await self._begin()
        statement = await self.raw.prepare(text)
        rows = await statement.fetch(*(params or ()))
        count = _tag_count(statement.get_statusmsg())
        return Reply(_asyncpg_description(statement) or None, rows, count, None)

    async def open(self, text: str, params: Any, *, positional: bool) -> tuple[Any, Any]:
        """Start a statement whose rows are fetched bit by bit."""
        if self.due:
            await self._begin()
        statement = await self.raw.prepare(text)
        return await statement.cursor(*(params or ())), _asyncpg_description(statement)

    def more(self, handle: Any, size: int) -> Awaitable[list[Any]]:
        """Fetch the next rows of an open statement."""
        rows: Awaitable[list[Any]] = handle.fetch(size)
        return rows

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open or due."""
        return self.due or (not self.raw.is_closed() and self.raw.is_in_transaction())

    @property
    def closed(self) -> bool:
        """Whether the connection is closed; the event loop notices the end of the stream by itself."""
        return bool(self.raw.is_closed())

    async def close(self) -> None:
        """Say goodbye and close, within two seconds."""
        await self.raw.close(timeout=2)

    def terminate(self) -> None:
        """Close at once."""
        self.due = False
        try:
            self.raw.terminate()
        except RuntimeError:  # its event loop is closed: the socket went with it
            return

    async def follow_schema(self, asof: float) -> None:
        """Forget cached types and statements if DDL ran since this connection learnt them."""
        if asof > self.schema_asof:
            self.schema_asof = asof
            await self.raw.reload_schema_state()


def _asyncpg_description(statement: Any) -> list[tuple[Any, ...]]:
    return [(a.name, a.type.oid, None, None, None, None, None) for a in statement.get_attributes()]


def _tag_count(tag: str | None) -> int:
    """Return the row count a command tag ends with, such as "UPDATE 3"; -1 without one."""
    count = (tag or "").rpartition(" ")[2]
    return int(count) if count.isdigit() else -1


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
        self._poll = select.poll()
        self._poll.register(raw.pgconn.socket, select.POLLIN)

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
        await cursor.execute(text, params)
        return cursor, cursor.description

    async def more(self, handle: Any, size: int) -> list[Any]:
        """Fetch the next rows of an open statement."""
        rows: list[Any] = await handle.fetchmany(size)
        return rows

    async def shut(self, handle: Any) -> None:
        """End an open statement."""
        await handle.close()

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return bool(self.raw.pgconn.transaction_status != 0)  # libpq's PQTRANS_IDLE

    async def commit(self) -> None:
        """Commit; psycopg sends nothing where nothing was started."""
        await self.raw.commit()

    async def rollback(self) -> None:
        """Roll back; psycopg sends nothing where nothing was started."""
        await self.raw.rollback()

    @property
    def closed(self) -> bool:
        """Whether the connection is closed, or its idle socket has something to say: the end, mostly."""
        return bool(self.raw.closed or self._poll.poll(0))

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
        closing = self.raw.close()  # psycopg's close awaits nothing outside a pool of its own
        try:
            closing.send(None)
        except StopIteration:
            return
        closing.close()
        self.raw.pgconn.finish()


NATIVES: dict[str, type[Native]] = {"aiosqlite": Aiosqlite, "asyncpg": Asyncpg, "psycopg": PsycopgAsync}
