"""The pool's core under callers that do anything in any order.

`world.World` keeps its own books and compares them with the core's after every step.
"""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.pooling.world import World

NIGHTLY = os.environ.get("SOJOURN_NIGHTLY") == "1"

OPTIONS = {
    "plain": {"size": 2, "overflow": 1},
    "racing": {"size": 2, "overflow": 3, "racing": True},
    "in turn, overflow closed": {"size": 2, "overflow": 2, "idle_limit": 0, "lifo": False},
    "ageing": {"size": 2, "overflow": 2, "max_age": 40, "idle_limit": 10, "max_idle": 25},
    "racing and ageing": {
        "size": 3, "overflow": 2, "racing": True, "max_age": 40, "idle_limit": 10, "min_idle": 2,
        "max_creators": 2, "leak_after": 5, "reclaim_after": 20,
    },
    "racing and ageing at the limit": {"size": 3, "overflow": 0, "racing": True, "max_age": 20},
    "no limit": {"size": 0, "overflow": 0, "max_age": 40, "racing": True, "min_idle": 1},
    "one": {"size": 1, "overflow": 0, "max_idle": 5, "leak_after": 3},
}  # fmt: skip

indices = st.integers(0, 50)


class PoolMachine(RuleBasedStateMachine):
    """Let Hypothesis choose what happens."""

    def __init__(self):
        super().__init__()
        self.world = World()

    @initialize(name=st.sampled_from(sorted(OPTIONS)))
    def begin(self, name):
        self.world = World(**OPTIONS[name])

    @rule(patience=st.none() | st.floats(0.5, 20), races=st.booleans())
    def acquire(self, patience, races):
        self.world.acquire(patience, races=races)

    @precondition(lambda self: self.world.woken)
    @rule(index=indices)
    def proceed(self, index):
        self.world.proceed(index)

    @precondition(lambda self: self.world.line or self.world.woken)
    @rule(index=indices)
    def give_up(self, index):
        self.world.give_up(index)

    @precondition(lambda self: self.world.permits)
    @rule(luck=st.floats(0, 1))
    def connect(self, luck):
        self.world.connect(luck)

    @precondition(lambda self: self.world.permits)
    @rule(hopeless=st.booleans())
    def fail_to_connect(self, hopeless):
        self.world.fail_to_connect(hopeless=hopeless)

    @precondition(lambda self: self.world.lent)
    @rule(index=indices, reason=st.sampled_from([None, None, "broken", "reset"]))
    def give_back(self, index, reason):
        self.world.give_back(index, reason)

    @precondition(lambda self: self.world.lent)
    @rule(index=indices)
    def detach(self, index):
        self.world.detach(index)

    @precondition(lambda self: self.world.lent)
    @rule(index=indices)
    def replace(self, index):
        self.world.replace(index)

    @precondition(lambda self: self.world.core.idle)
    @rule(index=indices)
    def borrow(self, index):
        self.world.borrow(index)

    @precondition(lambda self: self.world.creators)
    @rule(luck=st.floats(0, 1))
    def create(self, luck):
        self.world.create(luck)

    @precondition(lambda self: self.world.creators)
    @rule(error=st.booleans(), hopeless=st.booleans())
    def fail_to_create(self, error, hopeless):
        self.world.fail_to_create(error=error, hopeless=hopeless)

    @rule(size=st.integers(1, 4), overflow=st.integers(-1, 3))
    def resize(self, size, overflow):
        self.world.resize(size, overflow)

    @rule()
    def dispose(self):
        self.world.dispose()

    @rule(age=st.floats(0, 50))
    def doom(self, age):
        self.world.doom(age)

    @rule(idle=st.integers(0, 4))
    def fill(self, idle):
        if self.world.core.racing:
            self.world.fill(idle)

    @rule()
    def tick(self):
        self.world.tick()

    @rule(seconds=st.floats(0, 15))
    def wait(self, seconds):
        self.world.wait(seconds)

    @rule(really=st.integers(0, 9))
    def close(self, really):
        if really == 0:
            self.world.close()

    @rule(really=st.integers(0, 4))
    def fork(self, really):
        if really == 0:
            self.world.fork()

    def teardown(self):
        """At rest nobody waits, and what is open is idle."""
        self.world.come_to_rest()


@pytest.mark.slow
class TestPoolMachine(PoolMachine.TestCase):
    """Hypothesis finds and shortens what breaks an invariant."""

    settings = settings(
        max_examples=2_000 if NIGHTLY else 150, stateful_step_count=60, deadline=None, print_blob=True
    )


def choose(world, luck):
    """Return one thing that may happen now, drawn so that the pool is busy most of the time."""
    index = luck.randrange(50)
    doing = [
        (30, lambda: world.acquire(luck.choice([None, 0.5, 2, 20]), races=luck.random() < 0.9)),
        (10, lambda: world.tick()),
    ]
    doing += [(10, lambda: world.wait(luck.choice([0, 0.1, 1, 7])))]
    doing += [(1, lambda: world.resize(luck.randrange(1, 5), luck.randrange(-1, 4))), (1, world.dispose)]
    doing += [(1, lambda: world.doom(luck.uniform(0, 50)))]
    if luck.random() < 0.01:
        doing += [(2, world.fork)]
    if world.lent:
        doing += [(30, lambda: world.give_back(index)), (5, lambda: world.give_back(index, "broken"))]
        doing += [(1, lambda: world.detach(index)), (2, lambda: world.replace(index))]
    if world.core.idle:
        doing += [(1, lambda: world.borrow(index))]
    if world.woken:
        doing += [(30, lambda: world.proceed(index)), (5, lambda: world.give_up(index))]
    if world.line:
        doing += [(8, lambda: world.give_up(index))]
    if world.permits:
        doing += [(20, lambda: world.connect(luck.random())), (5, world.fail_to_connect)]
        doing += [(1, lambda: world.fail_to_connect(hopeless=True))]
    if world.creators:
        doing += [(20, lambda: world.create(luck.random())), (5, world.fail_to_create)]
        doing += [(1, lambda: world.fail_to_create(hopeless=True))]
        doing += [(1, lambda: world.fail_to_create(error=False))]
    if world.core.racing:
        doing += [(1, lambda: world.fill(luck.randrange(4)))]
    return luck.choices([act for _, act in doing], [weight for weight, _ in doing])[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_whatever_callers_do_nothing_is_lost_shared_or_above_the_limit(name):
    """E1, K2: the books agree after each of 15,000 random steps, 130,000 of them nightly."""
    luck = random.Random(f"pool {name}")
    done = 0
    while done < (130_000 if NIGHTLY else 15_000):
        done += live(name, luck, 3_000)


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_at_rest_nobody_waits_and_all_that_is_open_is_idle(name):
    """E1, K2: after a short life; the long ones are above."""
    live(name, random.Random(f"short {name}"), 400)


def live(name, luck, steps):
    """Let a pool live for so many steps and end; return how many it were."""
    world = World(**OPTIONS[name])
    while world.steps < steps:
        choose(world, luck)()
    world.come_to_rest()
    assert (world.core.leased, world.core.connecting, len(world.core.waiting)) == (0, 0, 0)
    world.close()
    assert world.core.counts["opened"] == sum(world.core.closed_by.values())
    return world.steps
