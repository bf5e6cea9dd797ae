"""`session.identity_map`: the identity map under SQLAlchemy's keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from sojourn.kernel.state import state_of

if TYPE_CHECKING:
    from sojourn.kernel.identity import IdentityMap


class IdentityView(Mapping[Any, Any]):
    """A live, read-only view: `(class, (key,), token)` -> entity; two-part keys will do too (CF-18)."""

    __slots__ = ("_identity",)

    def __init__(self, identity: IdentityMap) -> None:
        self._identity = identity

    def __getitem__(self, key: Any) -> Any:
        try:
            cls, ident = key[0], key[1]
        except (TypeError, IndexError):
            raise KeyError(key) from None
        layout = getattr(cls, "__sojourn_layout__", None)
        if layout is None or (len(key) > 2 and key[2] is not None):
            raise KeyError(key)
        if layout.scalar_key and isinstance(ident, tuple):
            if len(ident) != 1:
                raise KeyError(key)
            ident = ident[0]
        found = self._identity.find(layout, ident)
        if found is None:
            raise KeyError(key)
        return found

    def __iter__(self) -> Iterator[Any]:
        for entity in self._identity:
            yield state_of(entity).identity_key

    def __len__(self) -> int:
        return len(self._identity)

    def values(self) -> Any:
        """Return the entities, as a list that stays whole while some die."""
        return list(self._identity)

    def all_states(self) -> list[Any]:
        """Return the states of all entities."""
        return [state_of(entity) for entity in self._identity]

    def __repr__(self) -> str:
        shown = [f"({cls.__name__}, {ident!r})" for cls, ident, _ in list(self)[:20]]
        more = len(self) - len(shown)
        rest = f" ... {more} more" if more > 0 else ""
        return f"<identity map, {len(self)} entities: {', '.join(shown)}{rest}>"
