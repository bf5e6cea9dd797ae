"""Private names of Core's async dialects, which are driven without greenlet."""

from __future__ import annotations

from typing import Any

from sqlalchemy import create_engine


def create_async_core_engine(url: Any, **options: Any) -> Any:
    """Return a Core engine with the async dialect of *url*, which asks new connections nothing."""
    return create_engine(url, _is_async=True, _initialize=False, **options)


def on_connect_isolation(dialect: Any) -> Any:
    """Return what sets the isolation level of a new connection, given to the engine, or None."""
    return dialect._builtin_onconnect()


def fire_connect(pool: Any, connection: Any, record: Any) -> None:
    """Tell the listeners of an async Core pool that a connection was opened."""
    first = pool.dispatch.first_connect
    if first and not first._exec_once:  # exec_once() would take a lock that needs greenlet
        first(connection, record)
        first._exec_once = True
    pool.dispatch.connect(connection, record)


def listens_to_connect(pool: Any) -> bool:
    """Return whether somebody listens for new connections of a Core pool."""
    return bool(pool.dispatch.connect or pool.dispatch.first_connect)


def async_driver_error(dialect: Any, error: Exception) -> Exception:
    """Return what Core makes of an error of an async driver: one of the dialect's DB-API classes, mostly."""
    adapter: Any
    if dialect.driver == "asyncpg":
        from sqlalchemy.dialects.postgresql.asyncpg import (  # noqa: PLC0415 - of a driver in use
            AsyncAdapt_asyncpg_connection as adapter,
        )
    elif dialect.driver == "aiosqlite":
        from sqlalchemy.dialects.sqlite.aiosqlite import (  # noqa: PLC0415 - of a driver in use
            AsyncAdapt_aiosqlite_connection as adapter,
        )
    else:
        return error
    try:
        adapter._handle_exception_no_connection(dialect.dbapi, error)
    except Exception as translated:  # noqa: BLE001 - what it raises is the answer
        return translated
    return error


def schema_asof(dialect: Any) -> float:
    """Return when types were last changed through a dialect whose driver caches them (asyncpg), else 0."""
    return getattr(dialect, "_invalidate_schema_cache_asof", 0.0)


def note_error(dialect: Any, error: Exception) -> None:
    """Let each connection of an asyncpg dialect forget its cached types if *error* calls them stale."""
    if dialect.driver != "asyncpg":
        return
    stale = (dialect.dbapi.InvalidCachedStatementError, dialect.dbapi.InternalServerError)
    if isinstance(error, stale):
        dialect._invalidate_schema_cache()


def text_inet(dialect: Any) -> bool:
    """Return whether asyncpg shall hand out network addresses as text."""
    return getattr(dialect, "_native_inet_types", None) is False


def inet_codecs(dialect: Any, bridge: Any) -> Any:
    """Return the awaitable that makes asyncpg hand out network addresses as text."""
    return dialect._disable_asyncpg_inet_codecs(bridge)


def replace_type_fetch(dialect: Any, fetch: Any) -> None:
    """Let *fetch(connection, name)* tell Core's psycopg dialect about a PostgreSQL type."""
    dialect._type_info_fetch = fetch
