"""aiosqlite: a sqlite3 connection that lives in a thread of its own."""

from __future__ import annotations

import contextvars
import functools
from typing import TYPE_CHECKING, Any

from sojourn.engine.bridge import DirectBridge
from sojourn.engine.natives import Native, Reply

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Sequence


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

    def cut(self) -> None:
        """Interrupt what runs."""
        try:
            self.db.interrupt()
        except Exception:  # noqa: BLE001 - closed
            return

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
