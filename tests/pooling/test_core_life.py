"""How the pool's connections age, end and are counted, rule by rule, with the clock as an argument."""

from __future__ import annotations

import pytest

from sojourn.pooling.core import Close, Connect, Entry, Leak, Open, PoolCore, Reclaim, Ticket, Wake
from tests.pooling.steps import lend, opening, said, stand_in_line

# -- age ---------------------------------------------------------------------------------------


def test_age_replaces_a_connection_at_its_next_lease_or_return_never_in_use():
    """E4: what was opened max_age seconds ago is closed when it is not in use."""
    core = PoolCore(1, 0, max_age=10)
    entry = lend(core, "old")
    core.release(entry, 5.0)

    decision = core.acquire(Ticket(), 11.0)
    assert isinstance(decision, Connect)
    assert decision.retired is entry
    assert core.closed_by == {"expired": 1}
    fresh = Entry("fresh")
    core.connected(fresh, 11.0)
    assert core.tick(30.0) == []
    assert said(core.release(fresh, 30.0)) == [(Close, ("fresh", "expired"))]


def test_connections_opened_together_retire_apart():
    """Up to a tenth of the age, by luck."""
    core = PoolCore(2, 0, max_age=100)

    assert lend(core, luck=0.0).expires == 100.0
    assert lend(core, luck=1.0).expires == 90.0


def test_an_expired_connection_does_not_hide_one_that_is_not():
    """Who finds the hottest too old gets the next, and connects only if all are."""
    core = PoolCore(2, 0, max_age=10)
    old, young = lend(core, "old", now=0.0), lend(core, "young", now=8.0)
    core.release(young, 8.0)
    core.release(old, 9.0)

    assert core.take(11.0) is None
    assert core.acquire(Ticket(), 11.0) is young
    assert said(core.tick(11.0)) == [(Close, ("old", "expired"))]


def test_with_creators_a_connection_is_replaced_before_it_is_closed():
    """One after the other, `max_age / size` apart, so that all are in time and callers find one idle."""
    core = PoolCore(2, 1, max_age=100, racing=True)
    for entry in [lend(core, "a"), lend(core, "b", luck=0.2)]:
        core.release(entry, 1.0)

    assert core.due(1.0) == 50.0  # "b" at 98, "a" at 100: begun an interval of 50 before "a" is too old
    assert opening(core.tick(50.0)) == 1
    assert len(core.idle) == 2
    assert said(core.opened(Entry("c"), 51.0)) == [(Close, ("b", "expired"))]
    assert core.due(51.0) == 100.0
    assert said(core.tick(100.0)) == [(Open, None)]
    assert core.take(100.0).connection == "c"
    assert said(core.opened(Entry("d"), 101.0)) == [(Close, ("a", "expired"))]


def test_at_the_limit_a_retiring_connection_makes_room_first():
    """There is no place for both."""
    core = PoolCore(1, 0, max_age=100, racing=True)
    core.release(lend(core, "a"), 1.0)

    assert said(core.tick(100.0)) == [(Close, ("a", "expired")), (Open, None)]
    assert core.total == 1


def test_a_superfluous_connection_retires_without_a_successor():
    """Above the size fewer will do."""
    core = PoolCore(1, 1, max_age=100, racing=True)
    for entry in [lend(core, "a"), lend(core, "b")]:
        core.release(entry, 99.0)

    assert said(core.tick(99.0)) == [(Close, ("a", "expired"))]


def test_a_retiring_connection_that_is_lent_meanwhile_is_closed_on_return():
    """Its successor is open already; and if that fails, it stays."""
    core = PoolCore(2, 1, max_age=100, racing=True)
    core.release(lend(core, "a"), 1.0)
    assert opening(core.tick(100.0)) == 1
    assert core.take(99.0).connection == "a"
    assert core.opened(Entry("b"), 99.0) == []

    assert said(core.release(core.lent[0], 99.0)) == [(Close, ("a", "expired"))]

    core.tick(200.0)
    core.open_failed(now=200.0)
    assert core.retiring is None
    assert [entry.connection for entry in core.idle] == ["b"]


