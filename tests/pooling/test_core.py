"""Who gets which connection, rule by rule, with the clock and the callers as arguments."""

from __future__ import annotations

import pytest

from sojourn.pooling.core import Close, Connect, Entry, Open, PoolCore, Ticket, Wait, Wake
from tests.pooling.steps import lend, opening, said, stand_in_line

# -- lending -----------------------------------------------------------------------------------


def test_nothing_is_opened_before_it_is_asked_for():
    """E1: a new core has no connection; the first caller is told to connect."""
    core = PoolCore(2, 0)

    assert core.total == 0
    assert isinstance(core.acquire(Ticket(), 0.0), Connect)
    assert (core.total, core.connecting) == (1, 1)


@pytest.mark.parametrize(("lifo", "expected"), [(True, "b"), (False, "a")])
def test_an_idle_connection_is_lent_hottest_first_or_in_turn(lifo, expected):
    """The default lends the one that came back last, `lifo=False` the one that came back first."""
    for way in ("take", "acquire"):
        core = PoolCore(2, 0, lifo=lifo)
        for entry in [lend(core, "a"), lend(core, "b")]:
            core.release(entry, 1.0)

        entry = core.take(2.0) if way == "take" else core.acquire(Ticket(by="me"), 2.0)

        assert entry.connection == expected
        assert entry.by == (None if way == "take" else "me")


def test_take_is_the_short_way_of_acquire():
    """`take` lends an idle connection, and does nothing where there is none or something else is due."""
    core = PoolCore(1, 0, max_age=10)
    assert core.take(0.0) is None
    entry = lend(core)
    core.release(entry, 1.0)

    assert core.take(2.0) is entry
    assert (entry.uses, entry.lent_at) == (2, 2.0)
    core.release(entry, 3.0)
    assert core.take(11.0) is None  # too old: acquire will have it replaced
    assert core.total == 1


def test_give_is_the_short_way_of_release():
    """`give` takes back what becomes idle, and leaves everything else to `release`."""
    core = PoolCore(1, 0, max_age=10)
    entry = lend(core)
    assert core.give(entry, 1.0)
    assert (core.idle, entry.idle_since) == ([entry], 1.0)
    assert not core.give(entry, 1.0)

    core.take(2.0)
    assert not core.give(entry, 11.0)  # too old
    entry.doomed = "soft"
    assert not core.give(entry, 3.0)
    entry.doomed = None
    core.generation += 1
    assert not core.give(entry, 3.0)
    core.generation -= 1
    stand_in_line(core)
    assert not core.give(entry, 3.0)
    assert core.lent == [entry]


def test_a_returned_lease_forgets_who_had_it():
    """What belongs to a lease ends with it."""
    core = PoolCore(1, 0)
    for back in (core.give, core.release):
        entry = core.take(0.0) or lend(core)
        entry.by, entry.site, entry.statement, entry.leaking = "me", "here", "SELECT 1", True

        back(entry, 1.0)

        assert (entry.by, entry.site, entry.statement, entry.leaking, entry.lent) == (
            None,
            None,
            None,
            False,
            False,
        )


def test_a_second_return_is_refused():
    """Returning twice would lend one connection to two callers."""
    core = PoolCore(1, 0)
    entry = lend(core)
    core.release(entry, 0.0)

    with pytest.raises(ValueError, match="already"):
        core.release(entry, 0.0)
    with pytest.raises(ValueError, match="already"):
        core.detach(entry, 0.0)


def test_leases_may_end_in_any_order():
    """Each entry knows where it stands among the lent ones."""
    core = PoolCore(4, 0)
    entries = [lend(core, n) for n in range(4)]

    for index in (1, 3, 0, 2):
        core.release(entries[index], 1.0)
        assert all(core.lent[entry.slot] is entry for entry in core.lent)

    assert [entry.connection for entry in core.idle] == [1, 3, 0, 2]


# -- limits ------------------------------------------------------------------------------------


def test_live_connections_never_exceed_size_plus_overflow():
    """E1: the fourth caller of 2 + 1 waits."""
    core = PoolCore(2, 1)
    for n in range(3):
        lend(core, n)

    assert isinstance(core.acquire(Ticket(), 0.0), Wait)
    assert (core.total, core.limit, core.has_room()) == (3, 3, False)


