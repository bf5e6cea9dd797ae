"""What the async drivers must keep for us: the private names we use of aiosqlite, and its order of work."""

from __future__ import annotations

import sqlite3

import pytest

from sojourn.engine.native_asyncpg import _tag_count
from tests.databases import databases

aiosqlite = pytest.importorskip("aiosqlite")


async def test_aiosqlite_runs_any_function_in_its_thread():
    """`_execute(function, *args)` is awaited for its result; `_conn` is the sqlite3 connection."""
    raw = await aiosqlite.connect(":memory:")
    try:
        assert isinstance(raw._conn, sqlite3.Connection)
        assert await raw._execute(lambda a, b: a + b, 1, 2) == 3
        with pytest.raises(ZeroDivisionError):
            await raw._execute(lambda: 1 / 0)
    finally:
        await raw.close()


async def test_aiosqlite_puts_work_into_its_queue_at_the_first_step():
    """What nobody awaits is still done, and in order: `terminate` of an in-memory database rests on it."""
    raw = await aiosqlite.connect(":memory:")
    done = []
    job = raw._execute(done.append, "first")
    job.send(None)
    job.close()
    await raw._execute(done.append, "second")
    await raw.close()

    assert done == ["first", "second"]


@databases("asyncpg")
async def test_asyncpg_shows_its_socket(adb):
    """`_transport` leads to the socket: the pool polls it, and it is told of its end."""
    engine = adb.create_engine()
    lane = await engine.acquire()
    assert lane.native.raw._transport.get_extra_info("socket").fileno() == lane.native.fileno()
    assert lane.native.poll(0) == []
    await lane.release()


def test_a_command_tag_ends_with_the_row_count():
    """The driver asyncpg tells row counts in the words of the server."""
    assert [_tag_count(tag) for tag in ("UPDATE 3", "INSERT 0 12", "SELECT 0", "CREATE TABLE", None)] == [
        3, 12, 0, -1, -1,
    ]  # fmt: skip
