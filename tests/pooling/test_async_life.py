"""The asyncio front as time passes: ages, leaks, sizes, the end, other event loops and other processes."""

from __future__ import annotations

import asyncio
import gc

import pytest

from sojourn.errors import PoolClosed
from tests.pooling.numbers import Clock, WrongPassword, make, until, until_queued

# -- time --------------------------------------------------------------------------------------


async def test_age_retires_at_the_next_lease_and_never_in_use():
    """E4: one in use stays, and is closed when it comes back; an idle one is replaced at its next lease."""
    clock = Clock()
    pool, numbers = make(max_age=10, clock=clock, luck=lambda: 0.0)
    here = pool.here()
    entry = await here.acquire()
    clock.now += 11
    assert numbers.open == {1}
    here.release(entry)
    await until(lambda: numbers.open == set())

    here.release(await here.acquire())
    clock.now += 11
    second = await here.acquire()
    assert second.connection == 3
    await until(lambda: len(numbers.closed) == 2)
    assert numbers.closed == [(1, "expired"), (2, "expired")]
    here.release(second)


async def test_idle_connections_close_after_their_time():
    """CF-9: `max_idle` looks at idle time only; the loop's timer does it, nobody has to ask."""
    pool, numbers = make(size=2, max_idle=0.02)
    here = pool.here()
    for entry in [await here.acquire(), await here.acquire()]:
        here.release(entry)

    await until(lambda: numbers.open == set())
    assert {reason for _, reason in numbers.closed} == {"idle"}


@pytest.mark.parametrize(("idle_limit", "kept"), [(0, {1}), (60.0, {1, 2})])
async def test_overflow_is_kept_for_a_while_or_closed_on_return(idle_limit, kept):
    """Elastic by default; `pool_idle=0` closes on return, as SQLAlchemy does."""
    pool, numbers = make(size=1, overflow=1, idle_limit=idle_limit)
    here = pool.here()
    entries = [await here.acquire(), await here.acquire()]
    for entry in entries:
        here.release(entry)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert numbers.open == kept
    await pool.dispose()


async def test_a_minimum_is_there_and_is_restored():
    """E2, CF-8: after the first use in a loop, and again after connections were lost."""
    pool, numbers = make(size=3, min_idle=2)
    here = pool.here()
    await until(lambda: len(here.core.idle) == 2)
    here.doom(here.core.now)
    await until(lambda: len(here.core.idle) == 2)
    assert numbers.opened == 4


async def test_warm_opens_in_advance():
    """`warm(n)` returns when n connections are idle, and raises the driver's error."""
    pool, numbers = make(size=6)
    await pool.warm(6)
    assert pool.checkedin() == 6
    numbers.refusals = [WrongPassword()]
    pool.resize(8)
    with pytest.raises(WrongPassword):
        await pool.warm(8)


async def test_a_long_lease_is_told_once_and_cut_off():
    """`leak_after` names holder and place; `reclaim_after` cuts the connection off."""
    pool, numbers = make(leak_after=0.01, reclaim_after=0.02)
    here = pool.here()
    entry = await here.acquire()
    await until(lambda: numbers.cut_off)

    (lease,) = numbers.told
    assert "test_a_long_lease_is_told_once" in lease.place
    assert numbers.cut_off == [1]
    here.release(entry)
    assert numbers.closed == [(1, "reclaimed")]


# -- all at once -------------------------------------------------------------------------------


async def test_disposal_closes_idle_connections_now_and_lent_ones_later():
    """The limit stays true: a lent connection counts until it is back."""
    pool, numbers = make(size=2)
    here = pool.here()
    lent, idle = await here.acquire(), await here.acquire()
    here.release(idle)

    await pool.dispose()
    assert numbers.open == {lent.connection}
    here.release(lent)
    await pool.dispose()
    assert numbers.open == set()


async def test_closing_refuses_drains_and_cuts():
    """`close(timeout)`: waiters fail at once, what is lent may finish, then it is cut off."""
    pool, numbers = make(size=1)
    here = pool.here()
    entry = await here.acquire()
    waiting = asyncio.create_task(here.acquire())
    await until_queued(here, 1)

    closing = asyncio.create_task(pool.close(0.02))
    with pytest.raises(PoolClosed):
        await waiting
    await closing
    assert numbers.cut_off == [1]
    here.release(entry)
    with pytest.raises(PoolClosed):
        await here.acquire()


