"""A program ends while connections are out: within seconds, with exit code 0 and without a word."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow

BLOCKING = """
import sys, threading
import sojourn
from sojourn import text
from sojourn.orm import Session

engine = sojourn.create_engine(sys.argv[1], pool_size=3, max_overflow=0, min_idle=1, pool_pre_ping=True)
held = [engine.connect() for _ in range(2)]
for connection in held:
    connection.execute(text("SELECT 1"))
session = Session(engine)
session.execute(text("SELECT 1"))
waiting = threading.Thread(target=engine.connect, daemon=True)
waiting.start()
{end}
"""
ASYNC = """
import asyncio, sys
import sojourn
from sojourn import text
from sojourn.ext.asyncio import AsyncSession, create_async_engine

engine = create_async_engine(sys.argv[1], pool_size=3, max_overflow=0)

async def main():
    global held, session, waiting
    held = [await engine.connect() for _ in range(2)]
    for connection in held:
        await connection.execute(text("SELECT 1"))
    session = AsyncSession(engine)
    await session.execute(text("SELECT 1"))
    waiting = asyncio.create_task(engine.connect().start())
    await asyncio.sleep(0)
    {end}

asyncio.run(main())
"""


def run(program, url):
    """Run *program* in a process of its own; return it, finished, and how long it took."""
    start = time.monotonic()
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-c", program, url], capture_output=True, text=True, check=False, timeout=60,
        env=environment,
    )  # fmt: skip
    return done, time.monotonic() - start


@pytest.mark.parametrize("end", ["pass", "sys.exit()", "del engine"])
def test_a_program_ends_with_connections_out(victim, end):
    """Two connections and a session are out, a thread waits for a fourth: the program ends all the same."""
    done, took = run(BLOCKING.format(end=end), victim.url)

    assert (done.returncode, done.stderr) == (0, "")
    assert took < 10


@pytest.mark.parametrize("end", ["pass", "waiting.cancel()"])
async def test_an_async_program_ends_with_connections_out(avictim, end):
    """The same in an event loop; the task that waits is cancelled with the loop."""
    done, took = run(ASYNC.format(end=end), avictim.url)

    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert took < 10
