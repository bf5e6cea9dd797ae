"""The asyncio front: waits, wakes, connects; no cancelled task costs a connection or a place."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest

from sojourn.errors import PoolDeadlock, PoolTimeout
from tests.pooling.numbers import Clock, Refused, WrongPassword, make, until, until_queued

# -- lending -----------------------------------------------------------------------------------


async def test_a_connection_is_opened_once_and_lent_again():
    """E1: nothing is opened at creation."""
    pool, numbers = make()
    here = pool.here()
    assert numbers.opened == 0

    for _ in range(3):
        entry = await here.acquire()
        assert entry.connection == 1
        here.release(entry)


@pytest.mark.parametrize(("lifo", "expected"), [(True, [2, 2, 2]), (False, [1, 2, 1])])
async def test_the_hottest_connection_is_lent_or_each_in_turn(lifo, expected):
    """`lifo=False` is a round robin."""
    pool, _ = make(size=2, lifo=lifo)
    here = pool.here()
    first, second = await here.acquire(), await here.acquire()
    here.release(first)
    here.release(second)

    lent = []
    for _ in range(3):
        entry = await here.acquire()
        lent.append(entry.connection)
        here.release(entry)
    assert lent == expected


async def test_waiters_are_served_in_their_order():
    """First come, first served, though a newcomer asks at the moment of each return."""
    pool, _ = make(size=2)
    here = pool.here()
    first, second = await here.acquire(), await here.acquire()
    served = []

    async def caller(name):
        entry = await here.acquire()
        served.append(name)
        await asyncio.sleep(0)
        here.release(entry)

    tasks = []
    for name in range(5):
        tasks.append(asyncio.create_task(caller(name)))
        await until_queued(here, name + 1)
    here.release(first)
    tasks.append(asyncio.create_task(caller("late")))
    here.release(second)
    await asyncio.gather(*tasks)

    assert served == [0, 1, 2, 3, 4, "late"]


async def test_a_lease_names_its_task_and_place():
    """K1: who holds a connection, since when and from where, without private attributes."""
    clock = Clock()
    pool, _ = make(clock=clock)
    here = pool.here()
    entry = await here.acquire()
    clock.now += 3

    (lease,) = pool.leases()
    assert lease.age == 3
    assert lease.holder == asyncio.current_task().get_name()
    assert "test_async_pool.py" in lease.place
    assert "test_a_lease_names_its_task_and_place" in lease.place
    here.release(entry)
    assert pool.leases() == []


# -- waiting in vain ---------------------------------------------------------------------------


async def test_a_wait_in_vain_tells_the_numbers_and_the_holders():
    """E3: the built-in TimeoutError, in time, with the holders by task, age and place; no trace is left."""
    pool, _ = make(size=2, timeout=0.05)
    here = pool.here()

    async def hold():
        return await here.acquire()

    entries = [await asyncio.create_task(hold(), name=f"holder {n}") for n in range(2)]
    started = asyncio.get_running_loop().time()

    with pytest.raises(TimeoutError) as caught:
        await here.acquire()

    assert 0.045 <= asyncio.get_running_loop().time() - started < 0.5
    assert isinstance(caught.value, PoolTimeout)
    assert "of at most 2 there are 2 lent, 0 idle, 0 connecting; 1 wait" in str(caught.value)
    assert "test_async_pool.py" in str(caught.value)
    assert len(caught.value.leases) == 2
    assert not here.core.waiting
    assert pool.stats().timeouts == 1
    for entry in entries:
        here.release(entry)


async def test_a_time_limit_can_be_given_per_call():
    """`acquire(timeout=)` overrides the pool's."""
    pool, _ = make(timeout=60, self_wait="wait")
    here = pool.here()
    entry = await here.acquire()
    with pytest.raises(PoolTimeout):
        await here.acquire(timeout=0.01)
    here.release(entry)


async def test_a_task_that_would_wait_for_itself_is_told_at_once():
    """E8: holding all there is and asking for more is an error and no wait."""
    pool, _ = make(size=2, timeout=30)
    here = pool.here()
    entries = [await here.acquire(), await here.acquire()]

    with pytest.raises(PoolDeadlock, match="holds every connection"):
        await here.acquire()

    waiting = asyncio.create_task(here.acquire())
    await until_queued(here, 1)
    here.release(entries.pop())
    entries.append(await waiting)
    for entry in entries:
        here.release(entry)


