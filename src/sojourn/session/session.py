"""`Session` and `sessionmaker`: the blocking front of a session."""

from __future__ import annotations

import gc
import sys
from contextlib import contextmanager
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar, overload
from uuid import UUID

from sqlalchemy.exc import NoResultFound

from sojourn import errors
from sojourn.kernel.drive import drive, perform
from sojourn.kernel.identity import hot_get
from sojourn.kernel.state import dict_of
from sojourn.loading.result import Result, ScalarResult
from sojourn.session.binds import NOTHING
from sojourn.session.core import SessionCore
from sojourn.session.query import Query
from sojourn.session.transaction import Stage, TransactionCore

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from sqlalchemy import Connection

    from sojourn.flow import Flow
    from sojourn.session.reads import Stream

T = TypeVar("T")
S = TypeVar("S", bound="Session")
#: More entities than this are many: below it the collector has little to walk.
MANY: Final = 1000
#: From Python 3.12 on the collector runs between bytecodes only, never inside the kernel's loops.
COLLECTS_IN_LOOPS: Final = sys.version_info < (3, 12)
#: Key values that are keys as they stand; a tuple, list, dictionary or None needs a closer look.
PLAIN_KEYS = frozenset((int, str, UUID, bytes, date, datetime))


def load_missing(instance: Any, state: Any, name: str) -> Any:
    """Load an attribute that was read and is not there; what an identity map of a blocking session calls."""
    session = state.session
    if session is None:
        raise errors.DetachedRead(type(instance).__name__, name)
    return drive(session.load_flow(state, instance, name), perform)


class SessionTransaction(TransactionCore):
    """A transaction or savepoint of a blocking session; a context manager that commits or rolls back."""

    @property
    def session(self) -> Session:
        """The session this transaction belongs to."""
        core = self.core
        if not isinstance(core, Session):
            raise TypeError(core)
        return core

    def commit(self) -> None:
        """Commit this level and whatever is open inside it."""
        self.check("commit")
        drive(self.core.commit_flow(self), perform)

    def rollback(self) -> None:
        """Roll this level back, with whatever is open inside it."""
        self.check("rollback")
        drive(self.core.rollback_flow(self), perform)

    def prepare(self) -> None:
        """Prepare for two-phase commit."""
        drive(self.core.prepare_flow(), perform)

    def close(self, invalidate: bool = False) -> None:
        """End this level without a word: what was not committed is rolled back."""
        if self.stage in (Stage.ACTIVE, Stage.PREPARED, Stage.DEACTIVE):
            drive(self.core.rollback_flow(self), perform)

    def __enter__(self) -> Self:
        self.enter_block()
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        core = self.core
        self.leave_block()
        if kind is None:
            if self.stage is Stage.ACTIVE or self.stage is Stage.PREPARED:
                try:
                    drive(core.commit_flow(self), perform)
                except Exception:
                    if self.cause is not None:  # the block's flush failed: its level ends with it
                        drive(core.rollback_flow(self), perform)
                    raise
            elif self.stage is Stage.DEACTIVE and self.cause is not None:
                # The block swallowed the error of a failed flush: it cannot end as if all were well (CF-5).
                cause = self.cause
                drive(core.rollback_flow(self), perform)
                raise errors.PendingRollback(cause) from cause
        elif self.stage in (Stage.ACTIVE, Stage.PREPARED, Stage.DEACTIVE):
            drive(core.rollback_flow(self), perform)