@pytest.mark.parametrize(("size", "overflow"), [(0, 10), (5, -1)])
def test_size_zero_or_overflow_minus_one_is_no_limit(size, overflow):
    """As in SQLAlchemy's QueuePool."""
    core = PoolCore(size, overflow)

    assert [isinstance(core.acquire(Ticket(), 0.0), Connect) for _ in range(50)] == [True] * 50
    assert core.limit is None
    assert repr(core) == "<PoolCore no limit: 0 lent, 0 idle, 50 connecting, 0 waiting>"


def test_connections_beyond_the_size_are_kept_until_they_were_idle_for_long():
    """Of 2 + 2 returned ones all are kept; after `idle_limit` the two coldest are closed, not the others."""
    core = PoolCore(2, 2, idle_limit=60)
    for n, entry in enumerate([lend(core, n) for n in range(4)]):
        assert core.release(entry, float(n)) == ()

    assert core.due(3.0) == 60.0
    assert core.tick(59.0) == []
    assert said(core.tick(60.0)) == [(Close, (0, "idle"))]
    assert said(core.tick(500.0)) == [(Close, (1, "idle"))]
    assert core.due(500.0) is None
    assert len(core.idle) == 2


@pytest.mark.parametrize("overflow", [2, -1])
def test_idle_limit_zero_closes_on_return_what_the_size_does_not_keep(overflow):
    """E1: as SQLAlchemy does: the first two that come back are kept, two more are closed."""
    core = PoolCore(2, overflow, idle_limit=0)
    entries = [lend(core, n) for n in range(4)]

    for entry in entries[:2]:
        assert core.give(entry, 1.0)
    assert core.tick(1.0) == []  # those that are still lent do not make these superfluous
    assert [core.give(entry, 1.0) for entry in entries[2:]] == [False, False]
    assert [said(core.release(entry, 1.0)) for entry in entries[2:]] == [
        [(Close, (2, "overflow"))],
        [(Close, (3, "overflow"))],
    ]
    assert core.closed_by == {"overflow": 2}


def test_max_idle_closes_every_connection_but_the_minimum():
    """E4, CF-9: idle-based recycling looks at idle time only."""
    core = PoolCore(3, 0, max_idle=10, min_idle=1)
    first, second, used = lend(core, 1), lend(core, 2), lend(core, 3)
    core.release(first, 0.0)
    core.release(second, 5.0)

    assert core.due(5.0) == 10.0
    assert said(core.tick(10.0)) == [(Close, (1, "idle"))]
    assert core.due(10.0) is None
    assert core.tick(100.0) == []  # the last one is the minimum
    core.release(used, 100.0)  # it is old, but was in use until now
    assert said(core.tick(100.0)) == [(Close, (2, "idle"))]


# -- waiting -----------------------------------------------------------------------------------


def test_waiters_are_served_first_come_first_served():
    """A returned connection goes to the oldest waiter, past nobody, and never to the idle ones."""
    core = PoolCore(1, 0)
    entry = lend(core)
    (first, second), _ = stand_in_line(core, 2)

    assert said(core.release(entry, 1.0)) == [(Wake, first)]
    assert first.entry is entry
    assert said(core.release(entry, 2.0)) == [(Wake, second)]
    assert core.idle == []
    assert core.counts["handoffs"] == 2


def test_whose_time_is_up_is_served_nothing():
    """An entry handed to somebody who left would be idle; they are gone, and told apart from served."""
    core = PoolCore(1, 0)
    entry = lend(core)
    (late,), _ = stand_in_line(core, patience=1)
    (in_time,), _ = stand_in_line(core, patience=5)

    assert said(core.release(entry, 2.0)) == [(Wake, in_time)]
    assert (late.gone, late.served, late in core.waiting) == (True, False, False)
    assert (in_time.gone, in_time.served) == (False, True)
    assert core.give_up(late, 2.0) == ()

    (late,), _ = stand_in_line(core, patience=1, now=2.0)
    (in_time,), _ = stand_in_line(core, patience=5, now=2.0)
    assert said(core.release(entry, 4.0, "broken")) == [(Close, ("c", "broken")), (Wake, in_time)]
    assert (late.gone, in_time.may_connect) == (True, True)


