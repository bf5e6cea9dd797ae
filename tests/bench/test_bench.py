"""The benchmark itself: it measures what it says, and a wrong outcome is an error, not a figure."""

from __future__ import annotations

import pytest

from bench import data, pool, pool_contenders, pool_work, report, targets
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


# -- the pools --------------------------------------------------------------------------------


def test_jains_index_tells_fair_from_unfair():
    """It is 1 where all got the same, and one in n where one got everything."""
    assert pool_work.jain([7, 7, 7, 7]) == 1
    assert pool_work.jain([7, 0, 0, 0]) == 0.25
    assert pool_work.jain([0, 0]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", [pool_contenders.Core, pool_contenders.Queue])
def test_a_crowd_is_served_and_counted(kind):
    """All threads get their turn, nobody is inside beyond the size, and the figures say so."""
    with pool_work.opened([kind], {}) as pools:
        seen = pool_work.crowd(pools[kind.name], 0.3, threads=8)

    figures = seen.figures(ideal_rate=sum(seen.counts) / seen.seconds)
    assert seen.most == pool_contenders.SIZE
    assert seen.timeouts == 0
    assert figures["throughput %"] == pytest.approx(100)
    assert figures["Jain"] > 0.9


def test_a_pool_that_lends_too_much_is_an_error():
    """More borrowers inside than the pool has connections is no figure but an error."""

    class Liar(pool_contenders.Contender):
        def __init__(self):
            pass

        take = staticmethod(lambda: None)
        give = staticmethod(lambda taken: None)

    with pytest.raises(pool_work.WrongOutcome, match="8 connections were lent at once, of 5"):
        pool_work.crowd(Liar(), 0.1, threads=8)


def test_turns_begin_with_another_contender_each_round():
    """A B, then B A; the first round only warms up."""
    turns = []

    found = pool_work.interleave(["a", "b"], 2, lambda name: turns.append(name) or len(turns))

    assert turns == ["a", "b", "b", "a", "a", "b"]
    assert found == {"a": [4, 5], "b": [3, 6]}


def test_a_missed_target_is_said():
    """The verdicts compare what was measured with what was promised, and leave out what was not."""
    result = pool.Result()
    result.add("crowd", {"sojourn": {"p99 x": 1.2, "Jain": 0.5}})
    result.add("uncontended", {"sqlalchemy": {"us": 8.0}, "sojourn, lease": {"us": 0.4}})

    verdicts = dict(result.verdicts())
    assert verdicts["crowd, sojourn: p99 x 1.20 <= 1.4"]
    assert not verdicts["crowd, sojourn: Jain 0.5000 >= 0.999"]
    assert verdicts["uncontended, sojourn, lease: faster than sqlalchemy 20 >= 8"]
    assert len(verdicts) == 4
    assert "MISSED: crowd, sojourn: Jain" in result.markdown()
