"""Forked children: what is the parent's stays the parent's, and the child begins anew."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import warnings

import pytest

from tests.pooling.threads import Call, make, queue, wait_until

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="not applicable: there is no fork here")


def in_child(check):
    """Return what *check()* returns in a forked child."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads is the point
        child = os.fork()
    if child == 0:
        try:
            os.write(write, repr(check()).encode())
        except BaseException as error:  # noqa: BLE001 - a child must not run the rest of the tests
            os.write(write, repr(error).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as answer:
        text = answer.read().decode()
    os.waitpid(child, 0)
    return text


def test_a_child_opens_its_own_connections():
    """E6: those of the parent, idle or lent, are neither used nor said goodbye to."""
    pool, server = make(3)
    idle, lent = pool.acquire(), pool.acquire()
    pool.release(idle)

    def check():
        entry = pool.acquire()
        stats = pool.stats()
        return entry.connection, sorted(server.closed), (stats.idle, stats.used), dict(stats.closed)

    assert in_child(check) == "(3, [(1, 'fork'), (2, 'fork')], (0, 1), {'fork': 2})"
    assert (server.closed, lent.lent, pool.acquire()) == ([], True, idle)


def test_a_late_return_in_the_child_is_no_return():
    """A lease inherited from the parent ends silently."""
    pool, server = make(1)
    lent = pool.acquire()

    def check():
        pool.release(lent)
        pool.release(lent, "broken")
        return pool.core.total, server.closed

    assert in_child(check) == "(0, [(1, 'fork')])"


def test_a_child_is_not_stopped_by_a_lock_that_a_thread_of_the_parent_held():
    """Locks, waiters and creators stayed behind with their threads."""
    pool, _ = make(1, timeout=None)
    entry = pool.acquire()
    waiter = queue(pool)
    held, done = threading.Event(), threading.Event()

    def hold():
        with pool.guard:
            held.set()
            done.wait(20)

    holder = Call(hold)
    held.wait(20)
    try:
        answer = in_child(lambda: (pool.acquire().connection, len(pool.core.waiting), pool.core.connecting))
    finally:
        done.set()
    holder.result()
    pool.release(entry)

    assert answer == "(2, 0, 0)"
    assert waiter.result() is entry


def test_a_child_has_a_keeper_of_its_own():
    """E2: also there, connections are opened in advance."""
    pool, server = make(2, min_idle=1)
    wait_until(lambda: len(pool.core.idle) == 1)

    def check():
        wait_until(lambda: len(pool.core.idle) == 1)
        return server.opened, [thread.name for thread in threading.enumerate()].count("sojourn-keeper")

    assert in_child(check) == "(2, 1)"


def work(results):
    pool, server = make.pool
    results.put((pool.acquire().connection, server.closed))


def test_multiprocessing_forks_likewise():
    """E6: a worker's first use opens a new connection."""
    make.pool = make(2)
    pool = make.pool[0]
    pool.release(pool.acquire())
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        worker = context.Process(target=work, args=(results,))
        worker.start()
    answer = results.get()
    worker.join()
    del make.pool

    assert answer == (2, [(1, "fork")])
    assert pool.acquire().connection == 1


@pytest.mark.slow
def test_a_fork_in_the_middle_of_things_leaves_parent_and_child_whole():
    """Threads acquire and give back all the while; each child can use its pool."""
    pool, server = make(2, 1)
    stop = threading.Event()

    def use():
        while not stop.is_set():
            pool.release(pool.acquire())

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    calls = [Call(use) for _ in range(4)]
    try:
        answers = [
            in_child(lambda: (pool.acquire(5) is not pool.acquire(5), pool.core.leased)) for _ in range(10)
        ]
    finally:
        stop.set()
        sys.setswitchinterval(before)
    for call in calls:
        call.result()

    assert answers == ["(True, 2)"] * 10
    assert (pool.core.leased, pool.core.connecting) == (0, 0)
    assert server.peak <= 3
