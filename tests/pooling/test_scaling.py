"""The autoscaler, with the pool's numbers and the time as arguments."""

from __future__ import annotations

import asyncio
import gc
import random
import threading

import pytest

from sojourn.pooling.core import PoolCore
from sojourn.pooling.histogram import Histogram
from sojourn.pooling.scaling import Autoscaler, KeeperDriver, LoopDriver, Memory, Rule, decide, expected_wait
from sojourn.pooling.stats import PoolStats, snapshot
from tests.pooling.test_core_model import NIGHTLY
from tests.pooling.world import World

RULE = Rule(min=2, max=6, step=2, cool_down=10, target_wait=0.05)


def looks_like(size=4, used=0, waiting=0, waits=(), overflow=0, idle=None, **more):
    """Return the numbers of a pool; *waits* are how long everybody waited who ever came."""
    histogram = Histogram()
    for wait in waits:
        histogram.add(wait)
    idle = max(size - used, 0) if idle is None else idle
    return PoolStats(
        size=size, overflow=overflow, max=size + overflow, used=used, idle=idle, waiting=waiting,
        wait_time=histogram, **more,
    )  # fmt: skip


def run(*steps, rule=RULE):
    """Show the numbers at their times to a new autoscaler's rule; return the sizes it wants."""
    memory, wanted = Memory(), []
    for now, stats in steps:
        size, memory = decide(rule, memory, stats, now)
        wanted.append(size)
    return wanted


BUSY = {"used": 4, "waiting": 3}


def test_it_grows_when_callers_wait_for_longer_than_the_target():
    """F3: of those who were served since the last look, nearly all have waited; the limit was the reason."""
    assert run((0, looks_like(used=4)), (1, looks_like(used=4, waits=[0.2] * 20))) == [None, 6]


def test_it_grows_when_nobody_in_line_is_served():
    """F3: who waits for ever is never counted as served; the line itself tells."""
    assert run((0, looks_like(**BUSY)), (1, looks_like(**BUSY))) == [None, 6]


def test_it_grows_when_a_caller_ran_out_of_time():
    """F3: also when nobody is in line at either look."""
    assert run((0, looks_like(used=4)), (1, looks_like(used=4, timeouts=1))) == [None, 6]


def test_a_line_that_moves_fast_is_no_reason_to_grow():
    """3 waiters at 1,000 served a second wait for 3 ms."""
    served = [0.003] * 1000
    assert run((0, looks_like(**BUSY)), (1, looks_like(**BUSY, waits=served))) == [None, None]
    assert expected_wait(looks_like(**BUSY), looks_like(**BUSY, waits=served), 1.0) == pytest.approx(
        0.004, rel=0.3
    )


def test_a_line_that_was_not_there_before_is_no_reason_to_grow():
    """It may be gone within a millisecond."""
    assert run((0, looks_like(used=4)), (1, looks_like(**BUSY))) == [None, None]


def test_below_the_limit_it_does_not_grow():
    """Callers wait for connections that are being opened; a larger size would not speed that up."""
    opening = looks_like(used=2, waiting=3, idle=0, connecting=1)

    assert run((0, opening), (1, opening)) == [None, None]


def test_it_grows_no_further_than_the_maximum():
    """F3: by the step, but not past the bound."""
    full = {"used": 5, "waiting": 3}

    assert run((0, looks_like(5, **full)), (1, looks_like(5, **full))) == [None, 6]
    assert run((0, looks_like(6, used=6, waiting=3)), (99, looks_like(6, used=6, waiting=3))) == [None, None]


def test_between_two_changes_is_the_cool_down():
    """F3: a change is given time to work."""
    busy = {"used": 3, "waiting": 9}
    steps = [
        (now, looks_like(3, **busy) if now < 2 else looks_like(5, used=5, waiting=9)) for now in range(14)
    ]

    wanted = run(*steps)

    assert [(now, size) for now, size in enumerate(wanted) if size] == [(1, 5), (11, 6)]