# -- all at once -------------------------------------------------------------------------------


def test_dispose_closes_idle_connections_now_and_lent_ones_at_their_return():
    """The limit stays true meanwhile: a lent connection of the old generation keeps its place."""
    core = PoolCore(2, 0)
    lent, idle = lend(core, "lent"), lend(core, "idle")
    core.release(idle, 1.0)

    assert said(core.dispose()) == [(Close, ("idle", "dispose"))]
    assert core.total == 1
    assert said(core.release(lent, 2.0)) == [(Close, ("lent", "dispose"))]
    assert core.total == 0


def test_doom_closes_what_is_as_old_as_the_broken_one():
    """After a restart of the server only connections opened since then are good."""
    core = PoolCore(3, 0)
    lent, idle, young = lend(core, "lent"), lend(core, "idle", now=1.0), lend(core, "young", now=9.0)
    core.release(idle, 9.0)
    core.release(young, 9.0)

    assert said(core.doom(5.0, "server")) == [(Close, ("idle", "server"))]
    assert said(core.release(lent, 9.0, "broken")) == [(Close, ("lent", "server"))]
    assert core.idle == [young]


def test_a_closed_pool_lends_and_keeps_nothing():
    """Who waits and who comes later gets the error; what is lent or being opened is closed when it can be."""
    core = PoolCore(2, 0)
    entry = lend(core, "lent")
    assert isinstance(core.acquire(Ticket(), 0.0), Connect)
    (waiter,), _ = stand_in_line(core)
    error = RuntimeError("closed")

    assert said(core.close(error)) == [(Wake, waiter)]
    assert waiter.error is error
    late = Ticket()
    assert said(core.acquire(late, 1.0).actions) == [(Wake, late)]
    assert late.error is error
    assert said(core.release(entry, 1.0)) == [(Close, ("lent", "closed"))]
    opened = Entry("opened")
    core.connected(opened, 1.0)
    assert said(core.release(opened, 1.0)) == [(Close, ("opened", "closed"))]
    assert (core.tick(9.0), core.due(9.0)) == ((), None)
    assert repr(core) == "<PoolCore limit 2: 0 lent, 0 idle, 0 connecting, 0 waiting, closed>"


def test_resize_closes_surplus_idle_connections_and_lent_ones_on_return():
    """F2: shrinking never closes a connection in use."""
    core = PoolCore(3, 0)
    entries = [lend(core, n) for n in range(3)]
    core.release(entries[2], 1.0)

    assert said(core.resize(1, 0)) == [(Close, (2, "resize"))]
    assert core.total == 2
    assert not core.give(entries[0], 2.0)
    assert said(core.release(entries[0], 2.0)) == [(Close, (0, "resize"))]
    assert core.release(entries[1], 2.0) == ()


def test_resize_closes_the_coldest():
    """The hottest idle connection is the one most likely to be needed."""
    core = PoolCore(2, 0, lifo=False)
    for since, entry in enumerate([lend(core, "cold"), lend(core, "hot")]):
        core.release(entry, float(since))

    assert said(core.resize(1, 0)) == [(Close, ("cold", "resize"))]


@pytest.mark.parametrize("racing", [False, True])
def test_who_waits_gets_the_room_that_resize_makes(racing):
    """F1: at once, in the order in which they came."""
    core = PoolCore(1, 0, racing=racing)
    lend(core)
    tickets, _ = stand_in_line(core, 3)

    actions = core.resize(2, 1)

    expected = [(Open, None)] * 2 if racing else [(Wake, ticket) for ticket in tickets[:2]]
    assert said(actions) == expected
    assert core.total == 3


