"""The runner: asks the contenders in turn, A B C then B C A, and keeps every figure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from bench.contenders import SPECS, missing
from bench.places import Places
from bench.workloads import LOCAL, WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "src"))  # a checkout need not be installed


@dataclass
class Cell:
    """All repetitions of one workload by one contender."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    bytes: list[float] = field(default_factory=list)
    error: str | None = None
    without: str | None = None

    def figure(self, clock: str) -> float | None:
        """Return the median by a clock, or the weight; None when there is no honest figure."""
        kept = self.bytes or getattr(self, clock)
        return median(kept) if kept and self.error is None else None

    def spread(self, clock: str) -> float | None:
        """Return the interquartile range as a part of the median."""
        kept = sorted(getattr(self, clock))
        if len(kept) < 4:
            return None
        return (kept[-1 - len(kept) // 4] - kept[len(kept) // 4]) / median(kept)


@dataclass
class Run:
    """The result of one run on one database."""

    database: str
    scale: float
    gc: bool
    rounds: int
    versions: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    cells: dict[str, dict[str, Cell]] = field(default_factory=dict)  # workload -> contender -> cell

    def clock(self, workload: str) -> str:
        """Choose the clock: CPU where the database runs in this process, else the wall."""
        return "cpu" if self.database == "sqlite" or workload in LOCAL else "wall"


class Process:
    """The pipe to one contender's process."""

    def __init__(self, name: str, order: dict[str, Any], log: Any) -> None:
        self.name = name
        environment = os.environ | SPECS[name].environment
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "src")])
        environment["PYTHONHASHSEED"] = "0"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.worker", json.dumps({"contender": name, **order})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=ROOT,
            env=environment,
        )

    def hear(self) -> dict[str, Any]:
        """Wait for the next reply."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            return {"error": f"the process ended with {self.process.wait()}"}
        reply: dict[str, Any] = json.loads(line)
        return reply

    def ask(self, workload: str) -> dict[str, Any]:
        """Have one repetition done."""
        assert self.process.stdin is not None
        if self.process.poll() is not None:
            return {"error": f"the process ended with {self.process.returncode}"}
        self.process.stdin.write(workload + "\n")
        self.process.stdin.flush()
        return self.hear()

    def end(self) -> None:
        """Let the process finish; kill it if it does not."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def measure(
    database: str,
    contenders: Sequence[str],
    workloads: Sequence[str],
    *,
    scale: float = 1.0,
    rounds: int = 7,
    collect: bool = True,
    log: Any = subprocess.DEVNULL,
    progress: Callable[[str], None] = lambda text: None,
) -> Run:
    """Measure contenders on one database, interleaved; the first round only warms up."""
    run = Run(database, scale, collect, rounds)
    with Places(database) as places:
        processes: list[Process] = []
        try:
            for name in contenders:
                reason = missing(name, database)
                if reason is not None:
                    run.left_out[name] = reason
                    continue
                progress(f"{database}: {name} fills its tables")
                order = {"database": database, "scale": scale, "gc": collect, "place": places.give(name)}
                process = Process(name, order, log)
                reply = process.hear()
                if "versions" in reply:
                    run.versions[name] = reply["versions"]
                    processes.append(process)
                else:
                    run.left_out[name] = reply["error"]
                    process.end()
            for workload in workloads:
                run.cells[workload] = _interleave(workload, processes, rounds, progress, database)
        finally:
            for process in processes:
                process.end()
    return run


def _interleave(
    workload: str, processes: list[Process], rounds: int, progress: Callable[[str], None], database: str
) -> dict[str, Cell]:
    cells = {process.name: Cell() for process in processes}
    repetitions = 1 if WORKLOADS[workload].memory else rounds + 1
    for number in range(repetitions):
        progress(f"{database}: {workload}, round {number} of {repetitions - 1}")
        turn = number % max(1, len(processes))
        for process in processes[turn:] + processes[:turn]:
            cell = cells[process.name]
            if cell.error is not None or cell.without is not None:
                continue
            reply = process.ask(workload)
            cell.error, cell.without = reply.get("error"), reply.get("without")
            if "bytes" in reply:
                cell.bytes.append(reply["bytes"])
            elif number and "wall" in reply:  # round 0 warms caches, connections and prepared statements
                cell.wall.append(reply["wall"])
                cell.cpu.append(reply["cpu"])
    return cells
