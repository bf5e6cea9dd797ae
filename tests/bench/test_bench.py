"""The benchmark itself: it measures what it says, and a wrong outcome is an error, not a figure."""

from __future__ import annotations

import pytest

from bench import data, report, targets
from bench.__main__ import chosen_contenders, chosen_workloads
from bench.auditor import SqliteAuditor
from bench.contenders.base import Contender
from bench.runner import Cell, Run, measure
from bench.workloads import WORKLOADS, Job, WrongOutcome


@pytest.mark.slow
def test_every_workload_runs_and_is_checked_on_sqlite():
    """The raw driver and sojourn finish every workload rightly, and every cell has a figure."""
    run = measure("sqlite", ("raw", "sojourn"), list(WORKLOADS), scale=0.005, rounds=1)
    assert run.left_out == {}
    errors = {
        (w, name): cell.error for w, cells in run.cells.items() for name, cell in cells.items() if cell.error
    }
    assert errors == {}
    assert all(cells["sojourn"].figure(run.clock(w)) is not None for w, cells in run.cells.items())


@pytest.mark.slow
def test_the_asyncio_contender_runs_on_aiosqlite():
    """What the asyncio contender offers has the right outcome."""
    run = measure(
        "aiosqlite", ("raw", "sojourn"), ("b_insert", "e_load5", "g_get", "j_request"), scale=0.005, rounds=1
    )
    assert [cell.error for cells in run.cells.values() for cell in cells.values()] == [None] * 8


def test_a_wrong_outcome_is_an_error(tmp_path):
    """Keys that came back in the wrong order are refused by the check."""
    auditor = SqliteAuditor({"file": str(tmp_path / "guests.db")})
    auditor.build({"guest": 3})
    workload = WORKLOADS["b_insert"]
    job = Job(workload, 3, 3)
    contender = Contender("sqlite", {})
    workload.check(job, auditor, contender, [1, 2, 3])
    with pytest.raises(WrongOutcome, match="keys: expected"):
        workload.check(job, auditor, contender, [1, 3, 2])
    auditor.run("DELETE FROM guest WHERE id = 3")
    with pytest.raises(WrongOutcome, match="rows: expected 3, got 2"):
        workload.check(job, auditor, contender, [1, 2, 3])
    auditor.close()


def test_scattered_keys_are_different_and_the_same_each_time():
    """The keys of get are distinct, within the table and out of order."""
    keys = data.scattered(100, 2000)
    assert len(set(keys)) == 100
    assert set(keys) <= set(range(1, 2001))
    assert keys != sorted(keys)
    assert keys == data.scattered(100, 2000)
    assert sorted(data.scattered(50, 50)) == list(range(1, 51))


def test_a_target_is_reached_within_fifteen_percent():
    """The verdict compares with the raw driver of the same run and allows 15 %."""
    run = Run("sqlite", 1.0, True, 1, {"raw": "", "sojourn": ""})
    limit = targets.RATIOS["sqlite"]["g_get"]
    run.cells["g_get"] = {"raw": Cell(cpu=[1.0], wall=[9.0]), "sojourn": Cell(cpu=[limit * 1.14], wall=[9.0])}
    assert report.verdict(run, "g_get") == (f"{limit:g}x", True)
    run.cells["g_get"]["sojourn"] = Cell(cpu=[limit * 1.16], wall=[9.0])
    assert report.verdict(run, "g_get") == (f"{limit:g}x", False)
    run.cells["g_get"]["sojourn"] = Cell(cpu=[1.0], error="WrongOutcome")
    assert report.verdict(run, "g_get") == (f"{limit:g}x", None)


def test_choices_of_the_command_line():
    """Letters choose workloads, raw is always measured, and the kernel decides about the second sojourn."""
    assert chosen_workloads("e", "sqlite") == ["e_load5", "e_load20", "e_typed"]
    assert "q_get" not in chosen_workloads("all", "postgresql")
    assert chosen_contenders("sojourn", "both") == ["raw", "sojourn", "sojourn-python"]
    assert chosen_contenders("sojourn", "python") == ["raw", "sojourn-python"]
    with pytest.raises(SystemExit, match="no such contender: nobody"):
        chosen_contenders("nobody", "compiled")
