"""`async_scoped_session`: one async session per task or key, made at first use and ended by `remove()`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sojourn.session.async_session import AsyncSession
from sojourn.session.scoping import KeyRegistry, Scopes

S = TypeVar("S", bound=AsyncSession)

if TYPE_CHECKING:
    from collections.abc import Callable

    class _Front(AsyncSession, Generic[S]):
        """To a type checker the registry has the session's own methods."""
else:
    _Front = Generic


class async_scoped_session(Scopes[S], _Front[S]):  # noqa: N801 - the field's name
    """Stands for the session of the current scope: every attribute and method is that session's.

    *scopefunc* tells the scope, `asyncio.current_task` mostly. Call `await remove()` when the scope ends: the
    registry cannot know, and would keep the session.
    """

    def __init__(self, session_factory: Callable[..., S], scopefunc: Callable[[], Any]) -> None:
        self.session_factory = session_factory
        self.registry = KeyRegistry(session_factory, scopefunc)

    async def remove(self) -> None:
        """Close the scope's session and forget it; the entry is gone even if closing fails (A3)."""
        if self.registry.has():
            session = self.registry()
            self.registry.clear()
            await session.close()
