"""What the tests of the thread front share: a server to talk about, and threads that are waited for."""

from __future__ import annotations

import threading

from sojourn.pooling.core import Entry
from sojourn.pooling.pool import Handling, Pool

PATIENCE = 20  # seconds; far more than anything here takes


class Server(Handling):
    """Opens and closes numbers instead of connections, and counts what it sees."""

    def __init__(self):
        self.opened = 0
        self.closed = []  # (number, reason)
        self.live = 0
        self.peak = 0
        self.cuts = []
        self.leaks = []
        self.dead = set()  # numbers that do not serve any more
        self.errors = []  # what the next connects raise
        self.transient = self.hopeless = False
        self.gate = None  # an Event that connecting waits for
        self.attempts = 0
        self._count = threading.Lock()

    def connect(self):
        with self._count:
            self.attempts += 1
            error = self.errors.pop(0) if self.errors else None
        if self.gate is not None:
            assert self.gate.wait(PATIENCE)
        if error is not None:
            raise error
        with self._count:
            self.opened += 1
            self.live += 1
            self.peak = max(self.peak, self.live)
            return Entry(self.opened)

    def close(self, entry, reason):
        with self._count:
            self.closed.append((entry.connection, reason))
            self.live -= 1

    def cut(self, entry):
        self.cuts.append(entry.connection)

    def serves(self, entry):
        return entry.connection not in self.dead

    def is_transient(self, error):
        return self.transient

    def is_hopeless(self, error):
        return self.hopeless

    def leaked(self, lease):
        self.leaks.append(lease)


class Call(threading.Thread):
    """Calls in a thread; `result()` waits, and returns or raises what the call did."""

    def __init__(self, function, *arguments, name=None):
        super().__init__(name=name, daemon=True)
        self._call = function, arguments
        self._value = self._error = None
        self.start()

    def run(self):
        function, arguments = self._call
        try:
            self._value = function(*arguments)
        except BaseException as error:  # noqa: BLE001 - for the test to judge
            self._error = error

    def result(self):
        self.join(PATIENCE)
        assert not self.is_alive(), "still waiting"
        if self._error is not None:
            raise self._error
        return self._value


def make(size=1, overflow=0, **options):
    """Return a pool and its server."""
    server = Server()
    return Pool(server, size=size, overflow=overflow, **options), server


def wait_until(condition):
    """Wait until *condition()* is true."""
    pause = threading.Event()
    for _ in range(PATIENCE * 1000):
        if condition():
            return
        pause.wait(0.001)
    raise AssertionError("it did not come true")


def queue(pool, *arguments, name=None):
    """Start a thread that acquires, and wait until it waits in line."""
    before = len(pool.core.waiting)
    call = Call(pool.acquire, *arguments, name=name)
    wait_until(lambda: len(pool.core.waiting) > before)
    return call


def at_rest(pool):
    """Tell whether nobody waits, connects or holds anything."""
    core = pool.core
    return (core.leased, core.connecting, len(core.waiting)) == (0, 0, 0)
