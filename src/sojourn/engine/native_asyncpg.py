"""asyncpg: `$n` texts with casts, statements prepared and kept by the driver itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sojourn.engine.natives import Native, Reply
from sojourn.engine.sockets import shut_down

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence


DISCARD = "RESET SESSION AUTHORIZATION; DISCARD TEMP; DISCARD SEQUENCES"
FOREIGN_STATEMENTS = "SELECT EXISTS (SELECT FROM pg_prepared_statements WHERE from_sql)"


class Asyncpg(Native):
    """asyncpg: `$n` texts with casts, statements prepared and kept by the driver itself."""

    def __init__(self, raw: Any, dialect: Any, begin_text: str = "BEGIN") -> None:
        super().__init__(raw, dialect, begin_text)
        self.isolation: str | None = None
        self.readonly = False
        self.deferrable = False
        # The private name of asyncpg used here (contract: tests/engine/test_async_natives.py).
        transport = getattr(raw, "_transport", None)
        sock = None if transport is None else transport.get_extra_info("socket")
        self._fd: int | None = None if sock is None else sock.fileno()
        self.watch()

    async def _begin(self) -> None:
        await self.raw.execute(self.begin_text)
        self.due = False  # not before: while it is due, nothing has been sent

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

    @property
    def number(self) -> int | None:
        """How the server numbers the session."""
        return self.raw.get_server_pid()  # type: ignore[no-any-return]

    def fileno(self) -> int | None:
        """Return the descriptor of the socket, None once it is closed."""
        return None if self.raw.is_closed() else self._fd

    async def ping(self) -> None:
        """Ask the server for a sign of life: one round trip, no statement."""
        await self.raw.execute("")

    def is_lost(self, error: Exception) -> bool:
        """Tell whether *error* means that there is no connection any more, or will be none in a moment."""
        return is_refusal(error) or super().is_lost(error)

    def unsent(self, error: BaseException) -> bool:
        """Tell whether *error* means that nothing has reached the server: BEGIN did not, or asyncpg refused.

        It refuses after the server's last words, which it has read before the end of the stream.
        """
        return self.due or is_refusal(error)

    def cut(self) -> None:
        """Let whoever uses the connection fail now."""
        self.terminate()

    @property
    def can_reset(self) -> bool:
        """Whether a session can be made as new: always, asyncpg sets nothing but at its start."""
        return True

    async def reset_session(self) -> bool:
        """Do what DISCARD ALL does, but for the statements that asyncpg has prepared and will use again."""
        await self.raw.reset()
        await self.raw.execute(DISCARD)
        prepared: bool = await self.raw.fetchval(FOREIGN_STATEMENTS)
        return not prepared

    async def close(self) -> None:
        """Say goodbye and close, within two seconds."""
        await self.raw.close(timeout=2)

    def terminate(self) -> None:
        """Close at once."""
        try:
            self.raw.terminate()
        except (
            RuntimeError
        ):  # its event loop is closed, and nobody will close the socket before the collector
            shut_down(self._fd)

    async def follow_schema(self, asof: float) -> None:
        """Forget cached types and statements if DDL ran since this connection learnt them."""
        if asof > self.schema_asof:
            self.schema_asof = asof
            await self.raw.reload_schema_state()


def is_refusal(error: BaseException) -> bool:
    """Tell whether asyncpg has refused to send anything on a connection that is about to end."""
    return type(error).__name__ == "InternalClientError" and "cannot switch to state" in str(error)


def _asyncpg_description(statement: Any) -> list[tuple[Any, ...]]:
    return [(a.name, a.type.oid, None, None, None, None, None) for a in statement.get_attributes()]


def _tag_count(tag: str | None) -> int:
    """Return the row count a command tag ends with, such as "UPDATE 3"; -1 without one."""
    count = (tag or "").rpartition(" ")[2]
    return int(count) if count.isdigit() else -1
