"""What a session holds and how it changes hands: entities, connections, and the transaction's flows."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from sojourn.errors import (
    NoBind,
    SessionClosed,
    TransactionState,
    UnmappedInstance,
)
from sojourn.flow import (
    Acquire,
    Commit,
    Finish,
    Flow,
    Prepare,
    Release,
    Return,
    Rollback,
    RollbackTo,
    Savepoint,
    ask,
)
from sojourn.kernel.identity import IdentityMap
from sojourn.kernel.state import DELETED, PENDING, PERSISTENT, TRANSIENT, InstanceState, state_of
from sojourn.mapping.configure import configure_mappers
from sojourn.session.binds import NOTHING, BindsCore
from sojourn.session.lifecycle import WORDS, check_move
from sojourn.session.transaction import Stage, TransactionCore
from sojourn.unitofwork.flush import flush_flow as run_flush_plan
from sojourn.unitofwork.flush import (
    lean_request,
    plan_batches,
    plan_flush,
    plan_lean,
    refuse_lean_flow,
    settle_lean,
)
from sojourn.unitofwork.record import FlushRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from sojourn.unitofwork.batches import FlushPlan

#: A before-flush listener may make new changes; more rounds than this is a loop (SQLAlchemy's number).
MOST_FLUSH_ROUNDS: Final = 100


class WorkCore(BindsCore):
    """The unit of work of a session and its transaction; no I/O."""

    #: Made for each level of the transaction; the fronts put in their own, with blocking or awaited methods.
    transaction_class: type[TransactionCore] = TransactionCore

    # What most sessions never change stands on the class: making a session is part of every request.
    autoflush: bool = True
    expire_on_commit: bool = True
    autobegin: bool = True
    twophase: bool = False
    close_resets_only: bool = True
    is_async: bool = False
    closed: bool = False
    transaction: TransactionCore | None = None
    _info: Mapping[Any, Any] | None = None
    _flushing: bool = False
    _quiet: int = 0  # how many no_autoflush blocks we are in

    def __init__(self, bind: Any = None, **options: Any) -> None:
        self.bind = bind
        self.identity = IdentityMap(self)
        self.lanes: dict[Any, Any] = {}  # engine -> connection
        if options:
            self._configure(**options)
        configure_mappers()

    def _configure(
        self,
        *,
        binds: Mapping[Any, Any] | None = None,
        autoflush: bool = True,
        expire_on_commit: bool = True,
        autobegin: bool = True,
        twophase: bool = False,
        info: Mapping[Any, Any] | None = None,
        close_resets_only: bool = True,
    ) -> None:
        if binds:
            self.set_binds(binds)
        self.autoflush = autoflush
        self.expire_on_commit = expire_on_commit
        self.autobegin = autobegin
        self.twophase = twophase
        self._info = info
        self.close_resets_only = close_resets_only

    @property
    def info(self) -> dict[Any, Any]:
        """A dictionary for whatever the program wants to keep with the session."""
        if not isinstance(self._info, dict):
            self._info = dict(self._info or NOTHING)
        return self._info

    # -- membership -------------------------------------------------------------------------

    def add(self, instance: Any, *, _warn: bool = True) -> None:
        """Put *instance* into this session: the next flush inserts a new one, updates a detached one."""
        if self.closed:
            raise SessionClosed(self)
        state = self.state_for(instance)
        if state.owner is self.identity:
            check_move(state, "add")
            self.identity.deleted.pop(state, None)
        else:
            self.identity.add(state, instance)

    def add_all(self, instances: Iterable[Any]) -> None:
        """Put each of *instances* into this session."""
        if self.closed:
            raise SessionClosed(self)
        self.identity.add_new(instances, self.add)

    def state_for(self, instance: Any) -> InstanceState:
        """Return the state of an entity; raise UnmappedInstance for anything else."""
        if isinstance(instance, type):
            raise UnmappedInstance(instance)
        state: InstanceState = state_of(instance)
        return state

    def delete(self, instance: Any) -> None:
        """Mark *instance* for deletion by the next flush."""
        if self.closed:
            raise SessionClosed(self)
        if self.identity.mark_deleted(instance):
            return
        state = self.state_for(instance)
        if state.life == DELETED and state.owner is self.identity:
            return
        check_move(state, "delete")
        if state.owner is not self.identity:
            self.identity.add(state, instance)
        self.identity.deleted[state] = instance

    def delete_all(self, instances: Iterable[Any]) -> None:
        """Mark each of *instances* for deletion by the next flush."""
        for instance in instances:
            self.delete(instance)

    def expunge(self, instance: Any) -> None:
        """Let go of *instance*: it becomes detached, or transient if it was never stored."""
        state = self.state_for(instance)
        if state.owner is not self.identity:
            msg = f"This {type(instance).__name__} is not in this session; it is {WORDS[state.life]}."
            raise TransactionState(msg, "Ask first: if obj in session: session.expunge(obj).")
        self.identity.discard(state)

    def expunge_all(self) -> None:
        """Let go of every entity; what was not flushed is forgotten."""
        self.identity.detach_all()

    def __contains__(self, instance: Any) -> bool:
        state = self.state_for(instance)
        return state.owner is self.identity and state.life in (PENDING, PERSISTENT)

    def __iter__(self) -> Iterator[Any]:
        yield from list(self.identity.new.values())
        yield from list(self.identity)

    @property
    def is_active(self) -> bool:
        """Whether work can go on: false after a failed flush until rollback()."""
        transaction = self.transaction
        return (self.autobegin or transaction is not None) if transaction is None else transaction.is_active

    @property
    @contextmanager
    def no_autoflush(self) -> Iterator[Any]:
        """A block in which queries send no flush; the setting returns after exceptions too (G5)."""
        before = self.autoflush
        self.autoflush = False
        self._quiet += 1
        try:
            yield self
        finally:
            self.autoflush = before
            self._quiet -= 1

    # -- what a rollback restores -----------------------------------------------------------

    def forget_insert(self, state: InstanceState) -> None:
        """Make an entity transient again whose INSERT was undone (or never sent); it keeps its values."""
        self.identity.discard(state)
        state.life = TRANSIENT
        state.owner = None
        state.key = None
        state.committed = None
        state.was_deleted = False

    def restore_key(self, state: InstanceState, key: Any) -> None:
        """Give an entity back the key it had before the undone flush."""
        instance = state.obj()
        self.identity.discard(state)
        state.key = key
        if instance is not None:
            self.identity.add(state, instance)

    def restore_deleted(self, state: InstanceState, instance: Any) -> None:
        """Make an entity persistent again whose DELETE was undone (or never sent)."""
        if state.life == DELETED:
            self.identity.add(state, instance)

    # -- connections and transaction --------------------------------------------------------

    def begin_transaction(self) -> TransactionCore:
        """Return the current transaction, beginning one if there is none."""
        transaction = self.transaction
        if transaction is None:
            if self.closed:
                raise SessionClosed(self)
            if not self.autobegin:
                msg = "This session was made with autobegin=False and is in no transaction."
                raise TransactionState(msg, "Begin one: session.begin(), or with session.begin(): ...")
            transaction = self.transaction = self.transaction_class(self, None)
        return transaction

    def lane_flow(self, engine: Any) -> Flow[Any]:
        """Return the connection of this transaction on *engine*, acquiring it at first need (B1)."""
        transaction = self.transaction or self.begin_transaction()
        if transaction.stage is not Stage.ACTIVE:
            transaction.check("use")
        lane = self.lanes.get(engine)
        if lane is None:
            self._check_engine(engine)
            lane = yield from ask(Acquire(engine))
            if transaction.parent is not None:
                yield from self._catch_up_flow(lane)
            self.lanes[engine] = lane
        return lane

    def _check_engine(self, engine: Any) -> None:
        """Raise NoBind for what is no engine of ours, or one of the other kind."""
        if not hasattr(engine, "perform"):
            raise NoBind(f"this work: {engine!r} was not made by sojourn.create_engine")
        if engine.dialect.is_async is not self.is_async:
            kind = "AsyncSession" if self.is_async else "Session"
            other = "create_engine" if self.is_async else "create_async_engine"
            raise NoBind(f"this work: {kind} cannot use {engine!r}, whose driver is for {other}")

    def _catch_up_flow(self, lane: Any) -> Flow[None]:
        """Set the savepoints that are open on a connection that comes late."""
        try:
            for level in reversed(list(self._levels())):
                if level.nested:
                    yield from ask(Savepoint(lane, level.name))
        except BaseException:
            lane.abandon()
            raise

    def _levels(self) -> Iterator[TransactionCore]:
        """Yield the levels of the transaction, innermost first."""
        level = self.transaction
        while level is not None:
            yield level
            level = level.parent

    def begin_nested_flow(self) -> Flow[TransactionCore]:
        """Flush, then set a savepoint on every connection in use."""
        parent = self.transaction or self.begin_transaction()
        if parent.stage is not Stage.ACTIVE:
            parent.check("use")
        identity = self.identity
        if identity.new or identity.dirty or identity.deleted:
            yield from self.flush_flow()
        level = self.transaction_class(self, parent)
        for lane in self.lanes.values():
            yield from ask(Savepoint(lane, level.name))
        self.transaction = level
        return level

    def commit_flow(self, upto: TransactionCore | None = None) -> Flow[None]:
        """Commit: the innermost savepoint block, or the whole transaction (CF-3).

        *upto* commits that level and everything inside it.
        """
        level = self.transaction
        if level is None:
            level = self.begin_transaction()
        if level.parent is None:
            yield from self.commit_root_flow(level)
            return
        target = upto or (level if level.in_block else None)
        while level is not None:
            if level.parent is not None:
                yield from self._release_flow(level)
            else:
                yield from self.commit_root_flow(level)
            if level is target:
                break
            level = self.transaction

    def _flush_all_flow(self) -> Flow[None]:
        for _ in range(MOST_FLUSH_ROUNDS):
            if not self._has_work():
                return
            yield from self.flush_flow()
        msg = f"Flushing still found changes after {MOST_FLUSH_ROUNDS} rounds: a listener makes new ones."
        raise TransactionState(
            msg, "Change entities in before_flush only when they are not as they should be."
        )

    def _release_flow(self, level: TransactionCore) -> Flow[None]:
        if level.stage is not Stage.ACTIVE:
            level.check("commit")
        identity = self.identity
        if identity.new or identity.dirty or identity.deleted:
            yield from self.flush_flow()
            if identity.new or identity.dirty or identity.deleted:
                yield from self._flush_all_flow()
        try:
            for lane in self.lanes.values():
                yield from ask(Release(lane, level.name))
        except Exception:
            yield from self._undo_flow(level)
            raise
        level.hand_up()
        level.stage = Stage.COMMITTED
        self.transaction = level.parent

    def commit_root_flow(self, level: TransactionCore) -> Flow[None]:
        """Flush and commit the root transaction on every connection, and give these back."""
        if level.stage is not Stage.PREPARED:
            if level.stage is not Stage.ACTIVE:
                level.check("commit")
            identity = self.identity
            if identity.new or identity.dirty or identity.deleted:
                yield from self.flush_flow()
                if identity.new or identity.dirty or identity.deleted:
                    yield from self._flush_all_flow()
            if self.twophase and len(self.lanes) > 1:
                yield from self.prepare_flow()
        lanes = self.lanes
        try:
            if len(lanes) > 1:  # given back only when all have committed: a failure rolls the others back
                for lane in lanes.values():
                    yield from ask(Commit(lane))
            else:
                for lane in lanes.values():
                    yield from ask(Finish(lane))
        except Exception:
            yield from self.rollback_flow(level)
            raise
        except BaseException:
            self._abandon(level)
            raise
        level.stage = Stage.COMMITTED
        self._let_deleted_go(level)
        if self.expire_on_commit:
            self.identity.expire_all()
        if len(lanes) > 1:
            yield from self._end_flow()
        else:
            lanes.clear()
            self.transaction = None

    def _let_deleted_go(self, level: TransactionCore) -> None:
        """Detach the entities whose rows the ended transaction deleted."""
        for record in level.flushed:
            for state, _ in record.deleted:
                if state.life == DELETED:
                    self.identity.discard(state)

    def prepare_flow(self) -> Flow[None]:
        """Prepare the transaction on every connection for two-phase commit."""
        level = self.begin_transaction()
        while level.nested:
            yield from self._release_flow(level)
            level = self.begin_transaction()
        level.check("prepare")
        if self._has_work():
            yield from self._flush_all_flow()
        try:
            for number, lane in enumerate(self.lanes.values()):
                yield from ask(Prepare(lane, f"sj_{id(self):x}_{number}"))
        except Exception:
            yield from self.rollback_flow(level)
            raise
        level.stage = Stage.PREPARED

    def rollback_flow(self, upto: TransactionCore | None = None) -> Flow[None]:
        """Roll back: the innermost savepoint block, or the whole transaction (CF-3)."""
        level = self.transaction
        if level is None:
            if not self._has_work():
                return
            level = self.begin_transaction()  # what was only added is let go of, too
        target = upto or (level if level.in_block and level.nested else None)
        if target is None:
            target = list(self._levels())[-1]
        while level is not None and level is not target:
            level.stage = Stage.CLOSED
            self._take_over(level)
            level = level.parent
        if level is None:
            return
        if level.stage is Stage.DEACTIVE:  # a failed flush has rolled it back already
            level.stage = Stage.CLOSED
            self.transaction = level.parent
            if level.parent is None:
                yield from self._end_flow()
            return
        if level.nested:
            yield from self._undo_flow(level)
            level.stage = Stage.CLOSED
            return
        self.transaction = level
        yield from self._rollback_lanes_flow(level)
        level.stage = Stage.CLOSED
        level.restore()
        yield from self._end_flow()

    def _take_over(self, level: TransactionCore) -> None:
        """Let the level around an abandoned savepoint remember what was done inside it."""
        level.hand_up()
        self.transaction = level.parent

    def _undo_flow(self, level: TransactionCore) -> Flow[None]:
        """Roll a savepoint back on every connection and restore its entities."""
        self.transaction = level
        yield from self._rollback_lanes_flow(level)
        level.restore()
        self.transaction = level.parent

    def _rollback_lanes_flow(self, level: TransactionCore) -> Flow[None]:
        first: Exception | None = None
        for lane in self.lanes.values():
            request = RollbackTo(lane, level.name) if level.nested else Rollback(lane)
            try:
                yield from ask(request)
            except Exception as error:  # noqa: BLE001 - every connection gets its rollback, then the first error
                first = first or error
        if first is not None:
            level.restore()
            if not level.nested:
                for lane in self.lanes.values():
                    lane.abandon()
                self.lanes.clear()
                self.transaction = None
            raise first

    def _end_flow(self) -> Flow[None]:
        """Give every connection back: the transaction is over."""
        lanes = list(self.lanes.values())
        self.lanes.clear()
        self.transaction = None
        for lane in lanes:
            yield from ask(Return(lane))

    def _abandon(self, level: TransactionCore) -> None:
        """Drop every connection without a word: a cancelled operation left them in an unknown state."""
        for lane in self.lanes.values():
            lane.abandon()
        self.lanes.clear()
        level.stage = Stage.CLOSED
        level.restore()
        self.transaction = None

    def close_flow(self) -> Flow[None]:
        """End the transaction, give connections back, let go of every entity."""
        self.identity.detach_all()
        for level in self._levels():
            level.stage = Stage.CLOSED
            self._let_deleted_go(level)
        if not self.close_resets_only:
            self.closed = True
        if self.lanes or self.transaction is not None:
            yield from self._end_flow()

    def discard(self) -> None:
        """Drop the connections at once, without I/O that could block, as a dying session must."""
        for lane in self.lanes.values():
            lane.abandon()
        self.lanes.clear()
        self.transaction = None

    def cancelled(self) -> None:
        """Leave nothing half-way after a cancelled operation: connections dropped, entities restored."""
        level = self.transaction
        if level is not None and self.lanes:
            for outer in list(self._levels())[:-1]:
                outer.stage = Stage.CLOSED
                outer.hand_up()
                level = outer.parent or level
            self._abandon(level)

    # -- flush ------------------------------------------------------------------------------

    def _has_work(self) -> bool:
        identity = self.identity
        return bool(identity.new or identity.dirty or identity.deleted)

    def plan(self, objects: Iterable[Any] | None = None) -> FlushPlan:
        """Return what a flush would do, without doing it; `print()` shows it."""
        engine = self._only_engine() if self.binds else self.bind
        return plan_flush(self.identity, engine, objects=None if objects is None else list(objects))

    def _only_engine(self) -> Any:
        """Return the engine of everything that waits to be flushed; several are flushed one after another."""
        engines = {self.find_bind(state.layout.mapper) for state in self._waiting()}
        return next(iter(engines)) if engines else self.bind

    def _waiting(self) -> Iterator[InstanceState]:
        identity = self.identity
        yield from identity.new
        yield from identity.dirty
        yield from identity.deleted

    def flush_flow(self, objects: Iterable[Any] | None = None) -> Flow[None]:
        """Send what changed, in as few statements as the database allows."""
        if self._flushing:
            msg = "Session is already flushing"
            raise TransactionState(msg, "Do not call flush() from a flush listener; change entities only.")
        identity = self.identity
        if not (identity.new or identity.dirty or identity.deleted):
            return
        self._flushing = True
        try:
            engine = self.bind
            if objects is None and engine is not None and not self.binds:
                sent = plan_lean(identity, engine)
                if sent is not None:  # one row: the request without the plan around it
                    level = self._flush_level()
                    lane = self.lanes.get(engine)
                    if lane is None:
                        lane = yield from self.lane_flow(engine)
                    try:
                        reply = yield from ask(lean_request(lane, sent))
                        if not settle_lean(identity, sent, reply, level.flushed[-1]):
                            yield from refuse_lean_flow(lane, sent, reply)
                    except Exception as error:
                        yield from self._failed_flush_flow(level, error)
                        raise
                    return
            if self.binds:
                for engine in {self.find_bind(state.layout.mapper): None for state in self._waiting()}:
                    mine = [
                        state.obj()
                        for state in self._waiting()
                        if self.find_bind(state.layout.mapper) is engine
                    ]
                    yield from self._flush_on_flow(engine, mine)
                return
            engine = engine or self.find_bind(next(iter(self._waiting())).layout.mapper)
            yield from self._flush_on_flow(engine, None if objects is None else list(objects))
        finally:
            self._flushing = False

    def _flush_level(self) -> TransactionCore:
        """Return the level of the transaction that a flush belongs to, ready to remember what it does."""
        level = self.transaction or self.begin_transaction()
        if level.stage is not Stage.ACTIVE:
            level.check("use")
        if not level.flushed:
            level.remember(FlushRecord())  # one for many small flushes
        return level

    def _flush_on_flow(self, engine: Any, objects: list[Any] | None) -> Flow[None]:
        identity = self.identity
        level = self._flush_level()
        plan = plan_batches(identity, engine, objects)
        if plan.empty:
            plan.settle_nothing(identity)
            return
        lane = self.lanes.get(engine)
        if lane is None:
            lane = yield from self.lane_flow(engine)
        try:
            yield from run_flush_plan(lane, identity, plan, level.flushed[-1])
        except Exception as error:
            yield from self._failed_flush_flow(level, error)
            raise

    def _failed_flush_flow(self, level: TransactionCore, error: Exception) -> Flow[None]:
        """Roll the current level back at once and remember the first cause (D8)."""
        level.cause = error
        try:
            yield from self._rollback_lanes_flow(level)
        except Exception as another:  # noqa: BLE001 - the flush's own error is the one to tell
            error.__context__ = another
            return
        level.restore()
        level.stage = Stage.DEACTIVE

    def __del__(self) -> None:
        # A session dropped without close is rolled back, its connection returned (B6); the weak owner
        # reference of its entities finds nobody from now on.
        if self.__dict__.get("lanes"):
            self.discard()
