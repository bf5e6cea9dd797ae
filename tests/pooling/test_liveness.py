"""Whether a connection still serves: the socket is asked first, the server if in doubt, never for long."""

from __future__ import annotations

import threading

import pytest

from sojourn.errors import PoolTimeout
from sojourn.pooling.keeper import limit
from tests.pooling.threads import Call, at_rest, make, queue


def test_a_connection_whose_socket_speaks_is_asked_and_replaced_if_dead():
    """The caller gets another idle one, or a new one, and no error."""
    pool, server = make(3)
    entries = [pool.acquire() for _ in range(3)]
    for entry in entries:
        entry.poll = lambda _: [True]
        pool.release(entry)
    server.dead = {3, 2}

    assert pool.acquire().connection == 1
    assert server.closed == [(3, "server"), (2, "server")]
    server.dead = {1}
    pool.release(entries[0])
    assert pool.acquire().connection == 4
    assert (pool.stats().pings, pool.stats().pings_failed) == (4, 3)


def test_a_silent_connection_is_not_asked_until_it_was_idle_for_long():
    """`ping_after` seconds; a socket with nothing to say costs no round trip before."""
    now = [0.0]
    pool, server = make(ping_after=30, clock=lambda: now[0])
    pool.release(pool.acquire())
    server.dead = {1}
    now[0] = 29.0
    assert pool.acquire().connection == 1
    pool.release(next(iter(pool.core.lent)))

    now[0] = 59.0

    assert pool.acquire().connection == 2


def test_who_finds_a_dead_connection_keeps_its_place():
    """Nobody in line overtakes it: its permit is to connect itself."""
    pool, server = make()
    pool.release(pool.acquire())
    server.dead = {1}
    pool.core.idle[0].poll = lambda _: [True]
    asked, go_on = threading.Event(), threading.Event()
    serves = server.serves
    server.serves = lambda entry: (asked.set(), go_on.wait(20), serves(entry))[-1]
    first = Call(pool.acquire)
    assert asked.wait(20)
    second = queue(pool)

    go_on.set()

    entry = first.result()
    assert entry.connection == 2
    pool.release(entry)
    assert second.result() is entry


def test_asking_that_raises_costs_nothing_but_the_connection():
    """An interrupt in the middle of a ping leaves no place taken."""
    pool, server = make(ping_after=0)
    pool.release(pool.acquire())

    def interrupted(_):
        raise KeyboardInterrupt

    server.serves = interrupted
    with pytest.raises(KeyboardInterrupt):
        pool.acquire()

    assert at_rest(pool)
    assert server.closed == [(1, "broken")]


def test_doom_closes_what_was_opened_before():
    """When one connection says that the server went away, its siblings are not tried one by one."""
    now = [0.0]
    pool, server = make(3, clock=lambda: now[0])
    old = [pool.acquire(), pool.acquire()]
    pool.release(old[0])
    now[0] = 5.0
    pool.doom()
    now[0] = 6.0
    new = pool.acquire()
    pool.release(new)
    pool.release(old[1])

    assert server.closed == [(1, "server"), (2, "server")]
    assert [entry.connection for entry in pool.core.idle] == [3]


def test_unbounded_ping_a_frozen_server_costs_the_limit_and_one_connection():
    """The ping is cut off in time, and another connection takes the place; others are not held up."""
    pool, server = make(2, ping_after=0, timeout=20)
    frozen, other = pool.acquire(), pool.acquire()
    pool.release(other)
    pool.release(frozen)
    cut = threading.Event()

    def ping(entry):
        if entry.connection != frozen.connection:
            return True
        try:
            with limit(cut.set, 0.02):
                return not cut.wait(20)
        except TimeoutError:
            return False

    server.serves = ping

    assert pool.acquire() is other
    assert server.closed == [(frozen.connection, "server")]


def test_frozen_connections_take_no_more_time_than_the_caller_has():
    """With each ping at its limit, the time-out comes after the last one that began in time."""
    now = [0.0]
    pool, server = make(5, ping_after=0, timeout=10, clock=lambda: now[0])
    pool.warm(5)

    def ping(_):
        now[0] += 4.0
        return False

    server.serves = ping
    with pytest.raises(PoolTimeout):
        pool.acquire()

    assert (now[0], len(server.closed)) == (12.0, 3)
    assert at_rest(pool)
