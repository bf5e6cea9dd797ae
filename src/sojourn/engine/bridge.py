"""A small DB-API over an async driver connection, for blocking code of SQLAlchemy Core in a thread.

`run_sync(metadata.create_all)`, `inspect(...)`, listeners and the slow lane are written for a blocking
DB-API. They run in a worker thread, and each statement is handed to the event loop, whose answer the
thread awaits; no greenlet is involved. A sqlite3 connection has a thread already: there blocking code
runs in that thread and calls sqlite3 itself.

Like a DB-API connection, a bridge starts a transaction by itself before the first statement. Statements
that must stand outside a transaction, or begin one, are left alone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

from sojourn import errors
from sojourn.engine.taint import changes_session

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator
    from concurrent.futures import Future

_NO_TRANSACTION = frozenset({"PRAGMA", "VACUUM", "ATTACH", "DETACH", "BEGIN", "ROLLBACK", "COMMIT"})


class BridgeCursor:
    """A DB-API cursor that has all its rows after `execute`."""

    def __init__(self, connection: BridgeConnection) -> None:
        self.connection = connection
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid: int | None = None
        self.arraysize = 1
        self._rows: deque[Any] = deque()

    def _answer(self, text: str, params: Any, *, many: bool) -> None:
        follow = self.__dict__.get("_invalidate_schema_cache_asof")  # Core's asyncpg dialect sets it
        if follow:
            self.connection.follow_schema(follow)
        reply = self.connection.answer(text, params, many=many)
        self.description, rows, self.rowcount, self.lastrowid = reply
        self._rows = deque(rows)

    def execute(self, text: str, params: Any = None) -> Any:
        """Run a statement."""
        self._answer(text, params, many=False)
        return self

    def executemany(self, text: str, params: Any) -> Any:
        """Run a statement once per set of parameters."""
        self._answer(text, params, many=True)
        return self

    def fetchone(self) -> Any:
        """Return the next row or None."""
        return self._rows.popleft() if self._rows else None

    def fetchmany(self, size: int | None = None) -> list[Any]:
        """Return the next rows."""
        rows = self._rows
        return [rows.popleft() for _ in range(min(size or self.arraysize, len(rows)))]

    def fetchall(self) -> list[Any]:
        """Return all rows that are left."""
        rows, self._rows = list(self._rows), deque()
        return rows

    def __iter__(self) -> Iterator[Any]:
        while self._rows:
            yield self._rows.popleft()

    def setinputsizes(self, *sizes: Any) -> None:
        """Accept and ignore sizes, as DB-API allows."""

    def close(self) -> None:
        """Forget the rows."""
        self._rows = deque()


class StreamCursor(BridgeCursor):
    """A DB-API cursor that fetches its rows bit by bit."""

    _handle: Any = None

    def execute(self, text: str, params: Any = None) -> Any:
        """Start a statement."""
        self._handle, self.description = self.connection.open(text, params)
        return self

    def _more(self, size: int) -> list[Any]:
        return [] if self._handle is None else self.connection.more(self._handle, size)

    def fetchone(self) -> Any:
        """Return the next row or None."""
        if not self._rows:
            self._rows.extend(self._more(50))
        return super().fetchone()

    def fetchmany(self, size: int | None = None) -> list[Any]:
        """Return the next rows."""
        missing = (size or self.arraysize) - len(self._rows)
        if missing > 0:
            self._rows.extend(self._more(missing))
        return super().fetchmany(size)

    def fetchall(self) -> list[Any]:
        """Return all rows that are left."""
        while more := self._more(1000):
            self._rows.extend(more)
        return super().fetchall()

    def __iter__(self) -> Iterator[Any]:
        while (row := self.fetchone()) is not None:
            yield row

    def close(self) -> None:
        """End the statement."""
        super().close()
        handle, self._handle = self._handle, None
        if handle is not None:
            self.connection.shut(handle)


class BridgeConnection:
    """The DB-API connection; subclasses say how a statement reaches the driver."""

    def __init__(self, native: Any) -> None:
        self.positional = False  # True while texts of the fast lane are run for listeners to see
        self.asked = 0  # how often blocking code wanted something of the connection
        self.serve(native)

    def serve(self, native: Any) -> None:
        """Reach the driver through *native* from now on."""
        self.native = native
        self._connection = native.raw  # the name under which Core's dialects find the driver connection

    def touch(self) -> None:
        """Note that the connection is asked for something."""
        self.asked += 1
        self.native.fresh = False

    def note(self, text: str) -> None:
        """Look at a statement before it is sent."""
        native = self.native
        native.statement = text
        if not native.tainted and changes_session(text, native.dialect.name):
            native.tainted = True

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Note the event loop that owns the connection; called by it before blocking code starts."""

    def abandon(self) -> None:
        """Refuse everything from now on: nobody waits for the thread any more."""

    def answer(self, text: str, params: Any, *, many: bool) -> Any:
        """Run a statement and return its reply."""
        raise NotImplementedError

    def open(self, text: str, params: Any) -> tuple[Any, Any]:
        """Start a streamed statement."""
        raise NotImplementedError

    def more(self, handle: Any, size: int) -> list[Any]:
        """Fetch rows of a streamed statement."""
        raise NotImplementedError

    def shut(self, handle: Any) -> None:
        """End a streamed statement."""
        raise NotImplementedError

    def commit(self) -> None:
        """Commit, if a transaction is open."""
        raise NotImplementedError

    def rollback(self) -> None:
        """Roll back, if a transaction is open."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the driver connection."""
        self.native.terminate()

    terminate = close

    def follow_schema(self, asof: float) -> None:
        """Let the driver forget cached types if they changed since *asof*."""

    def cursor(self, name: str | None = None, *, server_side: bool = False) -> BridgeCursor:
        """Return a cursor; a named or server-side one fetches its rows bit by bit."""
        return StreamCursor(self) if name or server_side else BridgeCursor(self)

    def execute(self, text: str, params: Any = None) -> BridgeCursor:
        """Run a statement on a new cursor, as sqlite3 connections offer."""
        cursor = self.cursor()
        cursor.execute(text, params)
        return cursor

    @property
    def driver_connection(self) -> Any:
        """The raw driver connection; what it is used for is not seen, so it is cleaned afterwards."""
        self.touch()
        self.native.tainted = True
        return self.native.raw

    @property
    def autocommit(self) -> bool:
        """Whether no transactions are started."""
        return bool(self.native.autocommit)

    @autocommit.setter
    def autocommit(self, value: bool) -> None:
        self.touch()
        self.native.autocommit = value
        if value:
            self.native.due = False

    def _starts(self, text: str) -> bool:
        """Whether *text* is to be preceded by the BEGIN of a new transaction."""
        native = self.native
        if native.autocommit or native.in_transaction:
            return False
        word = text.lstrip()[:8].split(maxsplit=1)
        return bool(word) and word[0].upper().rstrip(";") not in _NO_TRANSACTION


