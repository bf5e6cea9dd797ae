"""`scoped_session`: one session per thread, task or key, made at first use and ended by `remove()`."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sojourn.errors import SessionError
from sojourn.session.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

S = TypeVar("S", bound=Session)
T = TypeVar("T")


class ThreadRegistry:
    """Keeps one value per thread; it is gone with the thread."""

    def __init__(self, create: Callable[[], Any]) -> None:
        self.createfunc = create
        self._local = threading.local()

    def __call__(self) -> Any:
        """Return this thread's value, making it at first use."""
        local = self._local
        try:
            return local.value
        except AttributeError:
            local.value = value = self.createfunc()
            return value

    def has(self) -> bool:
        """Whether this thread has a value."""
        return hasattr(self._local, "value")

    def set(self, value: Any) -> None:
        """Give this thread a value."""
        self._local.value = value

    def clear(self) -> None:
        """Forget this thread's value."""
        if self.has():
            del self._local.value


class KeyRegistry:
    """Keeps one value per key, which a function tells at each call."""

    def __init__(self, create: Callable[[], Any], scopefunc: Callable[[], Any]) -> None:
        self.createfunc = create
        self.scopefunc = scopefunc
        self.registry: dict[Any, Any] = {}

    def __call__(self) -> Any:
        """Return this scope's value, making it at first use."""
        key = self.scopefunc()
        try:
            return self.registry[key]
        except KeyError:
            return self.registry.setdefault(key, self.createfunc())

    def has(self) -> bool:
        """Whether this scope has a value."""
        return self.scopefunc() in self.registry

    def set(self, value: Any) -> None:
        """Give this scope a value."""
        self.registry[self.scopefunc()] = value

    def clear(self) -> None:
        """Forget this scope's value."""
        self.registry.pop(self.scopefunc(), None)


class Scopes(Generic[T]):
    """What registries of sessions share, blocking or async: making and finding the scope's session."""

    session_factory: Callable[..., T]
    registry: ThreadRegistry | KeyRegistry

    def __call__(self, **options: Any) -> T:
        """Return the scope's session; options are for a scope that has none yet."""
        if options:
            if self.registry.has():
                raise SessionError(
                    f"This scope has a session already ({self.registry()!r}), too late for {options!r}.",
                    "End the scope first: registry.remove(); or give the options to the maker.",
                )
            session = self.session_factory(**options)
            self.registry.set(session)
            return session
        current: T = self.registry()
        return current

    def configure(self, **options: Any) -> None:
        """Change the arguments of sessions made from now on."""
        self.session_factory.configure(**options)  # type: ignore[attr-defined]

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            return getattr(self.registry(), name)

        def __setattr__(self, name: str, value: Any) -> None:
            if name in ("session_factory", "registry"):
                object.__setattr__(self, name, value)
            else:
                setattr(self.registry(), name, value)

        def __contains__(self, instance: Any) -> bool:
            return instance in self.registry()

        def __iter__(self) -> Iterator[Any]:
            return iter(self.registry())

    def __repr__(self) -> str:
        scope = repr(self.registry()) if self.registry.has() else "no session in this scope yet"
        return f"<scoped_session: {scope}>"


if TYPE_CHECKING:

    class _Front(Session, Generic[S]):
        """To a type checker the registry has the session's own methods."""
else:
    _Front = Generic


class scoped_session(Scopes[S], _Front[S]):  # noqa: N801 - the field's name
    """Stands for the session of the current scope: every attribute and method is that session's."""

    def __init__(self, session_factory: Callable[..., S], scopefunc: Callable[[], Any] | None = None) -> None:
        self.session_factory = session_factory
        self.registry: ThreadRegistry | KeyRegistry = (
            ThreadRegistry(session_factory) if scopefunc is None else KeyRegistry(session_factory, scopefunc)
        )

    def remove(self) -> None:
        """Close the scope's session and forget it; the entry is gone even if closing fails (A3)."""
        if self.registry.has():
            session = self.registry()
            self.registry.clear()
            session.close()

    def query_property(self, query_cls: Any = None) -> Any:
        """Return a class attribute that is a query over its class in this scope's session."""
        registry = self.registry

        class QueryProperty:
            def __get__(self, instance: Any, owner: type) -> Any:
                session = registry()
                return (query_cls or session.query_cls)(owner, session)

        return QueryProperty()
