"""`make demo`: the story runs to its end and shows what it promises."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = (
    "Create",
    "Query",
    "Update",
    "Savepoint",
    "Rollback",
    "Bulk insert",
    "Scoped sessions",
    "Async",
    "Mistakes",
)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["compiled", "python"])
def test_the_story_runs_with_each_kernel(kernel):
    """Every chapter is told, with the statements that were sent, and nothing goes wrong on the way."""
    pytest.importorskip("rich")
    pytest.importorskip("aiosqlite")
    paths = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "demo", "--story"],
        env=os.environ | {"SOJOURN_KERNEL": kernel, "PYTHONPATH": paths},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [chapter for chapter in CHAPTERS if chapter not in done.stdout] == []
    for expected in (
        "FlushPlan",
        "SAVEPOINT",
        "ROLLBACK TO",
        "UPDATE customer SET city = 'Turin'",
        "Items now: 10012",
    ):
        assert expected in done.stdout
