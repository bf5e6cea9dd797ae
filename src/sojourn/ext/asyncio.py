"""The names of `sqlalchemy.ext.asyncio`, served by sojourn without greenlet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sojourn.engine import (
    AsyncConnection,
    AsyncEngine,
    AsyncMappingResult,
    AsyncResult,
    AsyncScalarResult,
    AsyncTransaction,
    create_async_engine,
)
from sojourn.session.async_scoping import async_scoped_session
from sojourn.session.async_session import (
    AsyncAttrs,
    AsyncSession,
    AsyncSessionTransaction,
    async_sessionmaker,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "AsyncAttrs", "AsyncConnection", "AsyncEngine", "AsyncMappingResult", "AsyncResult", "AsyncScalarResult",
    "AsyncSession", "AsyncSessionTransaction", "AsyncTransaction", "async_engine_from_config",
    "async_object_session", "async_scoped_session", "async_sessionmaker", "create_async_engine",
]  # fmt: skip


def async_engine_from_config(
    configuration: Mapping[str, Any], prefix: str = "sqlalchemy.", **options: Any
) -> AsyncEngine:
    """Create an async engine from the entries of *configuration* that start with *prefix*."""
    found = {
        key.removeprefix(prefix): value for key, value in configuration.items() if key.startswith(prefix)
    }
    url = found.pop("url")
    return create_async_engine(url, **{"_coerce_config": True, **found, **options})


def async_object_session(instance: Any) -> AsyncSession | None:
    """Return the async session an entity belongs to, or None."""
    session: AsyncSession | None = AsyncSession.object_session(instance)
    return session
