"""The faults of this folder, met by async drivers: restart, kill, time-outs, silence, networks, fork."""

from __future__ import annotations

import asyncio
import time

import pytest

from sojourn import exc, text
from sojourn.ext.asyncio import AsyncSession
from tests.faults.asking import ANSWER, QUESTION, ask_async, fill_async
from tests.faults.children import in_child
from tests.faults.load import AsyncLoad
from tests.serverside import WHO, kill, sessions, wait_until

TASKS = 16
LIMIT = 0.3
IDLE = {
    "asyncpg": {"server_settings": {"idle_session_timeout": "500ms"}},
    "psycopg_async": {"options": "-c idle_session_timeout=500ms"},
}
IDLE_IN_TRANSACTION = {
    "asyncpg": {"server_settings": {"idle_in_transaction_session_timeout": "500ms"}},
    "psycopg_async": {"options": "-c idle_in_transaction_session_timeout=500ms"},
}


async def ask_session(engine):
    async with AsyncSession(engine) as session:
        return (await session.execute(ANSWER)).scalar_one()


WAYS = {"engine": ask_async, "session": ask_session}


def hasten(engine):
    """Give pings, resets and good-byes little time."""
    handling = engine.pool.here().handling
    handling.ping_limit = handling.reset_limit = handling.close_limit = LIMIT
    return engine


async def in_thread(act, *arguments, **options):
    """Let a blocking step of the test happen beside the loop."""
    return await asyncio.to_thread(act, *arguments, **options)


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [False, True], ids=["fast", "crash"])
async def test_a_restart_while_idle_is_not_noticed(avictim, at_once):
    """After a restart, or a crash, every request of an idle program succeeds (D5)."""
    engine = avictim.create_engine(pool_size=5)
    await fill_async(engine, 5)
    await in_thread(avictim.server.restart, at_once=at_once)

    assert [await ask(engine) for _ in range(5) for ask in WAYS.values()] == [42] * 10


@pytest.mark.slow
@pytest.mark.parametrize("retry", [None, "reads"])
async def test_a_restart_under_load(avictim, retry):
    """At most the statements in flight fail, none where reads are repeated; all work again soon."""
    options = {"retry": retry} if retry else {}
    engine = avictim.create_engine(pool_size=5, max_overflow=10, **options)

    async def request(sent):
        async with AsyncSession(engine) as session:
            sent()
            assert await session.scalar(QUESTION) == 42

    async with AsyncLoad(request, TASKS) as load:
        await in_thread(avictim.server.halt)
        down = time.monotonic()
        await in_thread(avictim.server.start)
        up = time.monotonic()
        await load.wait_for(TASKS * 20)
        assert time.monotonic() - up < 3

    assert load.succeeded(up)
    assert len(load.failed) <= (0 if retry else TASKS), load.describe()
    assert all(each.sent <= down for each in load.failed), load.describe()


@pytest.mark.parametrize("way", WAYS)
async def test_connections_killed_while_idle_fail_nobody(avictim, way):
    """Kill every idle connection: each request after that succeeds (D1)."""
    engine = avictim.create_engine(pool_size=5)
    numbers = await fill_async(engine, 5)
    await in_thread(kill, avictim, *numbers)

    assert [await WAYS[way](engine) for _ in range(6)] == [42] * 6
    assert not sessions(avictim) & numbers


async def test_a_kill_in_a_transaction_is_told_and_survived(avictim):
    """The next statement raises a recognised disconnection; after rollback the session works (D2, D5)."""
    engine = avictim.create_engine()
    async with AsyncSession(engine) as session:
        number = (await session.execute(text(WHO["postgresql"]))).scalar_one()
        await in_thread(kill, avictim, number)
        with pytest.raises(exc.DBAPIError) as caught:
            await session.execute(ANSWER)
        await session.rollback()

        assert (await session.execute(ANSWER)).scalar_one() == 42
    assert caught.value.connection_invalidated


@pytest.mark.slow
async def test_the_server_closes_what_is_idle(avictim):
    """After the server's own limit for idle sessions no request fails (D5)."""
    engine = avictim.create_engine(pool_size=3, connect_args=IDLE[avictim.name])
    numbers = await fill_async(engine, 3)
    await in_thread(wait_until, lambda: not sessions(avictim) & numbers)

    assert [await ask_session(engine), await ask_async(engine), await ask_session(engine)] == [42] * 3


