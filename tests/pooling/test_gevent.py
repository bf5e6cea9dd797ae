"""The thread front with gevent patched in before it is imported: greenlets wait, the process does not."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("gevent") is None, reason="not applicable: gevent has no release for this Python"
    ),
]

PREPARE = """
from gevent import monkey; monkey.patch_all()
import json, threading, time
import gevent
from sojourn.errors import PoolTimeout
from sojourn.pooling.core import Entry
from sojourn.pooling.pool import Handling, Pool

class Server(Handling):
    opened = live = peak = 0
    def connect(self):
        gevent.sleep(0.001)
        self.opened += 1
        self.live += 1
        self.peak = max(self.peak, self.live)
        return Entry(self.opened)
    def close(self, entry, reason):
        self.live -= 1
"""


def run(program):
    """Return what *program* prints in a process that gevent has patched."""
    done = subprocess.run(
        [sys.executable, "-c", PREPARE + program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_greenlets_are_served_in_their_order():
    """Waiting lets others run; each greenlet is a holder of its own."""
    served, total, peak = run("""
pool = Pool(server := Server(), size=2, overflow=0)
served = []
def work(n):
    entry = pool.acquire()
    served.append(n)
    gevent.sleep(0.002)
    pool.release(entry)
gevent.joinall([gevent.spawn(work, n) for n in range(20)])
print(json.dumps([served, pool.core.total, server.peak]))
""")

    assert served == list(range(20))
    assert (total, peak) == (2, 2)


def test_a_greenlet_that_is_killed_while_it_waits_leaves_no_trace():
    """gevent.Timeout and kill() are exceptions like any other."""
    assert run("""
pool = Pool(Server(), size=1, overflow=0)
entry = pool.acquire()
def work():
    with gevent.Timeout(0.01, False):
        pool.acquire()
waiting = [gevent.spawn(work) for _ in range(5)]
killed = gevent.spawn(pool.acquire)
gevent.sleep(0)
killed.kill()
gevent.joinall(waiting)
left = len(pool.core.waiting)
pool.release(entry)
print(json.dumps([left, pool.core.leased, pool.acquire(0) is entry]))
""") == [0, 0, True]


def test_time_outs_limits_and_plans_work_in_greenlets():
    """The keeper is a greenlet then, and so are creators."""
    assert run("""
from sojourn.pooling.keeper import limit
pool = Pool(server := Server(), size=2, overflow=1, min_idle=1, leak_after=0.01)
leaks = []
server.leaked = leaks.append
while not pool.core.idle:
    gevent.sleep(0.001)
entries = [pool.acquire() for _ in range(3)]
try:
    gevent.spawn(pool.acquire, 0.01).get()
except PoolTimeout as error:
    told = len(error.leases)
cut = gevent.event.Event() if hasattr(gevent, "event") else threading.Event()
try:
    with limit(cut.set, 0.01):
        cut.wait(10)
except TimeoutError:
    told += 10
while len(leaks) < 3:
    gevent.sleep(0.001)
print(json.dumps([told, server.opened, server.peak]))
""") == [13, 3, 3]
