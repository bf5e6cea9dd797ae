"""A program forks while it has connections: the child never speaks on its parent's sockets (E6)."""

from __future__ import annotations

import multiprocessing
import signal
import threading

import pytest

from sojourn import text
from sojourn.orm import Session
from tests.faults.asking import ask_session, fill
from tests.faults.children import ALARM, in_child
from tests.serverside import WHO, sessions, wait_until

QUERIES = 150

pytestmark = [
    pytest.mark.slow,
    # Python 3.12 warns of threads: that a fork copies one thread only is what these tests are about.
    pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning"),
]


def echo(engine, marks):
    """Ask the server for each of *marks*; return the answers that were somebody else's."""
    wrong = []
    with Session(engine) as session:
        for mark in marks:
            found = session.execute(text("SELECT :mark").bindparams(mark=mark)).scalar_one()
            if found != mark:
                wrong.append((mark, found))
    return wrong


def many(engine, prefix):
    """Ask many small questions over several leases; return the wrong answers."""
    return [
        each
        for turn in range(QUERIES // 10)
        for each in echo(engine, [f"{prefix}-{turn}-{n}" for n in range(10)])
    ]


def whoami(engine):
    with engine.connect() as connection:
        return connection.execute(text(WHO[engine.dialect.name])).scalar_one()


def test_parent_and_child_work_side_by_side(victim):
    """Both ask 150 questions at the same time; each gets its own answers, on sessions of its own (E6)."""
    engine = victim.create_engine(pool_size=3)
    ours = fill(engine, 3)
    child = in_child(lambda: [many(engine, "child"), whoami(engine)])
    wrong = many(engine, "parent")
    wrong_in_child, theirs = child()

    assert wrong == wrong_in_child == []
    assert theirs not in ours
    assert whoami(engine) in ours


def test_a_connection_in_use_stays_the_parents(victim):
    """The parent's open transaction goes on; the child's lease of it raises; both go on working (E6)."""
    engine = victim.create_engine(pool_size=2)
    with engine.connect() as connection:
        number = connection.execute(text(WHO[victim.dialect])).scalar_one()

        def use():
            try:
                connection.execute(text("SELECT 1"))
            except Exception as error:  # noqa: BLE001 - its kind is the result
                told = type(error).__name__
            else:
                told = "nothing"
            return told, many(engine, "child"), whoami(engine)

        child = in_child(use)
        wrong = [each for each in range(QUERIES) if ask(connection, each) != each]
        told, wrong_in_child, theirs = child()

        assert ask(connection, 7) == 7
        assert connection.execute(text(WHO[victim.dialect])).scalar_one() == number
    assert told != "nothing"
    assert wrong == wrong_in_child == []
    assert theirs != number


def ask(connection, number):
    return int(connection.execute(text("SELECT :number").bindparams(number=number)).scalar_one())


@pytest.mark.parametrize("end", ["nothing", "dispose", "dispose(close=False)", "collect", "close"])
def test_nothing_is_said_on_the_parents_sockets(victim, proxy, end):
    """Whatever the child does with its copy of the engine, the parent's server sessions hear nothing."""
    engine = victim.create_engine(pool_size=3)
    ours = fill(engine, 3)
    held = engine.connect()
    held.execute(text("SELECT 1"))
    before = proxy.sent
    links = list(proxy.links)

    def act():
        import gc

        nonlocal held
        if end == "dispose":
            engine.dispose()
        elif end == "dispose(close=False)":
            engine.dispose(close=False)
        elif end == "close":
            engine.pool.close(timeout=0.1)
        elif end == "collect":
            held = None
            gc.collect()
        return True

    assert in_child(act)()

    assert [link for link in links if link not in proxy.links] == []
    assert proxy.sent == before
    assert sessions(victim) == ours
    held.close()
    assert whoami(engine) in ours


def test_a_child_of_multiprocessing_works(victim):
    """The same through `multiprocessing`, with an engine made in the parent (E6)."""
    engine = victim.create_engine(pool_size=2)
    ours = fill(engine, 2)
    context = multiprocessing.get_context("fork")
    replies = context.SimpleQueue()

    def work():
        signal.alarm(ALARM)
        replies.put([many(engine, "child"), whoami(engine)])

    processes = [context.Process(target=work) for _ in range(2)]
    for process in processes:
        process.start()
    wrong = many(engine, "parent")
    said = [replies.get() for _ in processes]
    for process in processes:
        process.join(ALARM)

    assert [process.exitcode for process in processes] == [0, 0]
    assert wrong == [] and all(wrong_in_child == [] for wrong_in_child, _ in said)
    assert not {number for _, number in said} & ours
    assert whoami(engine) in ours


def test_a_fork_under_load_takes_no_lock_along(victim):
    """While threads acquire and give back, a child forked at any moment can use the engine at once."""
    engine = victim.create_engine(pool_size=2, max_overflow=0)
    fill(engine, 2)  # Core holds a lock of its own while an engine's very first connection is made
    ending = threading.Event()

    def work():
        while not ending.is_set():
            ask_session(engine)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        results = [in_child(lambda: ask_session(engine))() for _ in range(10)]
    finally:
        ending.set()
        for thread in threads:
            thread.join(30)

    assert results == [42] * 10
    wait_until(lambda: len(sessions(victim)) <= 2)
