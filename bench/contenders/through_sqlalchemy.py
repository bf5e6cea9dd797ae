"""SQLAlchemy's ORM; the only contender whose process imports sqlalchemy.orm."""

from __future__ import annotations

from typing import Any

from bench.contenders.mapped import Mapped


def make(database: str, place: dict[str, Any]) -> Mapped:
    """Make the blocking contender."""
    import sqlalchemy
    import sqlalchemy.orm

    return Mapped(database, place, sqlalchemy, sqlalchemy.orm, f"SQLAlchemy {sqlalchemy.__version__}")


def make_async(database: str, place: dict[str, Any]) -> Any:
    """Make the asyncio contender."""
    import sqlalchemy
    import sqlalchemy.ext.asyncio
    import sqlalchemy.orm

    from bench.contenders.mapped_async import MappedAsync

    version = f"SQLAlchemy {sqlalchemy.__version__}, asyncio"
    return MappedAsync(database, place, sqlalchemy, sqlalchemy.orm, sqlalchemy.ext.asyncio, version)