async def test_a_task_may_wait_for_what_another_will_give_back():
    """`self_wait="wait"`."""
    pool, _ = make(self_wait="wait")
    here = pool.here()
    entry = await here.acquire()
    asyncio.get_running_loop().call_soon(here.release, entry)

    assert await here.acquire() is entry
    here.release(entry)


async def test_a_line_that_is_long_enough_is_not_joined():
    """`max_waiting=1`: the second waiter is refused at once."""
    pool, _ = make(max_waiting=1, timeout=30)
    here = pool.here()
    entry = await here.acquire()
    waiting = asyncio.create_task(here.acquire())
    await until_queued(here, 1)

    with pytest.raises(PoolTimeout, match="1 callers wait already"):
        await asyncio.create_task(here.acquire())
    here.release(entry)
    here.release(await waiting)


async def test_who_is_late_is_not_served():
    """A connection that comes back after a waiter's time goes to the next one."""
    pool, _ = make()
    here = pool.here()
    entry = await here.acquire()
    hurried = asyncio.create_task(here.acquire(timeout=0))
    patient = asyncio.create_task(here.acquire(timeout=30))
    await until_queued(here, 2)

    here.release(entry)
    assert await patient is entry
    with pytest.raises(PoolTimeout):
        await hurried
    here.release(entry)


# -- connecting --------------------------------------------------------------------------------


async def test_a_return_serves_before_a_slow_connect():
    """Growth races returns: the waiter gets what comes first, the new connection stays for the next."""
    pool, numbers = make(size=2)
    here = pool.here()
    first = await here.acquire()
    numbers.gate = asyncio.Event()
    waiting = asyncio.create_task(here.acquire())
    await until(lambda: here.core.connecting == 1)

    here.release(first)
    assert await waiting is first
    numbers.gate.set()
    await until(lambda: here.core.connecting == 0)
    assert (len(here.core.idle), here.core.leased) == (1, 1)
    here.release(first)


async def test_a_transient_error_is_tried_again():
    """The caller notices a server that comes back within `connect_retry` by nothing but the time."""
    pool, numbers = make()
    here = pool.here()
    numbers.refusals = [Refused(), Refused(), Refused()]

    entry = await here.acquire()
    assert entry.connection == 1
    assert numbers.refusals == []
    here.release(entry)


async def test_waiters_are_served_when_the_server_comes_back():
    """Creators go on while somebody waits: transient errors cost nobody his place."""
    pool, numbers = make(size=3)
    here = pool.here()
    first = await here.acquire()
    numbers.refusals = [Refused() for _ in range(5)]

    entries = await asyncio.gather(here.acquire(), here.acquire())
    for entry in (first, *entries):
        here.release(entry)
    assert here.core.connecting == 0


async def test_without_retry_the_error_comes_at_once():
    """`connect_retry=0` is SQLAlchemy's way."""
    pool, numbers = make(connect_retry=0)
    numbers.refusals = [Refused()]
    with pytest.raises(Refused):
        await pool.here().acquire()
    assert pool.stats().connect_errors == 1


async def test_a_time_out_names_the_last_connect_error():
    """The cause of the error is what the server said last."""
    pool, numbers = make(size=2, timeout=0.05)
    here = pool.here()
    first = await here.acquire()
    numbers.refusals = [Refused(str(n)) for n in range(1000)]

    with pytest.raises(PoolTimeout) as caught:
        await asyncio.create_task(here.acquire())
    assert isinstance(caught.value.__cause__, Refused)
    here.release(first)


async def test_a_hopeless_error_reaches_all_at_once():
    """Nobody waits for a wrong password to become right."""
    pool, numbers = make(size=3, timeout=30)
    here = pool.here()
    first = await here.acquire()
    numbers.gate = asyncio.Event()
    numbers.refusals = [WrongPassword() for _ in range(9)]
    waiting = [asyncio.create_task(here.acquire()) for _ in range(5)]
    await until_queued(here, 5)
    numbers.gate.set()

    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(error) for error in found] == [WrongPassword] * 5
    here.release(first)


