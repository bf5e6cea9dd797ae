"""`CoreLane`: performs the requests of a session through SQLAlchemy Core's own Connection.

This is the *slow lane*, for engines that somebody listens to or logs, and for dialects that are not in the
driver table. The statements are the same as on the fast lane, and so are the results;
`tests/engine/test_lanes.py` compares them. Core's Connection shows each statement to the pool's proxy, which
also exchanges a connection that is dead before its first statement.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from sqlalchemy.exc import DBAPIError, InvalidRequestError

from sojourn.engine.sending import ONE_READ, Stream, bind_rows
from sojourn.engine.taint import is_plain_read
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
    from collections.abc import Callable, Iterator

    from sqlalchemy.engine import Connection as CoreConnection
    from sqlalchemy.engine import CursorResult, NestedTransaction


class CoreLane:
    """A connection of *engine* whose every statement Core sends."""

    __slots__ = ("__weakref__", "_core", "_first", "_savepoints", "engine")

    def __init__(self, engine: Any, core: CoreConnection) -> None:
        self.engine = engine
        self._core = core
        self._first: int = engine.retry is not None  # as in Connection; without `retry` nobody asks
        self._savepoints: dict[str, NestedTransaction] = {}

    def perform(self, request: Any) -> Any:
        """Carry out *request* and return its reply."""
        kind = request.__class__
        if self._first and kind is not Begin:
            had_read, self._first = self._first == ONE_READ, False
            if had_read and kind is Finish:
                return self._finish_read()
            if not had_read and kind in _READS and is_plain_read(request.plan.text, self.engine.dialect.name):
                return self._read_twice(request)
        return self._replies[kind](self, request)

    def _read_twice(self, request: Fetch | Rows) -> Any:
        """Perform a query that is the first statement; once more if its connection is gone."""
        core = self._core
        try:
            reply = self._replies[request.__class__](self, request)
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
            begun = core.in_transaction()
            core.rollback()
            if begun:
                core.begin()
            reply = self._replies[request.__class__](self, request)
        self._first = ONE_READ
        return reply

    def _finish_read(self) -> None:
        """Commit a transaction that was one read, and give the connection back; nothing can be lost."""
        try:
            self._commit(None)
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
        self.release()

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction was begun and not ended."""
        return self._core.in_transaction()

    def core_connection(self) -> CoreConnection:
        """Return Core's Connection."""
        self._first = False
        return self._core

    def release(self, *, discard: bool = False) -> None:
        """Give the connection back to its pool; *discard* closes it instead."""
        if self._core.closed:
            return
        self._savepoints.clear()
        if discard:
            self._core.invalidate()
        self._core.close()

    def abandon(self) -> None:
        """Close the driver connection and free its place, without talking to the server."""
        self.release(discard=True)

    def invalidate(self, error: BaseException | None = None) -> None:
        """Close the driver connection, which nobody must use again."""
        if not self._core.closed:
            self._core.invalidate(error)

    # -- requests ---------------------------------------------------------------------------

    @contextmanager
    def _plan_cursors(self) -> Iterator[None]:
        """Let Core make the cursors that the plans were written for: psycopg's for $n."""
        if self.engine.plan_dialect.paramstyle != "numeric_dollar":
            yield
            return
        import psycopg  # noqa: PLC0415 - an optional driver

        driver = self._core.connection.dbapi_connection
        before = driver.cursor_factory, driver.server_cursor_factory  # type: ignore[union-attr]
        driver.cursor_factory, driver.server_cursor_factory = psycopg.RawCursor, psycopg.RawServerCursor  # type: ignore[union-attr]
        try:
            yield
        finally:
            driver.cursor_factory, driver.server_cursor_factory = before  # type: ignore[union-attr]

    def _run(self, text: str, args: Any, **options: Any) -> CursorResult[Any]:
        with self._plan_cursors():
            return self._core.exec_driver_sql(text, args, execution_options=options or None)

    def _fetch(self, request: Fetch) -> list[Any]:
        plan = request.plan
        result = self._run(*plan.bind(request.params))
        if plan.loader is None:
            plan.resolve(_description(result))
        load = plan.loader.scalars if request.scalars else plan.loader.load
        return load([tuple(row) for row in result], request.identity, request.flags)  # type: ignore[no-any-return]

    def _execute(self, request: Execute) -> int:
        result = self._run(*request.plan.bind(request.params))
        count = result.rowcount
        result.close()
        return count

    def _rows(self, request: Rows) -> list[tuple[Any, ...]]:
        result = self._run(*request.plan.bind(request.params))
        description = _description(result)
        rows: list[tuple[Any, ...]] = request.plan.process_rows([tuple(row) for row in result], description)
        return rows

    def _execute_many(self, request: ExecuteMany) -> int:
        text, rows = bind_rows(request)
        return self._run(text, list(rows)).rowcount if rows else 0

    def _insert_each(self, request: InsertEach) -> list[int]:
        text, rows = bind_rows(request)
        return [self._run(text, row).lastrowid for row in rows]

    def _core_request(self, request: Core) -> Any:
        return self._core.execute(
            request.statement, request.params, execution_options=request.options or None
        )

    def _open(self, request: Open) -> Stream:
        text, args = request.plan.bind(request.params)
        result = self._run(text, args, stream_results=True, max_row_buffer=request.size)
        if request.plan.loader is None and _description(result) is not None:
            request.plan.resolve(_description(result))
        return Stream(result, request.plan, text, args)

    def _more(self, request: More) -> list[Any]:
        stream = request.handle
        rows = [tuple(row) for row in stream.source.fetchmany(request.size)]
        if stream.plan.loader is None and _description(stream.source) is not None:
            stream.plan.resolve(_description(stream.source))  # psycopg2 learns it with the first rows
        return rows

    def _close_stream(self, request: Close) -> None:
        request.handle.source.close()

    # -- transactions -----------------------------------------------------------------------

    def _begin(self, _request: Begin) -> None:
        self.begin()

    def begin(self) -> None:
        """Start a transaction, if none is open."""
        if not self._core.in_transaction():
            self._core.begin()

    def _finish(self, _request: Finish) -> None:
        self._commit(None)
        self.release()

    def _commit(self, _request: Commit | None) -> None:
        self._core.commit()
        self._savepoints.clear()

    def _rollback(self, _request: Rollback) -> None:
        self._core.rollback()
        self._savepoints.clear()

    def _savepoint(self, request: Savepoint) -> None:
        self._savepoints[request.name] = self._core.begin_nested()

    def _release(self, request: Release) -> None:
        savepoint = self._savepoints.pop(request.name, None)
        if savepoint is not None and savepoint.is_active:
            for newer in self._newer_savepoints(savepoint):
                newer.commit()
            savepoint.commit()

    def _rollback_to(self, request: RollbackTo) -> None:
        savepoint = self._savepoints.pop(request.name, None)
        if savepoint is not None and savepoint.is_active:
            for newer in self._newer_savepoints(savepoint):
                newer.rollback()
            savepoint.rollback()

    def _newer_savepoints(self, savepoint: NestedTransaction) -> Iterator[NestedTransaction]:
        while (newest := self._core.get_nested_transaction()) is not savepoint and newest is not None:
            yield newest

    def _prepare(self, request: Prepare) -> NoReturn:
        msg = (
            f"Two-phase commit is not there yet: {request.name!r} was not prepared. "
            "Use a session per engine, or engine.connect().begin_twophase()."
        )
        raise InvalidRequestError(msg)

    def _return(self, request: Return) -> None:
        self.release(discard=request.discard)

    _replies: ClassVar[dict[type, Callable[[Any, Any], Any]]] = {
        Fetch: _fetch,
        Execute: _execute,
        Rows: _rows,
        ExecuteMany: _execute_many,
        InsertEach: _insert_each,
        Core: _core_request,
        Open: _open,
        More: _more,
        Close: _close_stream,
        Begin: _begin,
        Commit: _commit,
        Finish: _finish,
        Rollback: _rollback,
        Savepoint: _savepoint,
        Release: _release,
        RollbackTo: _rollback_to,
        Prepare: _prepare,
        Return: _return,
    }

    def __repr__(self) -> str:
        state = "returned" if self._core.closed else "in transaction" if self.in_transaction else "idle"
        return f"<{type(self).__name__} {self.engine.dialect.name}+{self.engine.dialect.driver} {state}>"


_READS = {Fetch, Rows}


def _description(result: CursorResult[Any]) -> Any:
    """Return the driver's description of a result's columns, None once it is exhausted."""
    cursor: Any = result.cursor
    return None if cursor is None else cursor.description