def test_when_all_who_wait_are_gone_the_connection_is_kept_or_closed_as_ever():
    """Somebody who left keeps no overflow open."""
    core = PoolCore(1, 1, idle_limit=0)
    kept, surplus = lend(core, 1), lend(core, 2)
    (late,), _ = stand_in_line(core, patience=1)

    assert core.release(kept, 2.0) == ()
    assert late.gone
    assert said(core.release(surplus, 2.0)) == [(Close, (2, "overflow"))]


@pytest.mark.parametrize(
    "frees",
    [
        lambda core, entry, now: core.release(entry, now, "broken"),
        lambda core, entry, now: core.detach(entry, now),
        lambda core, entry, now: core.resize(2, 0, now),
        lambda core, entry, now: [core.replace(entry, "server"), *core.connect_failed(now=now)],
        lambda core, entry, now: [*core.doom(now, "server", now), *core.release(entry, now)],
        lambda core, entry, now: [*core.dispose(now=now), *core.release(entry, now)],
    ],
    ids=["broken", "detach", "resize", "connect_failed", "doom", "dispose"],
)
def test_every_path_that_frees_a_place_hands_it_on(frees):
    """A freed place is not left empty beside a sleeper, whose wait would be lost (F1)."""
    core = PoolCore(1, 0)
    entry = lend(core)
    (late,), _ = stand_in_line(core, patience=1)
    (waiter,), _ = stand_in_line(core)

    actions = frees(core, entry, 2.0)

    assert (Wake, waiter) in said(actions)
    assert waiter.may_connect
    assert late.gone
    assert core.connecting == 1


def test_a_failed_connect_wakes_the_next_who_may_connect():
    """The error stays with whom it happened to."""
    core = PoolCore(1, 0)
    assert isinstance(core.acquire(Ticket(), 0.0), Connect)
    (waiter,), _ = stand_in_line(core)

    assert said(core.connect_failed(OSError("refused"))) == [(Wake, waiter)]
    assert (waiter.may_connect, waiter.error) == (True, None)
    assert core.counts["connect_errors"] == 1


@pytest.mark.parametrize("racing", [False, True])
def test_a_hopeless_error_goes_to_all_who_wait(racing):
    """Who waits for a connection that cannot be had is told at once."""
    core = PoolCore(1, 1, racing=racing)
    lend(core)
    error = PermissionError("password")
    if racing:
        tickets, actions = stand_in_line(core, 2)
        assert opening(actions) == 1
        actions = core.open_failed(error, hopeless=True)
    else:
        assert isinstance(core.acquire(Ticket(), 0.0), Connect)
        tickets, _ = stand_in_line(core, 2)
        actions = core.connect_failed(error, hopeless=True)

    assert said(actions) == [(Wake, tickets[0]), (Wake, tickets[1])]
    assert [ticket.error for ticket in tickets] == [error, error]
    assert not core.waiting
    assert core.connecting == 0


def test_whoever_gives_up_passes_on_what_it_was_served_meanwhile():
    """Neither a connection nor a permit is lost between a time-out and a hand-over."""
    core = PoolCore(1, 0)
    entry = lend(core)
    (late, next_one), _ = stand_in_line(core, 2)
    core.release(entry, 1.0)

    assert said(core.give_up(late, 1.0)) == [(Wake, next_one)]
    assert next_one.entry is entry
    assert core.give_up(late, 1.0) == ()

    (late, last), _ = stand_in_line(core, 2, now=1.0)
    core.release(entry, 2.0, "broken")
    assert late.may_connect
    assert said(core.give_up(late, 2.0)) == [(Wake, last)]
    assert not core.give_up(last, 2.0)
    assert core.total == 0


def test_a_lease_that_nobody_began_counts_as_no_use():
    """A connection handed to a caller who had left was not in use."""
    core = PoolCore(1, 0)
    entry = lend(core)
    (late,), _ = stand_in_line(core)
    core.release(entry, 1.0)

    core.give_up(late, 9.0)

    assert (core.use_time.count, core.use_time.total) == (1, 1.0)


def test_who_holds_everything_would_wait_for_itself():
    """E8: told only where nothing but the caller's own return could help."""
    core = PoolCore(2, 0)
    assert not core.is_stuck("me")
    mine, other = lend(core), lend(core)
    mine.by, other.by = "me", "you"
    assert not core.is_stuck("me")
    other.by = "me"
    assert core.is_stuck("me")
    core.resize(3, 0)
    assert not core.is_stuck("me")


# -- creators ----------------------------------------------------------------------------------