class Session(SessionCore):
    """A conversation with the database: entities by identity, changes in batches, one transaction."""

    transaction_class = SessionTransaction
    query_cls: type[Query[Any]] = Query

    def __init__(
        self, bind: Any = None, *, query_cls: type[Query[Any]] | None = None, **options: Any
    ) -> None:
        if options:
            options.pop("future", None)  # accepted for old code: there is no other style
        super().__init__(bind, **options)
        self.identity.loader = load_missing
        if query_cls is not None:
            self.query_cls = query_cls

    def _run(self, flow: Flow[T]) -> T:
        """Drive a flow: the one door through which a blocking session acts."""
        try:
            result: T = drive(flow, perform)
            return result
        except Exception:
            raise
        except BaseException:
            self.cancelled()
            raise

    def _is_big_in_process(self) -> bool:
        """Whether a flush is a long loop in this process: many entities, embedded database, Python 3.11."""
        identity = self.identity
        if len(identity.new) + len(identity.dirty) + len(identity.deleted) <= MANY or not COLLECTS_IN_LOOPS:
            return False
        traits = getattr(self.bind, "traits", None)
        return traits is not None and bool(traits.lastrowid_loop)

    def _run_uncollected(self, flow: Flow[T]) -> T:
        """Drive a flow with the collector paused: it would walk the parameters of every row several times.

        A fifth of the time of a big flush on SQLite. Nothing waits meanwhile: the database is in the process.
        """
        if not gc.isenabled():
            return self._run(flow)
        gc.disable()
        try:
            return self._run(flow)
        finally:
            gc.enable()

    def _ask(self, request: Any) -> Any:
        """Perform a single request without a flow: what the two-phase operations do."""
        try:
            return request.lane.perform(request)
        except Exception:
            raise
        except BaseException:
            self.cancelled()
            raise

    # -- life -------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self.close()

    def close(self) -> None:
        """End the transaction, give connections back, let go of every entity; usable again afterwards."""
        if self.transaction is None and self.close_resets_only:
            self.identity.detach_all()
        else:
            drive(self.close_flow(), perform)

    def reset(self) -> None:
        """Do as close() does, and stay usable whatever close_resets_only says."""
        keep, self.close_resets_only = self.close_resets_only, True
        try:
            drive(self.close_flow(), perform)
        finally:
            self.close_resets_only = keep

    def invalidate(self) -> None:
        """Close, and drop the connections instead of giving them back."""
        self.identity.detach_all()
        self.discard()

    # -- transaction ------------------------------------------------------------------------

    def begin(self, nested: bool = False) -> SessionTransaction:
        """Begin a transaction; as a context manager it commits at the end and rolls back on errors."""
        if nested:
            return self.begin_nested()
        self._refuse_open_transaction()
        keep, self.autobegin = self.autobegin, True
        try:
            transaction = self.begin_transaction()
        finally:
            self.autobegin = keep
        return transaction  # type: ignore[return-value]

    def begin_nested(self) -> SessionTransaction:
        """Set a savepoint; as a context manager it is released at the end and rolled back on errors."""
        return self._run(self.begin_nested_flow())  # type: ignore[return-value]

    def commit(self) -> None:
        """Flush and commit; inside `with session.begin_nested()` this releases that savepoint (CF-3)."""
        level = self.transaction
        plain = level is not None and level.parent is None
        flow = self.commit_root_flow(level) if plain else self.commit_flow()  # type: ignore[arg-type]
        if self._is_big_in_process():
            self._run_uncollected(flow)
        else:
            self._run(flow)

    def rollback(self) -> None:
        """Roll back; inside `with session.begin_nested()` this undoes that savepoint only (CF-3)."""
        self._run(self.rollback_flow())

    def prepare(self) -> None:
        """Prepare the transaction for two-phase commit (Session(twophase=True))."""
        self._run(self.prepare_flow())

    def flush(self, objects: Iterable[Any] | None = None) -> None:
        """Send what changed to the database, without committing."""
        if self._is_big_in_process():
            self._run_uncollected(self.flush_flow(objects))
        else:
            self._run(self.flush_flow(objects))

    def connection(
        self,
        bind_arguments: Mapping[str, Any] | None = None,
        execution_options: Mapping[str, Any] | None = None,
    ) -> Connection:
        """Return SQLAlchemy's `Connection` on this session's transaction: the same database connection."""
        arguments = bind_arguments or NOTHING
        engine = self.get_bind(**arguments)
        lane = self._run(self.lane_flow(engine))
        connection: Connection = lane.core_connection()
        if execution_options:
            connection = connection.execution_options(**execution_options)
        return connection

    # -- reading ----------------------------------------------------------------------------

    def get(
        self,
        entity: type[T] | Any,
        ident: Any,
        *,
        options: Any = None,
        populate_existing: bool = False,
        with_for_update: Any = None,
        identity_token: Any = None,
        execution_options: Mapping[str, Any] = NOTHING,
        bind_arguments: Mapping[str, Any] | None = None,
    ) -> T | None:
        """Return the entity with this primary key, or None."""
        plain = not populate_existing and with_for_update is None and not execution_options
        if plain and bind_arguments is None:
            layout = getattr(entity, "__sojourn_layout__", None)
            if layout is not None and ident.__class__ in PLAIN_KEYS and layout.scalar_key:
                found: T | None = self.identity.find_loaded(layout, ident)
                if found is not None and found.__class__ is entity:
                    return found
                request = self.get_request(layout, ident)
                if request is not None:
                    rows = self._ask(request)
                    return rows[0] if rows else None
                loaded: T | None = self._run(self.load_one_flow(layout.mapper, ident))
                return loaded
        loaded = self._run(
            self.get_flow(
                entity,
                ident,
                populate_existing=populate_existing,
                with_for_update=with_for_update,
                execution_options=execution_options,
                bind=(bind_arguments or NOTHING).get("bind"),
            )
        )
        return loaded

    if not TYPE_CHECKING:
        get = hot_get(get)

    def get_one(self, entity: type[T] | Any, ident: Any, **options: Any) -> T:
        """Return the entity with this primary key; raise NoResultFound without one."""
        found: T | None = self.get(entity, ident, **options)
        if found is None:
            msg = f"No row was found for {getattr(entity, '__name__', entity)} with key {ident!r}"
            raise NoResultFound(msg)
        return found

    def get_many(self, entity: type[T], idents: Iterable[Any]) -> list[T | None]:
        """Return the entities with these keys in that order, None for the missing, in one statement (G2)."""
        return self._run(self.get_many_flow(entity, idents))

    def execute(
        self,
        statement: Any,
        params: Any = None,
        *,
        execution_options: Mapping[str, Any] = NOTHING,
        bind_arguments: Mapping[str, Any] | None = None,
    ) -> Result[Any]:
        """Run a statement; the result's rows hold entities where the statement selects mapped classes."""
        request = self.select_request(statement, False, params, execution_options, bind_arguments)
        if request is not None:
            plan = request.plan
            return Result(self._ask(request), plan.keys, single=plan.single)
        return self._run(self.execute_flow(statement, params, execution_options, bind_arguments))

    def scalars(
        self,
        statement: Any,
        params: Any = None,
        *,
        execution_options: Mapping[str, Any] = NOTHING,
        bind_arguments: Mapping[str, Any] | None = None,
    ) -> ScalarResult[Any]:
        """Run a statement; the result hands out the first value of each row."""
        request = self.select_request(statement, True, params, execution_options, bind_arguments)
        if request is not None:
            return ScalarResult(self._ask(request))
        return self._run(
            self.execute_flow(statement, params, execution_options, bind_arguments, scalars=True)
        )

    def scalar(self, statement: Any, params: Any = None, **options: Any) -> Any:
        """Run a statement and return the first value of its first row, or None."""
        return self.scalars(statement, params, **options).first()

    @overload
    def query(self, entity: type[T], /) -> Query[T]: ...
    @overload
    def query(self, *entities: Any) -> Query[Any]: ...
    def query(self, *entities: Any) -> Query[Any]:
        """Return a query over mapped classes or columns, in the style of SQLAlchemy 1.x."""
        return self.query_cls(entities, self)

    def pull_from(self, stream: Stream) -> Any:
        """Return what a streamed result calls for its next batch."""
        return lambda size: drive(stream.more_flow(size), perform)

    def load(self, instance: Any, *attributes: Any) -> None:
        """Load attributes that are not loaded, before they are read."""
        state = self.state_for(instance)
        for attribute in attributes:
            name = self.attribute_name(instance, attribute)
            if name not in dict_of(instance):
                self._run(self.load_flow(state, instance, name))

    def refresh(
        self, instance: Any, attribute_names: Iterable[Any] | None = None, with_for_update: Any = None
    ) -> None:
        """Load an entity anew, overwriting what is loaded; given names refresh only these."""
        self._run(self.refresh_flow(instance, attribute_names, with_for_update))

    def refresh_all(self, instances: Iterable[Any]) -> None:
        """Load several entities anew, in one statement per class and batch."""
        self._run(self.refresh_all_flow(list(instances)))

    # -- changing ---------------------------------------------------------------------------

    def merge(self, instance: T, *, load: bool = True, options: Any = None) -> T:
        """Copy the state of *instance* onto this session's entity of that key, and return it."""
        merged: T = self._run(self.merge_flow(instance, load=load))
        return merged

    def merge_all(self, instances: Iterable[T], *, load: bool = True, options: Any = None) -> list[T]:
        """Merge several, loading their targets in one statement per class and batch."""
        return self._run(self.merge_all_flow(instances, load=load))

    def bulk_insert_mappings(
        self,
        mapper: Any,
        mappings: Iterable[Mapping[str, Any]],
        return_defaults: bool = False,
        render_nulls: bool = False,
    ) -> None:
        """Insert rows given as dictionaries, without entities."""
        self._run(self.bulk_insert_flow(mapper, list(mappings), return_defaults, render_nulls))

    def bulk_update_mappings(self, mapper: Any, mappings: Iterable[Mapping[str, Any]]) -> None:
        """Update rows given as dictionaries that contain the primary key."""
        self._run(self.bulk_update_flow(mapper, list(mappings)))

    def bulk_save_objects(
        self,
        objects: Iterable[Any],
        return_defaults: bool = False,
        update_changed_only: bool = True,
        preserve_order: bool = True,
    ) -> None:
        """Insert or update entities without taking them into the session."""
        self._run(self.bulk_save_flow(list(objects), return_defaults, update_changed_only))

    def __repr__(self) -> str:
        identity, transaction = self.identity, self.transaction
        where = f" on {self.bind!r}" if self.bind is not None else ""
        sets = f"{len(identity.new)} new, {len(identity.dirty)} dirty, {len(identity.deleted)} deleted"
        return f"<Session{where}: {sets}, {'no transaction' if transaction is None else transaction!r}>"


def close_all_sessions() -> None:
    """Close every blocking session of this process.

    They are found among all objects the collector knows: slow, but it costs a session nothing to be found.
    """
    for session in [each for each in gc.get_objects() if issubclass(type(each), Session)]:
        session.close()


class sessionmaker(Generic[S]):  # noqa: N801 - the field's name
    """Makes sessions with the same arguments; calling it, `begin()` and `configure()` are all it does."""

    def __init__(self, bind: Any = None, *, class_: type[S] = Session, **options: Any) -> None:  # type: ignore[assignment]
        self.class_: type[S] = class_
        self.kw: dict[str, Any] = {"bind": bind, **options}

    def __call__(self, **local: Any) -> S:
        """Return a new session; keyword arguments override the maker's."""
        return self.class_(**{**self.kw, **local})

    @contextmanager
    def begin(self) -> Iterator[S]:
        """Yield a new session in a transaction that is committed at the end, and close it."""
        with self() as session, session.begin():
            yield session

    def configure(self, **options: Any) -> None:
        """Change the arguments of sessions made from now on."""
        self.kw.update(options)

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.kw.items() if value is not None)
        return f"sessionmaker({self.class_.__name__}, {given})"
