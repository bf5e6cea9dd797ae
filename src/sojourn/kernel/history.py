"""Say what changed on one attribute: `History`, and `AttributeState`, its view for `inspect(obj).attrs`."""

from __future__ import annotations

from typing import Any, NamedTuple

from sojourn.symbols import NOT_LOADED


class History(NamedTuple):
    """What was added, stayed, and was deleted since the last load or flush."""

    added: tuple[Any, ...] | list[Any]
    unchanged: tuple[Any, ...] | list[Any]
    deleted: tuple[Any, ...] | list[Any]

    def __bool__(self) -> bool:
        return self != EMPTY

    def empty(self) -> bool:
        """Tell whether nothing was added or deleted, and nothing is there."""
        return not (self.added or self.unchanged or self.deleted)

    def has_changes(self) -> bool:
        """Tell whether something was added or deleted."""
        return bool(self.added or self.deleted)

    def sum(self) -> list[Any]:
        """Return added, unchanged and deleted values together."""
        return [*self.added, *self.unchanged, *self.deleted]

    def non_deleted(self) -> list[Any]:
        """Return the values that are there now."""
        return [*self.added, *self.unchanged]

    def non_added(self) -> list[Any]:
        """Return the values that were there before."""
        return [*self.unchanged, *self.deleted]


EMPTY = History((), (), ())


class AttributeState:
    """One attribute of one entity, as `inspect(obj).attrs.name` shows it."""

    __slots__ = ("key", "state")

    def __init__(self, state: Any, key: str) -> None:  # Any: InstanceState, which imports this file
        self.state = state
        self.key = key

    def __repr__(self) -> str:
        return f"<AttributeState {self.state.class_.__name__}.{self.key} = {self.loaded_value!r}>"

    @property
    def loaded_value(self) -> Any:
        """The value if it is loaded, else NOT_LOADED; never loads."""
        return self.state.dict.get(self.key, NOT_LOADED)

    @property
    def value(self) -> Any:
        """The value, loaded if need be."""
        return getattr(self.state.object, self.key)

    @property
    def history(self) -> History:
        """What changed; never loads."""
        found: History = self.state.history(self.key)
        return found

    def load_history(self) -> History:
        """Return what changed, loading the value first if it is not there."""
        if self.key not in self.state.dict and self.key not in (self.state.committed or ()):
            getattr(self.state.object, self.key)
        return self.history


class AttributeStates(dict[str, AttributeState]):
    """The attributes of one entity by name; `attrs.name` is `attrs["name"]`."""

    def __getattr__(self, name: str) -> AttributeState:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None