async def test_closing_ends_as_soon_as_everything_is_back():
    """No time-out is waited for."""
    pool, numbers = make()
    here = pool.here()
    entry = await here.acquire()
    closing = asyncio.create_task(pool.close(60))
    await asyncio.sleep(0)
    here.release(entry)
    await asyncio.wait_for(closing, 5)
    assert (numbers.open, numbers.cut_off) == (set(), [])


async def test_resizing_serves_the_waiting_at_once():
    """F1, F2: in place; shrinking spares what is in use and closes it on return."""
    pool, numbers = make(size=1)
    here = pool.here()
    first = await here.acquire()
    waiting = asyncio.create_task(here.acquire())
    await until_queued(here, 1)
    pool.resize(2)
    second = await waiting

    pool.resize(1)
    assert numbers.open == {1, 2}
    here.release(first)
    here.release(second)
    await until(lambda: len(numbers.open) == 1)
    assert (pool.size(), pool.checkedin()) == (1, 1)


async def test_no_reuse_closes_each_connection_at_its_return():
    """E5: what SQLAlchemy calls NullPool."""
    pool, numbers = make(size=0, reuse=False)
    here = pool.here()
    here.release(await here.acquire())
    here.release(await here.acquire())
    await pool.dispose()

    assert numbers.opened == 2
    assert numbers.open == set()


async def test_the_numbers_add_up():
    """K1, K2: opened less closed is idle plus used; reading them needs no private attribute."""
    pool, _ = make(size=2, overflow=1)
    here = pool.here()
    entries = [await here.acquire() for _ in range(3)]
    here.release(entries[0])
    here.release(entries[1], "broken")

    stats = pool.stats()
    assert (stats.opened, dict(stats.closed)) == (3, {"broken": 1})
    assert stats.opened - sum(stats.closed.values()) == stats.idle + stats.used == 2
    assert (pool.size(), pool.checkedin(), pool.checkedout(), pool.overflow()) == (2, 1, 1, 0)
    assert pool.status() == (
        "Pool size: 2  Connections in pool: 1 Current Overflow: 0 Current Checked out connections: 1"
    )
    assert "1 lent, 1 idle" in repr(pool)
    here.release(entries[2])


# -- loops -------------------------------------------------------------------------------------


def test_each_event_loop_has_connections_of_its_own():
    """A connection belongs to its loop; a second asyncio.run works, a closed loop's are dropped."""
    pool, numbers = make(size=5)

    async def use():
        here = pool.here()
        entry = await here.acquire()
        here.release(entry)
        return entry.connection

    assert [asyncio.run(use()), asyncio.run(use())] == [1, 2]
    assert numbers.open == {2}


def test_a_loop_that_ends_with_waiters_leaves_no_error(recwarn):
    """Tasks that are destroyed while they wait give up quietly."""
    pool, _ = make()

    async def use():
        here = pool.here()
        await here.acquire()
        asyncio.get_running_loop().waiting = asyncio.create_task(here.acquire())
        await until_queued(here, 1)

    asyncio.run(use())
    asyncio.run(use())
    gc.collect()
    assert [str(warning.message) for warning in recwarn] == []


def test_a_shared_pool_keeps_its_connection_from_loop_to_loop():
    """An in-memory database is its connection."""
    pool, _ = make(shared=True)

    async def use():
        here = pool.here()
        entry = await here.acquire()
        here.release(entry)
        return entry.connection

    assert [asyncio.run(use()), asyncio.run(use())] == [1, 1]


def test_a_forked_child_begins_anew():
    """E6: what there was belongs to the parent; a lease from there is not given back to anybody."""
    pool, numbers = make(size=2)
    left = []
    numbers.abandon = left.append

    async def use():
        here = pool.here()
        kept, idle = await here.acquire(), await here.acquire()
        here.release(idle)
        pool.leave_behind()  # what os.register_at_fork() calls in the child
        here.release(kept)
        entry = await pool.here().acquire()
        pool.here().release(entry)
        return entry.connection

    assert asyncio.run(use()) == 3
    assert sorted(entry.connection for entry in left) == [1, 2]
    assert numbers.open == {1, 2, 3}
