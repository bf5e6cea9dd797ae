"""How the thread front connects: again where that helps, and nobody waits beside a free place."""

from __future__ import annotations

import threading

import pytest

from sojourn.errors import PoolTimeout
from tests.pooling.threads import Call, at_rest, make, queue, wait_until


def test_lost_wake_up_after_a_failed_connect():
    """The freed place goes to a waiter at once, who connects; SQLAlchemy's sleeps to the end."""
    pool, server = make(timeout=None)
    server.gate = threading.Event()
    server.errors = [OSError("refused")]
    connecting = Call(pool.acquire)
    wait_until(lambda: server.attempts == 1)
    waiter = queue(pool)

    server.gate.set()

    with pytest.raises(OSError, match="refused"):
        connecting.result()
    assert waiter.result().connection == 1


def test_lost_wake_up_at_dispose():
    """A waiter gets a new connection as soon as one of the old generation came back."""
    pool, server = make(timeout=None)
    entry = pool.acquire()
    waiter = queue(pool)

    pool.dispose()
    pool.release(entry)

    assert waiter.result().connection == 2
    assert server.closed == [(1, "dispose")]


def test_limit_doubling_after_dispose():
    """What is lent keeps counting: never more than two connections exist."""
    pool, server = make(2)
    entries = [pool.acquire(), pool.acquire()]

    pool.dispose()
    with pytest.raises(PoolTimeout):
        Call(pool.acquire, 0.01).result()
    for entry in entries:
        pool.release(entry)
    again = [pool.acquire(), pool.acquire()]

    assert [entry.connection for entry in again] == [3, 4]
    assert server.peak == 2


def test_a_program_with_one_thread_connects_in_it():
    """Also while it holds connections: there is nobody else whose return could be faster."""
    pool, server = make(3, 2)
    threads = set()
    connect = server.connect
    server.connect = lambda: (threads.add(threading.current_thread()), connect())[1]

    entries = [pool.acquire() for _ in range(5)]

    assert threads == {threading.current_thread()}
    assert (server.opened, len(entries)) == (5, 5)


def test_a_return_serves_the_first_in_line_before_the_connection_being_opened_for_it():
    """Growth races returns; the new connection becomes idle."""
    pool, server = make(2)
    entry = pool.acquire()
    server.gate = threading.Event()
    waiter = queue(pool)
    wait_until(lambda: server.attempts == 2)

    pool.release(entry)
    assert waiter.result() is entry
    server.gate.set()

    wait_until(lambda: len(pool.core.idle) == 1)
    assert pool.acquire(0).connection == 2


def test_creators_are_few():
    """Ten waiters get four creators at a time, and never more connections than the limit."""
    pool, server = make(8, 0)
    entry = pool.acquire()
    server.gate = threading.Event()
    waiters = [queue(pool) for _ in range(10)]
    wait_until(lambda: server.attempts == 5)
    assert pool.core.creators == 4

    server.gate.set()
    for waiter in waiters[:7]:
        waiter.result()
    assert server.peak == 8
    pool.release(entry)
    waiters[7].result()


def test_inline_nobody_but_the_caller_connects():
    """For connections that belong to the thread that opened them."""
    pool, server = make(2, 0, inline=True)
    threads = []
    connect = server.connect
    server.connect = lambda: (threads.append(threading.current_thread()), connect())[1]
    pool.acquire()
    call = Call(pool.acquire)
    call.result()

    assert threads == [threading.current_thread(), call]


def test_without_threads_to_be_had_those_in_line_connect_themselves(monkeypatch):
    """Where the system has no more threads, a waiter gets the permit instead of a creator."""

    class NoThread:
        def __init__(self, **_):
            raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading, "Thread", NoThread)
        pool, _ = make(2)
    held = pool.acquire()

    assert Call(pool.acquire, 5).result().connection == 2
    assert held.connection == 1


def test_transient_connect_errors_are_tried_again_while_the_caller_has_time():
    """The server is back at the third attempt, and the caller has noticed nothing."""
    pool, server = make()
    server.errors = [OSError("refused"), OSError("refused")]
    server.transient = True

    assert pool.acquire().connection == 1
    assert (server.attempts, pool.stats().connect_errors) == (3, 2)


def test_a_time_out_while_connecting_chains_the_last_connect_error():
    """E3: the server being down is the cause, and told as such."""
    pool, server = make(timeout=0.03)
    server.errors = [OSError(f"refused {n}") for n in range(1000)]
    server.transient = True

    with pytest.raises(PoolTimeout) as caught:
        pool.acquire()

    assert isinstance(caught.value.__cause__, OSError)
    assert at_rest(pool)


def test_a_time_out_in_line_chains_the_last_connect_error_of_a_creator():
    """Who waits for a creator hears why it did not come."""
    pool, server = make(2, timeout=0.05)
    pool.acquire()
    server.errors = [OSError("refused")] * 1000
    server.transient = True

    with pytest.raises(PoolTimeout) as caught:
        Call(pool.acquire).result()

    assert str(caught.value.__cause__) == "refused"
    wait_until(lambda: pool.core.creators == 0)


def test_trying_again_ends_after_connect_retry():
    """0: the first error is the caller's, as in SQLAlchemy."""
    pool, server = make(connect_retry=0)
    server.errors = [OSError("refused")]
    server.transient = True

    with pytest.raises(OSError, match="refused"):
        pool.acquire()
    assert server.attempts == 1


def test_hopeless_connect_errors_reach_all_waiters_at_once():
    """A wrong password is not tried again by each of five callers."""
    pool, server = make(timeout=None)
    server.gate = threading.Event()
    server.errors = [PermissionError("wrong password")]
    server.hopeless = True
    calls = [Call(pool.acquire)]
    wait_until(lambda: server.attempts == 1)
    calls += [queue(pool) for _ in range(4)]

    server.gate.set()

    for call in calls:
        with pytest.raises(PermissionError):
            call.result()
    assert (server.attempts, at_rest(pool)) == (1, True)


def test_a_creators_error_is_told_to_the_first_in_line():
    """And the next one gets a creator of its own."""
    pool, server = make(2, timeout=None)
    entry = pool.acquire()
    server.gate = threading.Event()
    server.errors = [OSError("refused")]
    first = queue(pool)
    second = queue(pool)

    server.gate.set()

    with pytest.raises(OSError, match="refused"):
        first.result()
    assert second.result().connection == 2
    pool.release(entry)