class ThreadBridge(BridgeConnection):
    """Statements go from a worker thread to the event loop; the thread waits for the answer (asyncpg)."""

    def __init__(self, native: Any) -> None:
        super().__init__(native)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pending: Future[Any] | None = None

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Note the event loop that owns the connection."""
        self._loop = loop

    def abandon(self) -> None:
        """Refuse everything from now on and cancel what is under way."""
        self._loop = None
        pending = self._pending
        if pending is not None:
            pending.cancel()

    def call(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on the event loop and wait for it in this thread."""
        loop = self._loop
        self.touch()
        if loop is None or _on_a_loop():
            work.close()
            raise errors.BlockingCall
        pending = self._pending = asyncio.run_coroutine_threadsafe(work, loop)
        try:
            return pending.result()
        except Exception as error:
            translated = self.native.translate(error)
            if translated is error:
                raise
            raise translated from error
        finally:
            self._pending = None

    def answer(self, text: str, params: Any, *, many: bool) -> Any:
        """Run a statement and return its reply."""
        native = self.native
        self.note(text)
        if self._starts(text):
            native.begin()
        lane = native.holder() if native.fresh and native.holder is not None else None
        if lane is None:
            return self.call(native.answer(text, params, many=many, positional=self.positional))
        return self.call(self._answer_first(lane, text, params, many))

    async def _answer_first(self, lane: Any, text: str, params: Any, many: bool) -> Any:
        """Run the first statement of a lease; if the connection was lost before that, on another one."""
        await lane.settle()
        for _ in range(lane.tries):
            native = self.native
            try:
                return await native.answer(text, params, many=many, positional=self.positional)
            except Exception as error:
                repeats = not many and lane.may_repeat(text)
                if not (native.is_lost(error) and (repeats or native.unsent(error))):
                    raise
                await lane.replace(error)
                self.note(text)
        return await self.native.answer(text, params, many=many, positional=self.positional)

    def open(self, text: str, params: Any) -> tuple[Any, Any]:
        """Start a streamed statement."""
        native = self.native
        self.note(text)
        if self._starts(text):
            native.begin()
        opened: tuple[Any, Any] = self.call(native.open(text, params, positional=self.positional))
        return opened

    def more(self, handle: Any, size: int) -> list[Any]:
        """Fetch rows of a streamed statement."""
        rows: list[Any] = self.call(self.native.more(handle, size))
        return rows

    def shut(self, handle: Any) -> None:
        """End a streamed statement."""
        self.call(self.native.shut(handle))

    def commit(self) -> None:
        """Commit, if a transaction is open."""
        if self.native.in_transaction:
            self.call(self.native.commit())

    def rollback(self) -> None:
        """Roll back, if a transaction is open."""
        if self.native.in_transaction:
            self.call(self.native.rollback())

    def follow_schema(self, asof: float) -> None:
        """Let the driver forget cached types if they changed since *asof*."""
        if asof > self.native.schema_asof:
            self.call(self.native.follow_schema(asof))

    # What Core's asyncpg dialect sets on a connection.

    def set_isolation_level(self, level: Any) -> None:
        """Set how transactions begin."""
        self.touch()
        self.rollback()
        self.native.set_isolation(level)

    @property
    def readonly(self) -> bool:
        """Whether transactions are read-only."""
        return bool(self.native.readonly)

    @readonly.setter
    def readonly(self, value: bool) -> None:
        self.touch()
        self.native.readonly = value
        self.native.note_characteristics()

    @property
    def deferrable(self) -> bool:
        """Whether transactions are deferrable."""
        return bool(self.native.deferrable)

    @deferrable.setter
    def deferrable(self, value: bool) -> None:
        self.touch()
        self.native.deferrable = value
        self.native.note_characteristics()

    def ping(self) -> None:
        """Ask the server for a sign of life."""
        self.call(self.native.ping())


