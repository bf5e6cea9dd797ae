"""`async_scoped_session`: one async session per task or key, made at first use and ended by `remove()`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sojourn.errors import SessionError
from sojourn.session.async_session import AsyncSession
from sojourn.session.scoping import KeyRegistry

S = TypeVar("S", bound=AsyncSession)

if TYPE_CHECKING:
    from collections.abc import Callable

    class _Front(AsyncSession, Generic[S]):
        """To a type checker the registry has the session's own methods."""
else:
    _Front = Generic


class async_scoped_session(_Front[S]):  # noqa: N801 - the field's name
    """Stands for the session of the current scope: every attribute and method is that session's.

    *scopefunc* tells the scope, `asyncio.current_task` mostly. Call `await remove()` when the scope ends: the
    registry cannot know, and would keep the session.
    """

    def __init__(self, session_factory: Callable[..., S], scopefunc: Callable[[], Any]) -> None:
        self.session_factory = session_factory
        self.registry = KeyRegistry(session_factory, scopefunc)

    def __call__(self, **options: Any) -> S:
        """Return the scope's session; options are for a scope that has none yet."""
        if options:
            if self.registry.has():
                raise SessionError(
                    f"This scope has a session already ({self.registry()!r}), too late for {options!r}.",
                    "End the scope first: await registry.remove(); or give the options to the maker.",
                )
            session = self.session_factory(**options)
            self.registry.set(session)
            return session
        current: S = self.registry()
        return current

    async def remove(self) -> None:
        """Close the scope's session and forget it; the entry is gone even if closing fails (A3)."""
        if self.registry.has():
            session = self.registry()
            self.registry.clear()
            await session.close()

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

        def __iter__(self) -> Any:
            return iter(self.registry())

    def __repr__(self) -> str:
        scope = repr(self.registry()) if self.registry.has() else "no session in this scope yet"
        return f"<async_scoped_session: {scope}>"
