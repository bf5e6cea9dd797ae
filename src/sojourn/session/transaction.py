"""The transaction of a session: nesting, states, and what a rollback restores.

A session has a stack of these: the root, which is the database transaction on every connection the
session uses, and one per savepoint. Each remembers what the flushes inside it did to entities, so that
its rollback can undo that: inserted entities become transient, deleted ones persistent, changed ones
are expired. A released savepoint hands its memory to what surrounds it.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, Final, Protocol

from sojourn.errors import PendingRollback, TransactionState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sojourn.flow import Flow
    from sojourn.kernel.identity import IdentityMap
    from sojourn.kernel.state import InstanceState
    from sojourn.unitofwork.record import FlushRecord


class Transacting(Protocol):
    """What a transaction asks of the session it belongs to, which is built above it."""

    @property
    def identity(self) -> IdentityMap: ...
    def commit_flow(self, upto: TransactionCore | None = None) -> Flow[None]: ...
    def rollback_flow(self, upto: TransactionCore | None = None) -> Flow[None]: ...
    def prepare_flow(self) -> Flow[None]: ...
    def forget_insert(self, state: InstanceState) -> None: ...
    def restore_key(self, state: InstanceState, key: Any) -> None: ...
    def restore_deleted(self, state: InstanceState, instance: Any) -> None: ...


class Stage(enum.Enum):
    """Where a transaction is in its life."""

    ACTIVE = "active"
    PREPARED = "prepared"
    DEACTIVE = "rolled back by a failed flush"
    COMMITTED = "committed"
    CLOSED = "closed"


#: (stage, operation) that is allowed; everything else raises TransactionState with this table's words
ALLOWED: Final = frozenset(
    {
        (Stage.ACTIVE, "use"),
        (Stage.ACTIVE, "prepare"),
        (Stage.ACTIVE, "commit"),
        (Stage.PREPARED, "commit"),
        (Stage.ACTIVE, "rollback"),
        (Stage.PREPARED, "rollback"),
        (Stage.DEACTIVE, "rollback"),
        (Stage.ACTIVE, "close"),
        (Stage.PREPARED, "close"),
        (Stage.DEACTIVE, "close"),
        (Stage.COMMITTED, "close"),
        (Stage.CLOSED, "close"),
    }
)


#: The savepoints' names by depth.
_NAMES: Final = tuple(f"sj_{depth}" for depth in range(9))


class TransactionCore:
    """One level of a session's transaction: the root or a savepoint."""

    # What most levels never change stands on the class: making one is part of every request.
    parent: TransactionCore | None = None
    depth: int = 0
    nested: bool = False
    name: str = ""
    stage: Stage = Stage.ACTIVE
    cause: BaseException | None = None
    in_block: bool = False
    flushed: Sequence[FlushRecord] = ()  # oldest first; `remember` adds
    _held: Transacting | None = None

    def __init__(self, core: Transacting, parent: TransactionCore | None) -> None:
        # Not the session itself: one that is dropped must end at once, not when the collector comes (B6).
        self.identity = core.identity
        if parent is not None:
            depth = parent.depth + 1
            self.parent = parent
            self.depth = depth
            self.nested = True
            # Named by depth, not by number: few texts, so the driver's prepared statements serve again.
            self.name = _NAMES[depth] if depth < len(_NAMES) else f"sj_{depth}"

    @property
    def core(self) -> Transacting:
        """The session this level belongs to; raise TransactionState when it is gone."""
        core: Transacting | None = self.identity.session
        if core is None:
            raise TransactionState(
                "The session of this transaction is gone.", "Keep it: session = Session(engine)."
            )
        return core

    def enter_block(self) -> None:
        """Note that a `with` block runs on this level, which keeps the session alive meanwhile."""
        self.in_block = True
        self._held = self.core

    def leave_block(self) -> None:
        """Note that the block is over."""
        self.in_block = False
        self._held = None

    @property
    def is_active(self) -> bool:
        """Whether work can go on in this transaction."""
        return self.stage is Stage.ACTIVE

    def check(self, operation: str) -> None:
        """Raise PendingRollback after a failed flush, TransactionState if *operation* is not allowed now."""
        if (self.stage, operation) in ALLOWED:
            return
        if self.stage is Stage.DEACTIVE and self.cause is not None:
            raise PendingRollback(self.cause)
        what = "savepoint" if self.nested else "transaction"
        msg = f"This {what} is {self.stage.value}: {operation} is not possible any more."
        raise TransactionState(msg, "Begin a new one: session.begin(), or simply go on using the session.")

    # -- memory -----------------------------------------------------------------------------

    def remember(self, record: FlushRecord) -> None:
        """Keep what a flush did to entities."""
        self.flushed = [*self.flushed, record] if self.flushed else [record]

    def hand_up(self) -> None:
        """Give this savepoint's memory to the level around it (after its release)."""
        outer = self.parent
        if outer is not None and self.flushed:
            if outer.flushed:
                for record in self.flushed:
                    outer.flushed[-1].take_over(record)
            else:
                outer.flushed = self.flushed
        self.flushed = ()

    def restore(self) -> None:
        """Undo to entities what the rolled back work did to them, the youngest first."""
        core, identity = self.core, self.identity
        for record in reversed(self.flushed):
            for state, entity in record.deleted:
                core.restore_deleted(state, entity)
            for state, key in reversed(record.key_changes):
                core.restore_key(state, key)
        for record in self.flushed:
            for state in record.inserted:
                core.forget_insert(state)
        for state in list(identity.new):
            core.forget_insert(state)
        identity.deleted.clear()
        if self.nested:
            for state, entity in list(identity.dirty.items()):
                identity.expire(state, entity, None)
            for record in self.flushed:
                for state in record.changed:
                    entity = state.obj()
                    if entity is not None and state.owner is identity:
                        identity.expire(state, entity, None)
        else:
            identity.expire_all()
        self.flushed = ()

    def __repr__(self) -> str:
        what = f"savepoint {self.name}" if self.nested else "transaction"
        return f"<{type(self).__name__} {what}: {self.stage.value}>"
