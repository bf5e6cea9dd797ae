"""The pool's decisions, with the clock and the callers as arguments."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from sojourn.pool.core import Close, Connect, Lease, PoolCore, Ticket, Wait, Wake


def lend(core, connection="c", now=0.0):
    """Acquire through a new connection."""
    assert isinstance(core.acquire(Ticket(), now), Connect)
    return core.connected(connection, now)


def test_nothing_is_opened_before_it_is_asked_for():
    """E1: a new core has no connection; the first caller is told to connect."""
    core = PoolCore(2, 0)

    assert core.total == 0
    assert isinstance(core.acquire(Ticket(), 0.0), Connect)
    assert (core.total, core.connecting) == (1, 1)


def test_an_idle_connection_is_lent_again_in_turn_or_hottest_first():
    """The default lends in turn, lifo the one returned last."""
    for lifo, expected in ((False, "a"), (True, "b")):
        core = PoolCore(2, 0, lifo=lifo)
        first, second = lend(core, "a"), lend(core, "b")
        core.release(first, 1.0)
        core.release(second, 2.0)

        decision = core.acquire(Ticket(), 3.0)

        assert isinstance(decision, Lease)
        assert decision.entry.connection == expected


def test_take_is_the_short_way_of_acquire():
    """`take` lends an idle connection, and does nothing where there is none."""
    core = PoolCore(1, 0, max_age=10)
    assert core.take(0.0) is None
    entry = lend(core)
    core.release(entry, 1.0)

    assert core.take(2.0) is entry
    core.release(entry, 3.0)
    assert core.take(11.0) is None  # too old: acquire will have it replaced
    assert core.total == 1


def test_live_connections_never_exceed_size_plus_overflow_and_idle_ones_never_the_size():
    """E1: the fourth caller of 2 + 1 waits; of three returned connections two are kept."""
    core = PoolCore(2, 1)
    entries = [lend(core, n) for n in range(3)]

    ticket = Ticket()
    assert isinstance(core.acquire(ticket, 0.0), Wait)
    core.give_up(ticket, 0.0)
    actions = [action for entry in entries for action in core.release(entry, 0.0)]

    assert actions == [Close(entries[2])]
    assert len(core.idle) == 2


@pytest.mark.parametrize(("size", "overflow"), [(0, 10), (5, -1)])
def test_size_zero_or_overflow_minus_one_is_no_limit(size, overflow):
    """As in SQLAlchemy's QueuePool."""
    core = PoolCore(size, overflow)

    assert [isinstance(core.acquire(Ticket(), 0.0), Connect) for _ in range(50)] == [True] * 50


def test_waiters_are_served_first_come_first_served():
    """A returned connection goes to the oldest waiter, past nobody, and never to the idle ones."""
    core = PoolCore(1, 0)
    entry = lend(core)
    first, second = Ticket(), Ticket()
    core.acquire(first, 0.0)
    core.acquire(second, 0.0)

    assert core.release(entry, 1.0) == [Wake(first)]
    assert first.entry is entry
    assert core.release(entry, 2.0) == [Wake(second)]
    assert not core.idle


def test_a_failed_connect_wakes_a_waiter_who_may_then_connect():
    """The freed place is not left empty beside a sleeper (SQLAlchemy's waiters sleep to the end)."""
    core = PoolCore(1, 0)
    assert isinstance(core.acquire(Ticket(), 0.0), Connect)
    waiter = Ticket()
    core.acquire(waiter, 0.0)

    assert core.connect_failed() == [Wake(waiter)]
    assert waiter.may_connect
    assert core.connecting == 1


def test_a_broken_connection_is_closed_and_its_place_handed_on():
    """The waiter gets the right to connect, not the broken connection."""
    core = PoolCore(1, 0)
    entry = lend(core)
    waiter = Ticket()
    core.acquire(waiter, 0.0)

    assert core.release(entry, 1.0, healthy=False) == [Close(entry), Wake(waiter)]
    assert waiter.entry is None
    assert waiter.may_connect


