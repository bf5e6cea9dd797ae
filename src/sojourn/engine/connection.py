"""`Connection`: performs the requests of a session on one pooled driver connection, blocking.

This is the *fast lane*: it speaks to the driver directly, with one cursor kept per connection. The *slow
lane* (`corelane.py`) answers the same requests through SQLAlchemy Core's Connection.

`core_connection()` gives Core's Connection over the same driver connection. From then on
commits and rollbacks go through it, so that both sides know the state of the transaction.

A `Connection` is kept with its pool record between leases: it, its cursor and its proxy are not made anew.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from sqlalchemy.exc import InvalidRequestError, PendingRollbackError

from sojourn import corelink
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
from sojourn.kernel.units import run_each

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy.engine import Connection as CoreConnection

    from sojourn.engine.drivers import Driver
    from sojourn.plans import StatementPlan


#: The drivers' cursors keep their last rows; one that has read this many is not kept with an idle connection.
MOST_KEPT = 1000


class Stream:
    """A statement whose rows are still with the driver."""

    __slots__ = ("args", "plan", "source", "text")

    def __init__(self, source: Any, plan: StatementPlan, text: str, args: Sequence[Any]) -> None:
        self.source = source  # a driver's cursor, or Core's result on the slow lane
        self.plan = plan
        self.text = text
        self.args = args


class Connection:
    """The fast lane: one driver connection of *engine*, lent by its pool."""

    __slots__ = (
        "__weakref__", "_begun", "_core", "_cursor", "_iterate", "_marks", "_pool", "_prepared",
        "_proxy", "_record", "_resets", "_sql", "_stray", "dbapi", "driver", "engine", "lent",
    )  # fmt: skip

    def __init__(self, engine: Any, pool: Any, record: Any, proxy: Any, driver: Driver) -> None:
        self.engine = engine
        self.driver = driver
        self.dbapi: Any = record.dbapi_connection
        self._pool = pool
        self._record = record
        self._proxy = proxy  # Core's proxy, where the pool needs one
        self._cursor: Any = driver.cursor(self.dbapi)
        self._iterate = driver.iterate
        # Python 3.12's autocommit=True/False modes have transactions of their own; -1 is the classic mode.
        self._sql = driver.sql_transactions and getattr(self.dbapi, "autocommit", -1) == -1
        self._resets = getattr(pool, "exclusive", False) and corelink.reset_style(pool) == "rollback"
        self._core: CoreConnection | None = None
        self._marks: dict[str, Any] = {}  # savepoint -> Core's innermost savepoint when it was set
        self._prepared: str | None = None  # the name of the transaction, once it is prepared
        self._begun = False
        self._stray = False  # a statement ran outside a transaction we began
        self.lent = True

    # -- requests ---------------------------------------------------------------------------

    def perform(self, request: Any) -> Any:
        """Carry out *request* and return its reply."""
        kind = request.__class__
        if kind is Fetch:  # by far the most frequent: no second call
            plan = request.plan
            text, args = plan.bind(request.params)
            cursor = self._cursor or self._new_cursor()
            self._cursor = None  # a loader may run statements of its own while this one is read
            if not self._begun:
                self._stray = True
            try:
                cursor.execute(text, args)
                loader = plan.loader
                if loader is None:
                    plan.resolve(cursor.description)
                    loader = plan.loader
                rows = cursor if self._iterate else cursor.fetchall()
                if request.scalars:
                    reply = loader.scalars(rows, request.identity, request.flags)
                else:
                    reply = loader.load(rows, request.identity, request.flags)
            except BaseException as error:  # noqa: BLE001 - raised again in Core's words
                self._fail(error, text, args, cursor)
            if rows is cursor or len(rows) < MOST_KEPT:
                self._cursor = cursor
            return reply
        return self._replies[kind](self, request)

    def _execute(self, request: Execute) -> int:
        plan = request.plan
        text, args = plan.bind(request.params)
        cursor = self._run(text, args)
        self._cursor = cursor
        return cursor.rowcount  # type: ignore[no-any-return]

    def _rows(self, request: Rows) -> list[tuple[Any, ...]]:
        plan = request.plan
        text, args = plan.bind(request.params)
        cursor = self._run(text, args)
        try:
            rows = cursor.fetchall()
            description = cursor.description
        except BaseException as error:  # noqa: BLE001 - raised again in Core's words
            self._fail(error, text, args, cursor)
        if len(rows) < MOST_KEPT:
            self._cursor = cursor
        processed: list[tuple[Any, ...]] = plan.process_rows(rows, description)
        return processed

    def _execute_many(self, request: ExecuteMany) -> int:
        text, rows = bind_rows(request)
        cursor = self._cursor or self._new_cursor()
        self._cursor = None
        if not self._begun:
            self._stray = True
        try:
            cursor.executemany(text, rows)
        except BaseException as error:  # noqa: BLE001 - raised again in Core's words
            self._fail(error, text, rows, cursor, many=True)
        self._cursor = cursor
        return cursor.rowcount  # type: ignore[no-any-return]

    def _insert_each(self, request: InsertEach) -> list[int]:
        text, rows = bind_rows(request)
        cursor = self._cursor or self._new_cursor()
        self._cursor = None
        if not self._begun:
            self._stray = True
        try:
            keys: list[int] = run_each(cursor, text, rows)
        except BaseException as error:  # noqa: BLE001 - raised again in Core's words
            self._fail(error, text, rows, cursor, many=True)
        self._cursor = cursor
        return keys

    def _core_request(self, request: Core) -> Any:
        return self.core_connection().execute(
            request.statement, request.params, execution_options=request.options or None
        )

    # -- streams ----------------------------------------------------------------------------

    def _open(self, request: Open) -> Stream:
        plan = request.plan
        text, args = plan.bind(request.params)
        if not self._begun:
            self._stray = True
        cursor = None
        try:
            cursor = self.driver.stream(self._driver_connection(), request.size)
            cursor.execute(text, args)
            if plan.loader is None and cursor.description is not None:
                plan.resolve(cursor.description)
        except BaseException as error:  # noqa: BLE001 - raised again in Core's words
            self._fail(error, text, args, cursor)
        return Stream(cursor, plan, text, args)

    def _more(self, request: More) -> list[Any]:
        stream = request.handle
        try:
            rows: list[Any] = list(stream.source.fetchmany(request.size))
            if stream.plan.loader is None and stream.source.description is not None:
                stream.plan.resolve(stream.source.description)  # psycopg2 learns it with the first rows
        except BaseException as error:  # noqa: BLE001 - raised again in Core's words
            self._fail(error, stream.text, stream.args, stream.source)
        return rows

    def _close_stream(self, request: Close) -> None:
        if self.dbapi is not None:
            try:
                request.handle.source.close()
            except BaseException as error:  # noqa: BLE001 - raised again in Core's words
                self._fail(error, None, None, None)

    # -- transactions -----------------------------------------------------------------------

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction was begun and not ended, from either side."""
        return self._begun if self._core is None else self._core.in_transaction()

    def _begin(self, _request: Begin) -> None:
        self.begin()

    def begin(self) -> None:
        """Start a transaction, if none is open."""
        core = self._core
        if core is not None:
            if not core.in_transaction():
                core.begin()
        elif self._sql:
            dbapi = self.dbapi or self._driver_connection()
            if not dbapi.in_transaction and (level := dbapi.isolation_level) is not None:
                self._command(f"BEGIN {level}" if level else "BEGIN")
        self._begun = True  # the other drivers begin with the first statement, at no cost

    def _finish(self, _request: Finish) -> None:
        self._commit(None)
        self.release()

    def _commit(self, _request: Commit | None) -> None:
        if self._prepared is not None:
            self._finish_prepared("COMMIT")
            return
        core = self._core
        if core is not None:
            core.commit()
        elif self._sql:
            if (self.dbapi or self._driver_connection()).in_transaction:
                self._command("COMMIT")
        else:
            dbapi = self._driver_connection()
            try:
                dbapi.commit()
            except BaseException as error:  # noqa: BLE001 - raised again in Core's words
                self._fail(error, None, None, None)
        self._end()

    def _rollback(self, _request: Rollback | None) -> None:
        if self._prepared is not None:
            self._finish_prepared("ROLLBACK")
            return
        core = self._core
        if core is not None:
            core.rollback()
        elif self._sql and self.dbapi is not None:
            if self.dbapi.in_transaction:
                self._command("ROLLBACK")
        elif self.dbapi is not None:
            try:
                self.dbapi.rollback()
            except BaseException as error:  # noqa: BLE001 - raised again in Core's words
                self._fail(error, None, None, None)
        self._end()

    def _end(self) -> None:
        self._begun = self._stray = False
        if self._marks:
            self._marks = {}

    def _savepoint(self, request: Savepoint) -> None:
        if self._core is not None:
            self._marks[request.name] = self._core.get_nested_transaction()
        self._command(f"SAVEPOINT {request.name}")

    def _release(self, request: Release) -> None:
        for newer in self._newer_savepoints(request.name):
            newer.commit()
        self._command(f"RELEASE SAVEPOINT {request.name}")
        self._marks.pop(request.name, None)

    def _rollback_to(self, request: RollbackTo) -> None:
        if self.dbapi is None:
            return  # nothing is left of the transaction
        for newer in self._newer_savepoints(request.name):
            newer.rollback()
        self._command(f"ROLLBACK TO SAVEPOINT {request.name}")

    def _newer_savepoints(self, name: str) -> Any:
        """Yield Core's savepoints that were set after ours of this name, the newest first."""
        if self._core is not None:
            mark = self._marks.get(name)
            while (newest := self._core.get_nested_transaction()) is not mark and newest is not None:
                yield newest

    def _prepare(self, request: Prepare) -> None:
        if self.driver.prepares is None:
            msg = (
                f"{self.driver.name} cannot prepare a transaction that a session has begun: {request.name!r} "
                "was not prepared. Use a session per engine, or engine.connect().begin_twophase()."
            )
            raise InvalidRequestError(msg)
        self._command(self.driver.prepares.format(request.name))
        self._prepared = request.name

    def _finish_prepared(self, verb: str) -> None:
        """End a prepared transaction, which no longer belongs to the connection; it stands outside of any."""
        name, self._prepared = self._prepared, None
        dbapi = self._driver_connection()
        try:
            # nothing is left to end, but Core and the driver may not have noticed
            (dbapi if self._core is None else self._core).rollback()
            dbapi.autocommit = True
            try:
                self._command(f"{verb} PREPARED '{name}'")
            finally:
                if self.dbapi is not None:
                    dbapi.autocommit = False
        except self.engine.dialect.loaded_dbapi.Error as error:
            self._fail(error, None, None, None)
        self._end()

    def _return(self, request: Return) -> None:
        self.release(discard=request.discard)

    _replies: ClassVar[dict[type, Callable[[Any, Any], Any]]] = {
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

    # -- sharing with Core ------------------------------------------------------------------

    def core_connection(self) -> CoreConnection:
        """Return Core's Connection over this driver connection and its transaction."""
        core = self._core
        if core is None:
            self._driver_connection()
            proxy = self._proxy or corelink.LentProxy(self._pool, self._record)
            core = corelink.lent_connection(self.engine, proxy)
            if self._begun:
                core.begin()
            self._core = core
            self._stray = True
        return core

    # -- the end ----------------------------------------------------------------------------

    def release(self, *, discard: bool = False) -> None:
        """Give the connection back to its pool; *discard* closes it instead. A second call does nothing."""
        if not self.lent:
            return
        record, core = self._record, self._core
        if core is self._proxy is None and not discard and self.dbapi is not None:
            dirty = self._begun or self._stray
            if dirty:
                if self._resets:
                    self._reset()
                    dirty = False
                self._end()
            self.lent = False
            record.lane = self if self.dbapi is not None else None
            self._pool.end_lease(record, dirty)
            return
        self.lent = False
        try:
            if discard:
                self.invalidate()
            elif core is not None:
                core.close()
        finally:
            dirty = self._begun or self._stray
            self._core = None
            self._end()
            if self._proxy is not None:
                if core is None or self.dbapi is None:
                    self._proxy.close()
            else:
                record.lane = self if self.dbapi is not None else None
                self._pool.end_lease(record, dirty)

    def _reset(self) -> None:
        """Roll back what a session left, by the short way; close the connection if that fails."""
        try:
            self._rollback(None)
        except Exception as error:
            self._pool.logger.exception("Exception during reset or similar")
            self.invalidate(error)

    def abandon(self) -> None:
        """Close the driver connection and free its place, without talking to the server."""
        self.release(discard=True)

    def invalidate(self, error: BaseException | None = None) -> None:
        """Close the driver connection, which nobody must use again."""
        core, self.dbapi, self._cursor = self._core, None, None
        if core is not None and not core.closed:
            core.invalidate(error)
        self._record.invalidate(error)
        if self._proxy is not None and self._proxy.dbapi_connection is not None:
            self._proxy.dbapi_connection = None

    def __del__(self) -> None:
        if getattr(self, "lent", False):
            warnings.warn(
                f"{self!r} was dropped without being given back; its work is rolled back. Close the session: "
                "with Session(engine) as session: ...",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )
            self.release()

    # -- driver -----------------------------------------------------------------------------

    def _run(self, text: str, args: Any) -> Any:
        """Execute on the kept cursor and return it; the caller puts it back."""
        cursor = self._cursor or self._new_cursor()
        self._cursor = None
        if not self._begun:
            self._stray = True
        try:
            cursor.execute(text, args)
        except BaseException as error:  # noqa: BLE001 - raised again in Core's words
            self._fail(error, text, args, cursor)
        return cursor

    def _command(self, text: str) -> None:
        """Execute a statement without parameters, rows or interest."""
        cursor = self._cursor or self._new_cursor()
        try:
            cursor.execute(text)
        except BaseException as error:  # noqa: BLE001 - raised again in Core's words
            self._cursor = None
            self._fail(error, text, (), cursor)

    def _driver_connection(self) -> Any:
        if self.dbapi is None or not self.lent:
            msg = "This connection was lost or given back. Roll back, then go on: session.rollback()."
            raise PendingRollbackError(msg)
        return self.dbapi

    def _new_cursor(self) -> Any:
        return self.driver.cursor(self._driver_connection())

    def _fail(
        self, error: BaseException, text: str | None, args: Any, cursor: Any, *, many: bool = False
    ) -> NoReturn:
        """Raise *error* as Core does; close the connection if it is lost or its state unknown."""
        dialect = self.engine.dialect
        if not isinstance(error, Exception):  # interrupted in the middle of the protocol
            self.invalidate(error)
            raise error
        if not isinstance(error, dialect.loaded_dbapi.Error):
            _close_quietly(cursor)
            raise error
        lost = dialect.is_disconnect(error, self.dbapi, cursor)
        if lost:
            corelink.invalidate_pool(self._pool, self._record, error)
            self.invalidate(error)
        else:
            _close_quietly(cursor)
        raise corelink.wrap_error(self.engine, error, text, args, disconnect=lost, many=many) from error

    def __repr__(self) -> str:
        state = "lost" if self.dbapi is None else "in transaction" if self.in_transaction else "idle"
        return f"<{type(self).__name__} {self.driver.name} {state if self.lent else 'returned'}>"


def bind_rows(request: ExecuteMany) -> tuple[str, Sequence[tuple[Any, ...]]]:
    """Return the text and the driver's arguments of a statement that runs once per row."""
    plan, rows = request.plan, request.rows
    if plan.binder.direct:
        return plan.text, rows
    bound = [plan.bind(row) for row in rows]
    return (bound[0][0] if bound else plan.text), [args for _, args in bound]


def _close_quietly(cursor: Any) -> None:
    """Close a cursor whose statement failed half-way: it would hold locks."""
    if cursor is not None:
        try:
            cursor.close()
        except Exception:  # noqa: BLE001, S110 - the first error is the one to tell
            pass
