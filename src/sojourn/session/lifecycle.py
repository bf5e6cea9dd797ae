"""The five states of an entity and the one table of legal moves between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sojourn.errors import KeyIsNone, NotPersistent
from sojourn.kernel.state import DELETED, DETACHED, PENDING, PERSISTENT, TRANSIENT, dict_of, state_of

if TYPE_CHECKING:
    from sojourn.kernel.state import InstanceState

#: state -> the word for it in messages and docs
WORDS: Final = {
    TRANSIENT: "transient",
    PENDING: "pending",
    PERSISTENT: "persistent",
    DELETED: "deleted",
    DETACHED: "detached",
}

#: (state, operation) -> state afterwards. What is not in the table is refused by `check_move`; the moves
#: themselves are made by the identity map (add, discard) and the flush, tests walk the table against them.
MOVES: Final = {
    (TRANSIENT, "add"): PENDING,
    (PENDING, "add"): PENDING,
    (PERSISTENT, "add"): PERSISTENT,
    (DETACHED, "add"): PERSISTENT,
    (PERSISTENT, "delete"): PERSISTENT,
    (DETACHED, "delete"): PERSISTENT,
    (PENDING, "flush"): PERSISTENT,
    (PERSISTENT, "flush delete"): DELETED,
    (PENDING, "expunge"): TRANSIENT,
    (PERSISTENT, "expunge"): DETACHED,
    (DELETED, "expunge"): DETACHED,
    (PENDING, "rollback"): TRANSIENT,
    (PERSISTENT, "rollback"): PERSISTENT,
    (DELETED, "rollback"): PERSISTENT,
    (PERSISTENT, "commit"): PERSISTENT,
    (DELETED, "commit"): DETACHED,
    (PENDING, "close"): TRANSIENT,
    (PERSISTENT, "close"): DETACHED,
    (DELETED, "close"): DETACHED,
}


def check_move(state: InstanceState, operation: str) -> None:
    """Raise NotPersistent when the table has no such move."""
    if (state.life, operation) not in MOVES:
        raise NotPersistent(state.layout.cls.__name__, WORDS[state.life], operation)


def object_session(instance: Any) -> Any:
    """Return the session an entity belongs to, None for none; raise UnmappedInstance for other things."""
    return state_of(instance).session


def make_transient(instance: Any) -> None:
    """Make an entity forget its row and its session, as if it had just been constructed with its values."""
    state = state_of(instance)
    if state.owner is not None:
        state.owner.discard(state)
    state.life = TRANSIENT
    state.owner = None
    state.key = None
    state.committed = None
    state.expired = False
    state.was_deleted = False


def make_transient_to_detached(instance: Any) -> None:
    """Make a transient entity stand for the row of its key, without asking the database.

    Everything but its key is expired; adding it to a session makes it persistent there.
    """
    state = state_of(instance)
    layout = state.layout
    if state.owner is not None or state.key is not None:
        raise NotPersistent(layout.cls.__name__, WORDS[state.life], "make_transient_to_detached")
    values = dict_of(instance)
    key = layout.key_of(values)
    if key is None:
        raise KeyIsNone(layout.cls.__name__, key, layout.keys)
    state.key = key
    state.life = DETACHED
    state.expired = True
    for name in layout.names:
        if name not in layout.keys:
            values.pop(name, None)


def was_deleted(instance: Any) -> bool:
    """Whether a flush deleted the row of this entity."""
    return bool(state_of(instance).was_deleted)