@pytest.mark.slow
async def test_the_server_closes_what_is_idle_in_a_transaction(avictim):
    """After the server's limit for idle transactions the next use is told, as a disconnection (D5)."""
    engine = avictim.create_engine(connect_args=IDLE_IN_TRANSACTION[avictim.name])
    async with AsyncSession(engine) as session:
        number = (await session.execute(text(WHO["postgresql"]))).scalar_one()
        await in_thread(wait_until, lambda: number not in sessions(avictim))
        with pytest.raises(exc.DBAPIError) as caught:
            await session.execute(ANSWER)
        await session.rollback()

        assert (await session.execute(ANSWER)).scalar_one() == 42
    assert caught.value.connection_invalidated


@pytest.mark.parametrize("fault", ["drop", "reset", "half_close"])
async def test_connections_lost_while_idle_fail_nobody(avictim, proxy, fault):
    """Whichever way idle connections end, every request after that succeeds."""
    engine = avictim.create_engine(pool_size=4)
    await fill_async(engine, 4)
    await in_thread(getattr(proxy, fault))

    assert [await ask(engine) for _ in range(3) for ask in WAYS.values()] == [42] * 6


@pytest.mark.parametrize("fault", ["drop", "reset", "half_close"])
async def test_a_connection_lost_in_a_transaction_is_told(avictim, proxy, fault):
    """The statement after the loss raises a recognised disconnection, and the next request works (D5)."""
    engine = avictim.create_engine()
    async with AsyncSession(engine) as session:
        await session.execute(ANSWER)
        await in_thread(getattr(proxy, fault))
        with pytest.raises(exc.DBAPIError) as caught:
            await session.execute(ANSWER)
        await session.rollback()

    assert caught.value.connection_invalidated
    assert await ask_session(engine) == 42


async def test_a_server_that_refuses_for_a_moment_is_tried_again(avictim, proxy):
    """Refused connections are retried while the caller may wait; the request succeeds once it can."""
    engine = avictim.create_engine(pool_size=2)
    await fill_async(engine, 2)
    proxy.refuse()
    proxy.reset()
    waiting = asyncio.create_task(ask_session(engine))
    asyncio.get_running_loop().call_later(0.3, proxy.accept)

    assert await asyncio.wait_for(waiting, 10) == 42


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
async def test_a_silent_network_is_left_within_the_limit(avictim, proxy, way):
    """Connections behind a silent network are replaced, each within the limit of a ping."""
    engine = hasten(avictim.create_engine(pool_pre_ping="always", pool_size=2, max_overflow=0))
    await fill_async(engine, 2)
    proxy.freeze()
    start = time.monotonic()

    assert await WAYS[way](engine) == 42
    assert time.monotonic() - start < 2 * LIMIT + 2
    proxy.thaw()


@pytest.mark.slow
async def test_giving_back_is_bounded(avictim, proxy):
    """The rollback of a connection that is given back is cut off at its limit, and the connection closed."""
    engine = hasten(avictim.create_engine(pool_size=1, max_overflow=0))
    session = AsyncSession(engine)
    await session.execute(ANSWER)
    proxy.freeze()
    start = time.monotonic()
    await session.close()

    assert await ask_session(engine) == 42
    assert time.monotonic() - start < 2 * LIMIT + 2
    proxy.thaw()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
async def test_a_fork_keeps_the_parents_connections(avictim):
    """A child runs a loop of its own on the same engine; server sessions differ, no answer is wrong (E6)."""
    engine = avictim.create_engine(pool_size=2)
    ours = await fill_async(engine, 2)

    async def many(prefix):
        wrong = []
        for turn in range(150 // 10):
            async with AsyncSession(engine) as session:
                for n in range(10):
                    mark = f"{prefix}-{turn}-{n}"
                    query = text("SELECT CAST(:mark AS text)").bindparams(mark=mark)
                    if (await session.execute(query)).scalar_one() != mark:
                        wrong.append(mark)
        async with engine.connect() as connection:
            return wrong, (await connection.execute(text(WHO["postgresql"]))).scalar_one()

    child = in_child(lambda: asyncio.run(many("child")))
    wrong, number = await many("parent")
    wrong_in_child, theirs = await in_thread(child)

    assert wrong == wrong_in_child == []
    assert number in ours and theirs not in ours
    assert (await many("after"))[0] == []
