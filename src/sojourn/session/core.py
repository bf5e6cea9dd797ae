"""`SessionCore`: every operation of a session, as a flow or a plain function; no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sojourn.errors import NotPersistent, SessionError, UnknownAttribute
from sojourn.kernel import units
from sojourn.kernel.state import PERSISTENT
from sojourn.loading.fetch import names_to_refresh
from sojourn.session.bulk import BulkCore
from sojourn.session.identity_view import IdentityView
from sojourn.session.lifecycle import WORDS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sojourn.kernel.state import InstanceState
    from sojourn.session.transaction import TransactionCore


class StateSet(tuple[Any, ...]):
    """Some entities, compared by identity: `in` asks whether this very object is one of them."""

    __slots__ = ()

    def __contains__(self, instance: object) -> bool:
        return any(each is instance for each in self)

    def __repr__(self) -> str:
        return f"IdentitySet([{', '.join(map(repr, self))}])"


class SessionCore(BulkCore):
    """What both fronts share beside the flows: the sets one may look at, expiry, small questions."""

    @property
    def identity_map(self) -> IdentityView:
        """The entities of this session by `(class, key, token)`."""
        return IdentityView(self.identity)

    @property
    def new(self) -> StateSet:
        """The entities to be inserted by the next flush."""
        return StateSet(self.identity.new.values())

    @property
    def dirty(self) -> StateSet:
        """The entities with attributes set since they were loaded or flushed, even to the same value."""
        deleted = self.identity.deleted
        return StateSet(each for state, each in self.identity.dirty.items() if state not in deleted)

    @property
    def deleted(self) -> StateSet:
        """The entities to be deleted by the next flush."""
        return StateSet(self.identity.deleted.values())

    # -- expiry -----------------------------------------------------------------------------

    def expire(self, instance: Any, attribute_names: Iterable[str] | None = None) -> None:
        """Forget loaded values and changes to them; the next access loads them anew."""
        state = self._mine(instance, "expire")
        names = None if attribute_names is None else names_to_refresh(state.layout.mapper, attribute_names)
        self.identity.expire(state, instance, names)

    def expire_all(self) -> None:
        """Expire every persistent entity."""
        self.identity.expire_all()

    def _mine(self, instance: Any, operation: str) -> InstanceState:
        state = self.state_for(instance)
        if state.life != PERSISTENT or state.owner is not self.identity:
            raise NotPersistent(type(instance).__name__, WORDS[state.life], operation)
        return state

    # -- questions --------------------------------------------------------------------------

    def is_modified(self, instance: Any, include_collections: bool = True) -> bool:
        """Whether a flush would write *instance*: net changes only, setting the same value is none."""
        state = self.state_for(instance)
        if state.key is None:
            return bool(state.modified)
        return bool(units.changed_names(state, instance))

    def in_transaction(self) -> bool:
        """Whether a transaction has begun, be it without a statement yet."""
        return self.transaction is not None

    def in_nested_transaction(self) -> bool:
        """Whether a savepoint is open."""
        return self.transaction is not None and self.transaction.nested

    def get_transaction(self) -> TransactionCore | None:
        """Return the root transaction, None before the first use."""
        levels = list(self._levels())
        return levels[-1] if levels else None

    def get_nested_transaction(self) -> TransactionCore | None:
        """Return the innermost savepoint, None outside of one."""
        transaction = self.transaction
        return transaction if transaction is not None and transaction.nested else None

    def get_bind(self, mapper: Any = None, *, clause: Any = None, bind: Any = None, **_: Any) -> Any:
        """Return the engine for a mapped class or a table; the session's own without arguments."""
        if bind is not None:
            return bind
        chosen = getattr(mapper, "__mapper__", mapper)
        return self.find_bind(chosen, () if clause is None else (clause,))

    def attribute_name(self, instance: Any, attribute: Any) -> str:
        """Return the name of an attribute given as a name or as `User.name`; raise UnknownAttribute."""
        name = getattr(attribute, "key", attribute)
        layout = self.state_for(instance).layout
        if name not in layout.attributes:
            raise UnknownAttribute(type(instance).__name__, str(name), layout.attributes)
        return str(name)

    def _refuse_open_transaction(self) -> None:
        transaction = self.transaction
        if transaction is not None:
            raise SessionError(
                f"A transaction is already begun on this session ({transaction!r}).",
                "Use it as it is, end it with commit() or rollback(), or nest: session.begin_nested().",
            )