def test_a_fork_leaves_everything_behind():
    """E6: the child counts nothing that belongs to its parent; a lease it inherited cannot be given back."""
    core = PoolCore(2, 1, racing=True)
    lent, idle = lend(core, "lent"), lend(core, "idle")
    (waiter,), _ = stand_in_line(core)
    core.release(idle, 1.0)
    core.release(idle, 1.0)

    assert core.forget() == [idle, lent]
    assert (core.total, core.creators, waiter.gone or waiter.served) == (0, 0, True)
    assert (lent.doomed, idle.doomed) == ("fork", "fork")
    assert core.closed_by == {"fork": 2}
    with pytest.raises(ValueError, match="already"):
        core.release(lent, 2.0)
    assert isinstance(core.acquire(Ticket(), 2.0), Connect)


def test_a_connection_that_is_of_no_use_leaves_its_place_to_its_holder():
    """A dead one is swapped: nobody else can take the place meanwhile."""
    core = PoolCore(1, 0)
    entry = lend(core, "dead")
    stand_in_line(core)

    assert said([core.replace(entry, "server")]) == [(Close, ("dead", "server"))]
    assert (core.connecting, core.leased, len(core.waiting)) == (1, 0, 1)
    core.connected(Entry("good"), 1.0)
    assert core.total == 1


def test_an_entry_that_is_used_again_begins_anew():
    """A front may keep its entry and put another connection into it."""
    core = PoolCore(1, 0, max_age=10)
    entry = lend(core)
    entry.doomed = "broken"
    core.release(entry, 1.0)
    core.dispose()
    assert isinstance(core.acquire(Ticket(), 5.0), Connect)

    core.connected(entry, 5.0)

    assert (entry.doomed, entry.born, entry.expires, entry.uses, entry.generation) == (None, 5.0, 15.0, 1, 1)
    assert core.release(entry, 6.0) == ()


# -- leaks -------------------------------------------------------------------------------------


def test_a_lease_that_lasts_is_told_of_once_and_cut_off_once():
    """Each lease anew."""
    core = PoolCore(1, 0, leak_after=10, reclaim_after=30)
    entry = lend(core)

    assert core.due(0.0) == 10.0
    assert said(core.tick(10.0)) == [(Leak, "c")]
    assert core.due(10.0) == 30.0
    assert said(core.tick(30.0)) == [(Reclaim, "c")]
    assert core.tick(31.0) == []
    assert core.due(31.0) is None
    assert said(core.release(entry, 32.0, "broken")) == [(Close, ("c", "reclaimed"))]
    assert core.counts["leaks"] == 1


def test_what_was_told_of_one_lease_is_not_told_of_the_next():
    """The flags end with the lease."""
    core = PoolCore(1, 0, leak_after=10)
    entry = lend(core)
    core.tick(10.0)
    core.release(entry, 11.0)
    core.take(12.0)

    assert core.tick(13.0) == []
    assert said(core.tick(22.0)) == [(Leak, "c")]


# -- numbers -----------------------------------------------------------------------------------


def test_the_times_of_waiting_using_and_creating_are_counted():
    """K1: each lease is in the first two, each connection in the third."""
    core = PoolCore(1, 0)
    core.acquire(Ticket(), 0.0)
    entry = Entry()
    core.connected(entry, 2.0, took=2.0)
    stand_in_line(core, now=3.0)
    core.release(entry, 5.0)
    core.release(entry, 6.0)
    core.give(core.take(8.0), 12.0)

    assert (core.create_time.count, core.create_time.total) == (1, 2.0)
    assert (core.wait_time.count, core.wait_time.total) == (3, 4.0)
    assert (core.use_time.count, core.use_time.total) == (3, 8.0)


def test_a_wait_that_ended_in_connecting_counts_from_its_beginning():
    """Not from when it got the permit."""
    core = PoolCore(1, 0)
    core.acquire(Ticket(), 0.0)
    core.connected(Entry(), 10.0, took=1.0, since=4.0)

    assert core.wait_time.total == 6.0


def test_repr_is_a_status_line():
    """The numbers a person needs."""
    core = PoolCore(2, 1)
    lend(core)

    assert repr(core) == "<PoolCore limit 3: 1 lent, 0 idle, 0 connecting, 0 waiting>"
    assert repr(core.dispose()) == "[]"
    assert repr(core.release(core.lent[0], 0.0)) == "[Close(dispose)]"
