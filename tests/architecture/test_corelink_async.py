"""The private names of Core that async engines rest on; see test_corelink.py."""

from __future__ import annotations

import sqlite3
import sys
import types

import pytest
from sqlalchemy import event
from sqlalchemy.dialects.postgresql import asyncpg as asyncpg_dialect
from sqlalchemy.exc import EmulatedDBAPIException
from sqlalchemy.pool import AsyncAdaptedQueuePool

from sojourn import corelink


def refuse():
    raise AssertionError("nobody connects here")


def make(url="sqlite+aiosqlite://", **options):
    return corelink.create_async_core_engine(url, poolclass=AsyncAdaptedQueuePool, creator=refuse, **options)


def test_an_async_core_engine_has_the_async_dialect_and_no_listeners():
    """Its dialect is async, its pool empty and silent, and no greenlet was needed."""
    pytest.importorskip("psycopg")
    engine = make("postgresql+psycopg://somewhere/x")

    assert engine.dialect.is_async
    assert not corelink.listens_to_connect(engine.pool)
    assert "greenlet" not in sys.modules


def test_connect_listeners_are_fired_and_the_first_only_once():
    """`first_connect` hears the first connection, `connect` each."""
    pool, heard = make().pool, []
    event.listen(pool, "first_connect", lambda connection, _record: heard.append(("first", connection)))
    event.listen(pool, "connect", lambda connection, _record: heard.append(("each", connection)))

    assert corelink.listens_to_connect(pool)
    corelink.fire_connect(pool, "a", None)
    corelink.fire_connect(pool, "b", None)
    assert heard == [("first", "a"), ("each", "a"), ("each", "b")]


def test_the_isolation_level_of_new_connections_is_set_by_a_function():
    """Core gives one for an engine that was made with a level, else None."""
    assert corelink.on_connect_isolation(make().dialect) is None
    hook = corelink.on_connect_isolation(make(isolation_level="AUTOCOMMIT").dialect)
    connection = types.SimpleNamespace(isolation_level="")
    hook(connection, None)
    assert connection.isolation_level is None


def test_driver_errors_become_the_dialects():
    """Those of asyncpg become Core's DB-API classes; sqlite3's stay as they are."""
    asyncpg = pytest.importorskip("asyncpg")
    dialect = make("postgresql+asyncpg://somewhere/x").dialect
    unique = corelink.async_driver_error(dialect, asyncpg.exceptions.UniqueViolationError("twice"))
    assert isinstance(unique, dialect.dbapi.IntegrityError)
    assert isinstance(unique, EmulatedDBAPIException)
    own = ZeroDivisionError()
    assert corelink.async_driver_error(dialect, own) is own

    sqlite = make().dialect
    error = sqlite3.IntegrityError("twice")
    assert corelink.async_driver_error(sqlite, error) is error
    closed = corelink.async_driver_error(sqlite, ValueError("Connection closed"))
    assert isinstance(closed, sqlite.dbapi.OperationalError)


def test_stale_types_are_noted_and_dated():
    """An error that says so, or DDL, sets the time from which connections forget what they knew."""
    pytest.importorskip("asyncpg")
    dialect = make("postgresql+asyncpg://somewhere/x").dialect
    assert corelink.schema_asof(dialect) == 0
    corelink.note_error(dialect, dialect.dbapi.IntegrityError("x"))
    assert corelink.schema_asof(dialect) == 0
    corelink.note_error(dialect, dialect.dbapi.InternalServerError("cache lookup failed"))
    assert corelink.schema_asof(dialect) > 0
    assert corelink.schema_asof(make().dialect) == 0


async def test_network_addresses_as_text():
    """The option of the dialect is known, and its codecs are awaited on `_connection`."""
    pytest.importorskip("asyncpg")
    assert corelink.text_inet(make("postgresql+asyncpg://somewhere/x", native_inet_types=False).dialect)
    dialect = make("postgresql+asyncpg://somewhere/x").dialect
    assert not corelink.text_inet(dialect)
    names = []

    async def set_type_codec(name, **_options):
        names.append(name)

    raw = types.SimpleNamespace(set_type_codec=set_type_codec)
    await corelink.inet_codecs(dialect, types.SimpleNamespace(_connection=raw))
    assert names == ["inet", "cidr"]


def test_json_codecs_are_awaitable():
    """The dialect's own coroutines set asyncpg's codecs; they are documented for third parties."""
    for name in ("setup_asyncpg_json_codec", "setup_asyncpg_jsonb_codec"):
        assert callable(getattr(asyncpg_dialect.dialect, name))


def test_psycopgs_question_about_types_can_be_replaced():
    """`initialize` of the dialect asks through `_type_info_fetch`."""
    pytest.importorskip("psycopg")
    dialect = make("postgresql+psycopg://somewhere/x").dialect
    assert callable(dialect._type_info_fetch)
    corelink.replace_type_fetch(dialect, lambda connection, name: (connection, name))
    assert dialect._type_info_fetch("c", "hstore") == ("c", "hstore")