def test_it_shrinks_after_calm():
    """F3: when for the whole cool-down a step fewer would have done."""
    wanted = run(*((now, looks_like(6, used=1)) for now in range(15)))

    assert [(now, size) for now, size in enumerate(wanted) if size] == [(11, 4)]  # from the second look on


def test_calm_that_is_disturbed_begins_anew():
    """F3: one busy moment is a reason to keep what there is."""
    wanted = run(*((now, looks_like(6, used=5 if now == 8 else 1)) for now in range(20)))

    assert [(now, size) for now, size in enumerate(wanted) if size] == [(19, 4)]


def test_it_shrinks_no_further_than_the_minimum():
    """F3: by the step, but not past the bound."""
    assert run((0, looks_like(3)), (1, looks_like(3)), (11, looks_like(3))) == [None, None, 2]
    assert run((0, looks_like(2)), (1, looks_like(2)), (11, looks_like(2))) == [None, None, None]


def test_a_pool_in_use_is_not_shrunk():
    """All of them are needed, though nobody waits."""
    assert run(*((now, looks_like(6, used=5)) for now in range(0, 50, 5))) == [None] * 10


@pytest.mark.parametrize(("size", "wanted"), [(1, 2), (9, 6), (4, None)])
def test_a_pool_outside_the_bounds_is_brought_into_them_at_once(size, wanted):
    """F3: somebody else may have resized it."""
    assert run((0, looks_like(size))) == [wanted]


@pytest.mark.parametrize(
    "wrong",
    [{"min": 0}, {"max": 1}, {"step": 0}, {"cool_down": -1}, {"target_wait": 0}],
    ids=lambda wrong: str(*wrong),
)
def test_a_rule_that_cannot_hold_is_refused(wrong):
    """Before anything is resized, with what was given."""
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}={next(iter(wrong.values()))}"):
        Rule(**{"min": 2, "max": 6, **wrong})


# -- driven ------------------------------------------------------------------------------------


class CorePool:
    """A front without waiting: what a pool is to an autoscaler."""

    def __init__(self):
        self.core = PoolCore(2, 1)
        self.resized = threading.Event()

    def stats(self):
        return snapshot(self.core, "shop")

    def resize(self, size, overflow):
        self.core.resize(size, overflow)
        self.resized.set()


class ByHand(LoopDriver):
    """A driver whose time the test tells."""

    def __init__(self):
        self.planned = []
        self.cancelled = 0

    def now(self):
        return 100.0

    def plan(self, call, when):
        self.planned.append((call, when))
        return self

    def cancel(self):
        self.cancelled += 1


def test_it_resizes_the_same_pool_and_leaves_the_overflow():
    """F3, CF-23: in place; it looks again after its interval."""
    pool, driver = CorePool(), ByHand()

    scaler = Autoscaler(pool, 4, 8, every=2.0, driver=driver)

    assert driver.planned == [(scaler.check, 100.0)]
    assert scaler.check(100.0) == 102.0
    assert (pool.core.size, pool.core.overflow) == (4, 1)
    assert repr(scaler) == "<Autoscaler 4 to 8 by 1>"


def test_a_stopped_one_leaves_the_pool_alone():
    """F3: nothing is planned any more, and a call under way does nothing."""
    pool, driver = CorePool(), ByHand()
    scaler = Autoscaler(pool, 4, 8, driver=driver)

    scaler.stop()
    scaler.stop()

    assert driver.cancelled == 1
    assert scaler.check(101.0) is None
    assert (pool.core.size, scaler.running) == (2, False)
    assert repr(scaler) == "<Autoscaler 4 to 8 by 1, stopped>"


def test_it_ends_with_its_pool():
    """F3: it does not keep alive what it watches."""
    pool = CorePool()
    scaler = Autoscaler(pool, 4, 8, driver=ByHand())
    del pool
    gc.collect()

    assert scaler.check(101.0) is None
    assert not scaler.running