def test_whoever_gives_up_passes_on_what_it_was_served_meanwhile():
    """Neither a connection nor a permit is lost between a time-out and a hand-over."""
    core = PoolCore(1, 0)
    entry = lend(core)
    late, next_one = Ticket(), Ticket()
    core.acquire(late, 0.0)
    core.acquire(next_one, 0.0)
    core.release(entry, 1.0)

    assert core.give_up(late, 1.0) == [Wake(next_one)]
    assert next_one.entry is entry

    core.acquire(late := Ticket(), 1.0)
    core.release(entry, 2.0, healthy=False)
    assert late.may_connect
    core.give_up(late, 2.0)
    assert core.total == 0


def test_age_replaces_a_connection_at_its_next_lease_or_return_never_in_use():
    """E4: what was opened max_age seconds ago is closed when it is not in use."""
    core = PoolCore(1, 0, max_age=10)
    entry = lend(core, now=0.0)
    core.release(entry, 5.0)

    assert core.acquire(Ticket(), 11.0) == Connect(entry)
    fresh = core.connected("d", 11.0)
    assert core.release(fresh, 30.0) == [Close(fresh)]


def test_dispose_closes_idle_connections_now_and_lent_ones_at_their_return():
    """The limit stays true meanwhile: a lent connection of the old generation keeps its place."""
    core = PoolCore(2, 0)
    lent, idle = lend(core, "lent"), lend(core, "idle")
    core.release(idle, 1.0)

    assert core.dispose() == [Close(idle)]
    assert core.total == 1
    assert core.release(lent, 2.0) == [Close(lent)]
    assert core.total == 0


def test_a_second_return_is_refused():
    """Returning twice would lend one connection to two callers."""
    core = PoolCore(1, 0)
    entry = lend(core)
    core.release(entry, 0.0)

    with pytest.raises(ValueError, match="already"):
        core.release(entry, 0.0)


def test_repr_is_a_status_line():
    """The numbers a person needs."""
    core = PoolCore(2, 1)
    lend(core)

    assert repr(core) == "<PoolCore limit 3: 1 lent, 0 idle, 0 connecting, 0 waiting>"


class PoolMachine(RuleBasedStateMachine):
    """Random callers: whatever they do, no connection is shared, lost, or over the limit."""

    lent = Bundle("lent")
    permits = Bundle("permits")
    waits = Bundle("waits")

    def __init__(self):
        super().__init__()
        self.core = PoolCore(2, 1, max_age=50)
        self.now = 0.0
        self.opened = 0
        self.holders = set()
        self.closed = set()

    def take_place(self, entry):
        assert entry not in self.holders
        assert entry not in self.closed
        self.holders.add(entry)
        return entry

    def note(self, actions):
        for action in actions:
            if isinstance(action, Close):
                assert action.entry not in self.holders
                assert action.entry not in self.closed
                self.closed.add(action.entry)

    @rule(target=waits)
    def acquire(self):
        ticket = Ticket()
        decision = self.core.acquire(ticket, self.now)
        if isinstance(decision, Lease):
            ticket.entry = decision.entry
        elif isinstance(decision, Connect):
            ticket.may_connect = True
            if decision.retired is not None:
                self.closed.add(decision.retired)
        return ticket

    @rule(target=lent, ticket=consumes(waits), fails=st.booleans())
    def go_on(self, ticket, fails):
        if ticket.entry is not None:
            return self.take_place(ticket.entry)
        if ticket.may_connect:
            if fails:
                self.note(self.core.connect_failed())
                return None
            self.opened += 1
            return self.take_place(self.core.connected(self.opened, self.now))
        self.note(self.core.give_up(ticket, self.now))
        return None

    @rule(ticket=consumes(waits))
    def give_up(self, ticket):
        self.note(self.core.give_up(ticket, self.now))

    @rule(entry=consumes(lent), healthy=st.booleans())
    def release(self, entry, healthy):
        if entry is not None:
            self.holders.discard(entry)
            self.note(self.core.release(entry, self.now, healthy=healthy))

    @rule()
    def dispose(self):
        self.note(self.core.dispose())

    @rule(seconds=st.floats(0, 30))
    def pass_time(self, seconds):
        self.now += seconds

    @invariant()
    def limits_hold(self):
        core = self.core
        assert core.total <= 3
        assert len(core.idle) <= 2
        assert min(core.leased, core.connecting) >= 0
        assert not (core.waiting and (core.idle or core.has_room()))
        assert not self.closed & set(core.idle)


TestPoolMachine = PoolMachine.TestCase
TestPoolMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
