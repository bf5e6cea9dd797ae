"""`Hook`: an ordered list of listeners, which knows no hook by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Hook:
    """A named point where functions listen; false while nobody does, so that a test costs nothing."""

    __slots__ = ("_listeners", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self._listeners: tuple[Callable[..., Any], ...] = ()

    def listen(self, listener: Callable[..., Any], *, first: bool = False) -> None:
        """Add *listener* at the end, or at the beginning; a listener listens once."""
        if listener not in self._listeners:
            self._listeners = (listener, *self._listeners) if first else (*self._listeners, listener)

    def remove(self, listener: Callable[..., Any]) -> None:
        """Take *listener* away; raise ValueError when it does not listen."""
        if listener not in self._listeners:
            msg = f"{listener!r} does not listen to {self.name}"
            raise ValueError(msg)
        self._listeners = tuple(each for each in self._listeners if each is not listener)

    def fire(self, *args: Any, **kwargs: Any) -> None:
        """Call every listener in order; the first exception ends the round."""
        for listener in self._listeners:
            listener(*args, **kwargs)

    def __bool__(self) -> bool:
        return bool(self._listeners)

    def __iter__(self) -> Iterator[Callable[..., Any]]:
        return iter(self._listeners)

    def __repr__(self) -> str:
        return f"<Hook {self.name}: {len(self._listeners)} listening>"