def test_where_connections_are_lent_creators_race_the_returns():
    """The caller waits; whichever comes first serves it, the other becomes idle."""
    core = PoolCore(3, 0, racing=True)
    entry = lend(core)
    (waiter,), actions = stand_in_line(core)
    assert opening(actions) == 1

    assert said(core.release(entry, 1.0)) == [(Wake, waiter)]
    fresh = Entry("fresh")
    assert core.opened(fresh, 2.0, took=2.0) == []
    assert (core.lent, core.idle) == ([entry], [fresh])


def test_where_nothing_is_lent_the_caller_connects_itself():
    """A program with one thread never starts another; nor do those who do not race."""
    core = PoolCore(3, 0, racing=True)
    lend(core)
    impatient = Ticket()
    impatient.races = False

    assert isinstance(core.acquire(impatient, 0.0), Connect)
    assert isinstance(PoolCore(3, 0, racing=True).acquire(Ticket(), 0.0), Connect)


def test_there_are_no_more_creators_than_waiters_nor_than_allowed():
    """A burst opens four at a time, and goes on as they succeed."""
    core = PoolCore(9, 0, racing=True)
    lend(core)
    _, actions = stand_in_line(core, 6)
    assert opening(actions) == 4

    assert [opening(core.opened(Entry(), 1.0)) for _ in range(6)] == [1, 1, 0, 0, 0, 0]
    assert (core.creators, core.leased, core.idle) == (0, 7, [])


def test_a_creators_error_goes_to_the_first_in_line():
    """One failure fails one caller; the place goes on to the next creator."""
    core = PoolCore(2, 0, racing=True)
    lend(core)
    (late,), _ = stand_in_line(core, patience=1)
    (first, second), _ = stand_in_line(core, 2)
    error = OSError("refused")

    actions = core.open_failed(error, now=2.0)

    assert said(actions) == [(Wake, first), (Open, None)]
    assert (late.gone, first.error, second.error) == (True, error, None)
    assert (core.creators, core.connecting) == (1, 1)


def test_a_creator_that_gives_up_quietly_frees_its_place():
    """A creator without news fails nobody."""
    core = PoolCore(2, 0, racing=True)
    lend(core)
    (waiter,), _ = stand_in_line(core)

    assert said(core.open_failed()) == [(Open, None)]
    assert waiter in core.waiting


def test_a_minimum_of_idle_connections_is_kept_by_creators():
    """E2, CF-8: they are opened at start-up and after a loss, as far as the limit allows."""
    core = PoolCore(3, 0, racing=True, min_idle=2)
    assert core.due(5.0) == 5.0
    assert opening(core.tick(5.0)) == 2
    assert core.due(5.0) is None  # they are coming
    for _ in range(2):
        core.opened(Entry(), 6.0)
    assert core.due(6.0) is None

    core.doom(6.0, "server")
    assert core.due(7.0) == 7.0
    assert opening(core.tick(7.0)) == 2


def test_after_a_dispose_the_minimum_rests_until_somebody_asks():
    """What was disposed of does not open connections by itself: the program may be done with it."""
    core = PoolCore(3, 0, racing=True, min_idle=2)
    opening(core.tick(5.0))
    for _ in range(2):
        core.opened(Entry(), 6.0)

    core.dispose()

    assert core.due(7.0) is None
    assert core.tick(7.0) == []
    assert isinstance(core.acquire(Ticket(), 8.0), Connect)
    assert core.due(8.0) == 8.0
    assert opening(core.tick(8.0)) == 2


def test_a_minimum_that_cannot_be_opened_is_tried_again_after_a_pause():
    """A server that is down is not asked without end."""
    core = PoolCore(3, 0, racing=True, min_idle=1)
    core.tick(5.0)

    core.open_failed(OSError("refused"), now=5.5)

    assert core.due(5.5) == 6.5
    assert core.tick(6.0) == []
    assert opening(core.tick(6.5)) == 1


def test_without_creators_only_the_front_fills():
    """`tick` opens nothing that nobody could open; `fill` says what the caller may open itself."""
    core = PoolCore(2, 0, min_idle=2)

    assert core.due(0.0) is None
    assert core.tick(0.0) == []
    assert opening(core.fill(5)) == 2
    assert core.opened(Entry(), 0.0) == []
    assert (len(core.idle), core.connecting) == (1, 1)