def test_a_change_is_logged_with_its_numbers(caplog):
    """K5: on request, by the pool's name."""
    with caplog.at_level("INFO", logger="sojourn.pool"):
        Autoscaler(CorePool(), 4, 8, driver=ByHand())
        pool = CorePool()
        Autoscaler(pool, 4, 8, driver=ByHand()).check(100.0)

    assert [record.getMessage() for record in caplog.records] == ["Pool 'shop': 4 connections instead of 2"]


def test_the_keeper_drives_it():
    """A pool of threads is resized without anybody asking, and not in the keeper's thread."""
    pool = CorePool()
    pool_thread = []
    resize = pool.resize
    pool.resize = lambda *limits: (pool_thread.append(threading.current_thread().name), resize(*limits))

    scaler = Autoscaler(pool, 4, 8, driver=KeeperDriver())
    assert pool.resized.wait(10)
    scaler.stop()

    assert pool.core.size == 4
    assert pool_thread == ["sojourn-autoscaler"]


async def test_a_loop_drives_it():
    """A pool that belongs to a loop is resized in it, again and again until it is stopped."""
    pool = CorePool()
    looks = asyncio.Queue()
    stats = pool.stats
    pool.stats = lambda: (looks.put_nowait(threading.current_thread()), stats())[1]

    scaler = Autoscaler(pool, 4, 8, every=0.0, driver=LoopDriver(asyncio.get_running_loop()))
    seen = [await asyncio.wait_for(looks.get(), 10) for _ in range(3)]
    scaler.stop()
    so_far = looks.qsize()
    for _ in range(3):
        await asyncio.sleep(0)

    assert set(seen) == {threading.current_thread()}
    assert looks.qsize() == so_far
    assert pool.core.size == 4


async def test_a_loop_does_not_keep_it_alive():
    """Whoever forgets the pool forgets its autoscaler."""
    loop = asyncio.get_running_loop()
    scaler = Autoscaler(CorePool(), 4, 8, driver=LoopDriver(loop))
    plan = scaler._plan
    del scaler
    gc.collect()
    await asyncio.sleep(0)

    assert plan._call() is None


# -- resizing under load -----------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("racing", [False, True])
def test_a_thousand_resizes_under_load_never_exceed_the_maximum(racing):
    """F4: live connections stay within the largest limit ever set, whoever asks and returns meanwhile."""
    luck = random.Random(f"resize {racing}")
    most = 8
    world = World(size=4, overflow=4, racing=racing)
    resized = 0
    while resized < (20_000 if NIGHTLY else 1_000):
        if luck.random() < 0.2:
            size = luck.randrange(1, most + 1)
            world.resize(size, luck.randrange(most - size + 1))
            resized += 1
        act = luck.random()
        if (act < 0.45 and len(world.line) < 30) or not (
            world.lent or world.permits or world.creators or world.woken
        ):
            world.acquire(luck.choice([None, 1.0]))
        elif world.woken:
            world.proceed(luck.randrange(9))
        elif world.permits:
            world.connect()
        elif world.creators and act < 0.7:
            world.create()
        elif world.lent:
            world.give_back(luck.randrange(9), luck.choice([None, None, "broken"]))
        assert world.core.total <= most
    world.come_to_rest()


def test_scaled_pools_settle_where_nobody_waits_for_long():
    """F3: a load that needs five connections ends with five, not at either bound."""
    driver, pool = ByHand(), CorePool()
    scaler = Autoscaler(pool, 1, 20, cool_down=5, target_wait=0.05, driver=driver)
    waits = Histogram()
    for second in range(300):
        limit = pool.core.size + pool.core.overflow
        for _ in range(100):
            waits.add(0.0 if limit >= 5 else 0.5)
        used = min(limit, 5)
        numbers = PoolStats(
            size=pool.core.size, overflow=1, max=limit, used=used, idle=limit - used, wait_time=waits.copy(),
            waiting=0 if limit >= 5 else 7,
        )  # fmt: skip
        pool.stats = lambda numbers=numbers: numbers
        scaler.check(100.0 + second)

    assert pool.core.size == 4  # and one more beyond it
