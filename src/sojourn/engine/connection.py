"""`Connection`: performs the requests of a session on one pooled driver connection, blocking.

This is the *fast lane*: it speaks to the driver directly, with one cursor kept per connection. The *slow
lane* (`corelane.py`) answers the same requests through SQLAlchemy Core's Connection.

`core_connection()` gives Core's Connection over the same driver connection. From then on
commits and rollbacks go through it, so that both sides know the state of the transaction.

Until a lease has run its first statement it holds no state: a connection whose socket has something to say is
pinged then, and one that is dead is exchanged silently. An engine with `retry="reads"` also repeats a first
statement that is a plain read and found the connection gone, and does not mind if the commit after such a
read, and nothing else, finds it gone. No other statement is ever sent twice.

A `Connection` is kept with its pool record between leases: it, its cursor and its proxy are not made anew.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from sqlalchemy.exc import DBAPIError, InvalidRequestError, PendingRollbackError

from sojourn import corelink
from sojourn.engine.proxies import LentProxy
from sojourn.engine.sending import ONE_READ, Stream, bind_rows, close_quietly
from sojourn.engine.taint import changes_session, is_plain_read
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
    from collections.abc import Callable

    from sqlalchemy.engine import Connection as CoreConnection

    from sojourn.engine.drivers import Driver
    from sojourn.plans import StatementPlan


#: The drivers' cursors keep their last rows; one that has read this many is not kept with an idle connection.
MOST_KEPT = 1000


class Connection:
    """The fast lane: one driver connection of *engine*, lent by its pool."""

    __slots__ = (
        "__weakref__", "_begun", "_core", "_cursor", "_first", "_iterate", "_marks", "_poll", "_pool",
        "_prepared", "_proxy", "_record", "_released", "_resets", "_sql", "_stray", "dbapi", "driver",
        "engine", "lent",
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
        self._released = ""  # a savepoint whose RELEASE travels with the next SAVEPOINT, if there is one
        self._prepared: str | None = None  # the name of the transaction, once it is prepared
        self._begun = False
        self._stray = False  # a statement ran outside a transaction we began
        self._poll = getattr(record, "poll", None)  # None: no socket, or a pool that is not ours
        self._first: int = self._poll is not None  # the next statement is the first one of the lease
        self.lent = True

    # -- requests ---------------------------------------------------------------------------

    def perform(self, request: Any) -> Any:
        """Carry out *request* and return its reply."""
        kind = request.__class__
        if kind is Fetch:  # by far the most frequent: no second call
            if self._first:
                return self._perform_first(request)
            plan = request.plan
            text, args = plan.bind(request.params)
            self._record.statement = text
            if plan.taints is not False:
                self._note(plan)
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
        cursor = self._run(plan, text, args)
        self._cursor = cursor
        return cursor.rowcount  # type: ignore[no-any-return]

    def _rows(self, request: Rows) -> list[tuple[Any, ...]]:
        if self._first:
            return self._perform_first(request)  # type: ignore[no-any-return]
        plan = request.plan
        text, args = plan.bind(request.params)
        cursor = self._run(plan, text, args)
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
        self._prepare_for(request.plan, text)
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
        self._prepare_for(request.plan, text)
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
        self._prepare_for(plan, text)
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

    def _commit(self, request: Commit | None) -> None:
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
                self._fail_commit(error, last=request is None)
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
        self._released = ""
        if self._marks:
            self._marks = {}

    def _savepoint(self, request: Savepoint) -> None:
        if self._core is not None:
            self._marks[request.name] = self._core.get_nested_transaction()
        pair = self.driver.command_pair
        if self._released and pair is not None:
            released, self._released = self._released, ""
            self._command(f"RELEASE SAVEPOINT {released}; SAVEPOINT {request.name}", pair)
        else:
            self._command(f"SAVEPOINT {request.name}")

    def _release(self, request: Release) -> None:
        driver, lost = self.driver, self.dbapi is None
        if driver.command_pair and self._core is None and not (lost or driver.aborted(self.dbapi)):
            # Nothing notices when it is sent, and with COMMIT or ROLLBACK it need not be: PostgreSQL -20 %.
            self._released = request.name
            return
        for newer in self._newer_savepoints(request.name):
            newer.commit()
        self._command(f"RELEASE SAVEPOINT {request.name}")
        self._marks.pop(request.name, None)

    def _rollback_to(self, request: RollbackTo) -> None:
        if self.dbapi is None:
            return  # nothing is left of the transaction
        self._released = ""
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
            if self._first:
                self._check()
            self._driver_connection()
            if self._released:
                self._command(f"RELEASE SAVEPOINT {self._released}")
                self._released = ""
            proxy = self._proxy or LentProxy(self._pool, self._record)
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
            self._first = self._poll is not None
            record.lane = self if self.dbapi is not None else None
            self._pool.end_lease(record, dirty or record.tainted)
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
                self._first = self._poll is not None
                record.lane = self if self.dbapi is not None else None
                self._pool.end_lease(record, dirty or record.tainted)

    def _reset(self) -> None:
        """Roll back what a session left, in bounded time; close the connection if that fails."""
        if self._poll is not None and self._prepared is None:
            if not self._pool.health.rollback(self.dbapi):
                self._pool.logger.error("A connection could not be rolled back in time; it is closed")
                self.invalidate()
            return
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

    def _run(self, plan: StatementPlan, text: str, args: Any) -> Any:
        """Execute on the kept cursor and return it; the caller puts it back."""
        if self._first:
            self._check()
        self._record.statement = text
        if plan.taints is not False:
            self._note(plan)
        cursor = self._cursor or self._new_cursor()
        self._cursor = None
        if not self._begun:
            self._stray = True
        try:
            cursor.execute(text, args)
        except BaseException as error:  # noqa: BLE001 - raised again in Core's words
            self._fail(error, text, args, cursor)
        return cursor

    def _command(self, text: str, execute: Any = None) -> None:
        """Execute a statement without parameters, rows or interest."""
        if self._first:
            self._check()
        cursor = self._cursor or self._new_cursor()
        try:
            cursor.execute(text) if execute is None else execute(cursor, text)
        except BaseException as error:  # noqa: BLE001 - raised again in Core's words
            self._cursor = None
            self._fail(error, text, (), cursor)

    def _prepare_for(self, plan: StatementPlan, text: str) -> None:
        """Do what comes before a statement that has no way of its own."""
        if self._first:
            self._check()
        self._record.statement = text
        if plan.taints is not False:
            self._note(plan)

    def _note(self, plan: StatementPlan) -> None:
        """Look at a plan that is new, and remember that a statement may change the server session."""
        if plan.taints is None:
            plan.taints = changes_session(plan.text, self.engine.dialect.name)
        if plan.taints:
            self._record.tainted = True  # the pool will clean it

    # -- the first statement of a lease -----------------------------------------------------------

    def _perform_first(self, request: Any) -> Any:
        """Perform a query that is the first statement of the lease; again, if the engine allows it."""
        first = self._first != ONE_READ
        self._check()
        engine = self.engine
        if not first or engine.retry != "reads" or not is_plain_read(request.plan.text, engine.dialect.name):
            return self.perform(request)
        try:
            reply = self.perform(request)
        except DBAPIError as error:
            if not error.connection_invalidated or not self._exchange():
                raise
            reply = self.perform(request)
        self._first = ONE_READ
        return reply

    def _fail_commit(self, error: BaseException, *, last: bool) -> None:
        """Raise *error*, unless all that the lease has done is the one read that the engine may repeat."""
        had_read = self._first == ONE_READ
        try:
            self._fail(error, None, None, None)
        except DBAPIError as failure:
            if not (last and had_read and failure.connection_invalidated):
                raise

    def _check(self) -> None:
        """Exchange the connection if it is dead and nothing has happened on it in this lease."""
        used = self._first == ONE_READ
        self._first = False
        if not used and self._poll is not None and self._poll(0) and not self._pool.health.ping(self.dbapi):
            self._exchange()

    def _exchange(self) -> bool:
        """Take another connection instead of one that is dead; tell whether that is possible."""
        if self._core is not None or not self.lent:
            return False
        begun = self._begun
        self.release(discard=True)
        fresh = self.engine.acquire()
        if type(fresh) is not Connection:  # somebody began to listen
            fresh.release()
            return False
        for name in _OF_THE_LEASE:
            setattr(self, name, getattr(fresh, name))
        fresh.lent = False
        self._first = False
        self.lent = True
        if begun:
            self.begin()
        return True

    # -- driver connection ------------------------------------------------------------------------

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
            close_quietly(cursor)
            raise error
        lost = dialect.is_disconnect(error, self.dbapi, cursor)
        if lost:
            corelink.invalidate_pool(self._pool, self._record, error)
            self.invalidate(error)
        else:
            close_quietly(cursor)
        raise corelink.wrap_error(self.engine, error, text, args, disconnect=lost, many=many) from error

    def __repr__(self) -> str:
        state = "lost" if self.dbapi is None else "in transaction" if self.in_transaction else "idle"
        return f"<{type(self).__name__} {self.driver.name} {state if self.lent else 'returned'}>"


_OF_THE_LEASE = ("_cursor", "_poll", "_pool", "_proxy", "_record", "_resets", "_sql", "dbapi")