class PsycopgBridge(ThreadBridge):
    """The same with what Core's psycopg dialect asks of a connection."""

    def _starts(self, text: str) -> bool:
        return False  # psycopg starts transactions by itself

    @property
    def autocommit(self) -> bool:
        """Whether no transactions are started."""
        return bool(self.native.raw.autocommit)

    @autocommit.setter
    def autocommit(self, value: bool) -> None:
        self.set_autocommit(value)

    def set_autocommit(self, value: bool) -> None:
        """Switch transactions off or on."""
        self.call(self.native.raw.set_autocommit(value))

    def set_isolation_level(self, level: Any) -> None:
        """Set how transactions begin."""
        self.call(self.native.raw.set_isolation_level(level))

    def set_read_only(self, value: Any) -> None:
        """Make transactions read-only."""
        self.call(self.native.raw.set_read_only(value))

    def set_deferrable(self, value: Any) -> None:
        """Make transactions deferrable."""
        self.call(self.native.raw.set_deferrable(value))

    def add_notice_handler(self, handler: Any) -> None:
        """Pass notices of the server to *handler*."""
        self.native.raw.add_notice_handler(handler)

    def tpc_begin(self, xid: Any) -> Any:
        """Begin a two-phase transaction."""
        return self.call(self.native.raw.tpc_begin(xid))

    def tpc_prepare(self) -> Any:
        """Prepare a two-phase transaction."""
        return self.call(self.native.raw.tpc_prepare())

    def tpc_commit(self, xid: Any = None) -> Any:
        """Commit a two-phase transaction."""
        return self.call(self.native.raw.tpc_commit(xid))

    def tpc_rollback(self, xid: Any = None) -> Any:
        """Roll back a two-phase transaction."""
        return self.call(self.native.raw.tpc_rollback(xid))

    def tpc_recover(self) -> Any:
        """List prepared transactions."""
        return self.call(self.native.raw.tpc_recover())

    def __getattr__(self, name: str) -> Any:
        if name in {"info", "adapters", "closed", "broken", "read_only"}:
            return getattr(self.native.raw, name)
        raise AttributeError(name)


class DirectBridge(BridgeConnection):
    """Blocking code runs in the thread of the sqlite3 connection and calls it itself."""

    def _reach(self) -> Any:
        """Return the driver's connection; an event loop must not wait for it."""
        self.touch()
        if asyncio._get_running_loop() is not None:  # noqa: SLF001 - documented, and raises nothing
            raise errors.BlockingCall
        return self.native.db

    def _db(self, text: str) -> Any:
        native, db = self.native, self._reach()
        self.note(text)
        if native.due:
            native.due = False
            db.execute(native.begin_text)
        elif self._starts(text):
            db.execute(native.begin_text)
        return db

    def answer(self, text: str, params: Any, *, many: bool) -> Any:
        """Run a statement and return its reply."""
        db = self._db(text)
        cursor = db.executemany(text, params) if many else db.execute(text, params or ())
        rows = cursor.fetchall() if cursor.description else []
        return cursor.description, rows, cursor.rowcount, cursor.lastrowid

    def open(self, text: str, params: Any) -> tuple[Any, Any]:
        """Start a streamed statement."""
        cursor = self._db(text).execute(text, params or ())
        return cursor, cursor.description

    def more(self, handle: Any, size: int) -> list[Any]:
        """Fetch rows of a streamed statement."""
        rows: list[Any] = handle.fetchmany(size)
        return rows

    def shut(self, handle: Any) -> None:
        """End a streamed statement."""
        handle.close()

    def commit(self) -> None:
        """Commit, if a transaction is open."""
        db = self._reach()
        self.native.due = False
        if db.in_transaction:
            db.commit()

    def rollback(self) -> None:
        """Roll back, if a transaction is open."""
        db = self._reach()
        self.native.due = False
        if db.in_transaction:
            db.rollback()

    @property
    def isolation_level(self) -> str | None:
        """What Core's dialect reads: None means autocommit."""
        return None if self.native.autocommit else ""

    @isolation_level.setter
    def isolation_level(self, value: str | None) -> None:
        self.touch()
        self.native.autocommit = value is None

    def __getattr__(self, name: str) -> Any:
        # create_function, create_aggregate, set_trace_callback ...: listeners know them from sqlite3
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._reach(), name)


def _on_a_loop() -> bool:
    """Whether the calling thread runs an event loop, which must not wait."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
