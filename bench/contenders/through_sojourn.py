"""sojourn, through the same source as SQLAlchemy: only the imports differ."""

from __future__ import annotations

from typing import Any

from bench.contenders.mapped import Mapped


def _version() -> str:
    import sojourn
    import sojourn.kernel

    kernel = "compiled" if sojourn.kernel.COMPILED else "python"
    return f"sojourn {getattr(sojourn, '__version__', '')} ({kernel} kernel)"


def make(database: str, place: dict[str, Any]) -> Mapped:
    """Make the blocking contender."""
    import sojourn
    import sojourn.orm

    return Mapped(database, place, sojourn, sojourn.orm, _version())


def make_async(database: str, place: dict[str, Any]) -> Any:
    """Make the asyncio contender."""
    import sojourn
    import sojourn.ext.asyncio
    import sojourn.orm
    from bench.contenders.mapped_async import MappedAsync

    return MappedAsync(database, place, sojourn, sojourn.orm, sojourn.ext.asyncio, _version())