async def test_a_failed_connect_hands_its_place_on():
    """A waiter is served when somebody else's connect fails."""
    pool, numbers = make()
    here = pool.here()
    numbers.refusals = [OSError("neither")]
    failing = asyncio.create_task(here.acquire())
    await asyncio.sleep(0)
    waiting = asyncio.create_task(here.acquire())

    with pytest.raises(OSError, match="neither"):
        await failing
    here.release(await waiting)
    assert here.core.connecting == 0


async def test_a_cancelled_connect_hands_its_place_on():
    """The permit of a task that is cancelled while it connects goes to the next in line."""
    pool, numbers = make()
    here = pool.here()
    numbers.gate = asyncio.Event()
    connecting = asyncio.create_task(here.acquire())
    await until(lambda: here.core.connecting == 1)
    waiting = asyncio.create_task(here.acquire())
    await until_queued(here, 1)

    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connecting
    numbers.gate.set()
    here.release(await waiting)


# -- liveness ----------------------------------------------------------------------------------


async def test_a_connection_whose_socket_speaks_is_asked():
    """The socket is asked before each lease, the server only if the socket has something to say."""
    pool, numbers = make()
    here = pool.here()
    here.release(await here.acquire())
    here.release(await here.acquire())
    assert numbers.asked == []
    numbers.dead.add(1)

    again = await here.acquire()
    assert (again.connection, numbers.asked) == (2, [1])
    assert numbers.closed == [(1, "server")]
    here.release(again)
    assert (pool.stats().pings, pool.stats().pings_failed) == (1, 1)


async def test_the_server_is_asked_after_a_long_rest():
    """`ping_after`: a silent end is found before somebody works with it."""
    clock = Clock()
    pool, numbers = make(ping_after=30, clock=clock)
    here = pool.here()
    here.release(await here.acquire())
    clock.now += 29
    here.release(await here.acquire())
    assert numbers.asked == []
    clock.now += 30
    here.release(await here.acquire())
    assert numbers.asked == [1]


async def test_a_cancelled_question_costs_the_connection_not_the_place():
    """Nobody knows what a server answers to a question that was given up."""
    pool, numbers = make(ping_after=0)
    here = pool.here()
    here.release(await here.acquire())
    asking = asyncio.create_task(here.acquire())
    await until(lambda: numbers.asked)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    assert (here.core.total, numbers.open) == (0, set())


# -- cancellation ------------------------------------------------------------------------------


async def test_a_cancelled_waiter_passes_on_what_it_was_served():
    """Cancelled in the very moment in which it is handed a connection, a waiter gives it back."""
    pool, _ = make()
    here = pool.here()
    entry = await here.acquire()
    waiting = asyncio.create_task(here.acquire())
    await until_queued(here, 1)

    here.release(entry)  # served now, but not awake yet
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert here.core.leased == 0
    assert len(here.core.idle) == 1
    assert pool.stats().cancelled == 1


async def test_a_forgotten_lease_comes_back_from_any_thread():
    """What the garbage collector finds in another thread is thrown away on the event loop."""
    pool, numbers = make()
    here = pool.here()
    entry = await here.acquire()
    thread = threading.Thread(target=here.forget, args=(entry,))
    thread.start()
    thread.join()

    again = await here.acquire()
    assert again.connection == 2
    assert numbers.open == {2}
    assert pool.stats().gc_returns == 1
    here.release(again)


async def test_a_task_that_failed_is_not_kept_by_its_lease():
    """The pool knows holders weakly: an exception's frames would keep alive what they dropped."""
    pool, _ = make()
    here = pool.here()

    class Lease:
        def __init__(self, entry):
            self.entry = entry

        def __del__(self):
            here.forget(self.entry)

    async def drop():
        lease = Lease(await here.acquire())
        raise RuntimeError(lease.entry.connection)

    task = asyncio.create_task(drop())
    await asyncio.wait([task])
    assert isinstance(task.exception(), RuntimeError)
    del task
    gc.collect()
    await asyncio.sleep(0)
    assert here.core.leased == 0
