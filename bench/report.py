"""The report: one table per database, ratios to the raw driver, targets and whether they are reached."""

from __future__ import annotations

import datetime as dt
import os
import platform
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from bench import targets
from bench.contenders import SPECS
from bench.workloads import WORKLOADS, count_at

if TYPE_CHECKING:
    from bench.runner import Cell, Run

#: Peers may be ahead here, and the issue says so.
ACCESS = ("q_get", "q_set")


def subject(run: Run) -> str:
    """Name the contender the targets are for: sojourn, or its uncompiled kernel when that runs alone."""
    return "sojourn" if "sojourn" in run.versions else "sojourn-python"


def number(value: float | None) -> str:
    """Write a figure with three digits that matter."""
    if value is None:
        return "-"
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def verdict(run: Run, workload: str) -> tuple[str, bool | None]:
    """Return the target as text, and whether it is reached; None when there is no target or no figure."""
    limit = targets.limit(run.database, workload, run.scale)
    if limit is None:
        return "", None
    bound, absolute = limit
    unit = " B" if WORKLOADS[workload].memory else " us"
    text = f"{bound:g}{unit}" if absolute else f"{bound:g}x"
    cells = run.cells[workload]
    ours = cells[subject(run)].figure(run.clock(workload)) if subject(run) in cells else None
    raw = cells["raw"].figure(run.clock(workload)) if "raw" in cells else None
    if ours is None or (raw is None and not absolute):
        return text, None
    reached = ours if absolute else ours / raw  # type: ignore[operator]
    return text, reached <= bound * targets.TOLERANCE


def first(run: Run, workload: str) -> bool | None:
    """Say whether sojourn is ahead of every other mapper."""
    clock = run.clock(workload)
    figures = {name: cell.figure(clock) for name, cell in run.cells[workload].items() if name != "raw"}
    ours = figures.pop(subject(run), None)
    figures.pop("sojourn-python", None)
    others = [figure for figure in figures.values() if figure is not None]
    return None if ours is None or not others else ours <= min(others)


def _cell(cell: Cell | None, clock: str, raw: float | None, name: str) -> str:
    if cell is None:
        return "-"
    if cell.error is not None:
        return f"ERROR {cell.error[:60]}".replace("|", "/")
    figure = cell.figure(clock)
    if figure is None:
        return "-"
    ratio = f" ({figure / raw:.2f}x)" if raw and name != "raw" else ""
    return number(figure) + ratio


def rows(run: Run) -> list[list[str]]:
    """Lay the run out as a table, headings first."""
    names = [name for name in SPECS if name in run.versions]
    compare = subject(run) in names and "sqlalchemy" in names
    table = [
        ["workload", "n", *names, *(["x faster than SQLAlchemy"] if compare else []), "target", "reached"]
    ]
    for workload, cells in run.cells.items():
        if all(cell.without for cell in cells.values()):
            continue
        clock = run.clock(workload)
        raw = cells["raw"].figure(clock) if "raw" in cells else None
        target, reached = verdict(run, workload)
        line = [f"{workload} {WORKLOADS[workload].title}", str(count_at(WORKLOADS[workload], run.scale))]
        line += [_cell(cells.get(name), clock, raw, name) for name in names]
        if compare:
            theirs, ours = cells["sqlalchemy"].figure(clock), cells[subject(run)].figure(clock)
            line.append(f"{theirs / ours:.1f}" if theirs and ours else "-")
        line += [target, "" if reached is None else "yes" if reached else "NO"]
        table.append(line)
    return table


def markdown(run: Run) -> str:
    """Write the run as a section of Markdown."""
    clock = "process CPU time" if run.database == "sqlite" else "wall time"
    collector = "" if run.gc else ", garbage collector off for everybody"
    lines = [
        f"## {run.database}, scale {run.scale:g}{collector}",
        "",
        f"Microseconds per operation of {clock} (memory: bytes per entity), median of {run.rounds};",
        "in brackets the ratio to the raw driver.",
        "",
    ]
    table = rows(run)
    lines += [_line(table[0]), _line(["---"] * len(table[0])), *map(_line, table[1:]), ""]
    lines += [f"- {name}: {version}" for name, version in run.versions.items()]
    lines += [f"- {name} left out: {reason}" for name, reason in run.left_out.items()]
    for workload, cells in run.cells.items():
        lines += [f"- {workload}, {name}: ERROR {cell.error}" for name, cell in cells.items() if cell.error]
    return "\n".join([*lines, "", *summary(run), ""])


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def summary(run: Run) -> list[str]:
    """Say in words what was reached and what was not."""
    if subject(run) not in run.versions:
        return []
    verdicts = {w: verdict(run, w)[1] for w in run.cells}
    missed = [w for w, reached in verdicts.items() if reached is False]
    kept = sum(reached is True for reached in verdicts.values())
    lines = [
        f"Targets reached: {kept} of {kept + len(missed)}"
        + (f"; missed: {', '.join(missed)}." if missed else ".")
    ]
    behind = [w for w in run.cells if first(run, w) is False]
    unexpected = [w for w in behind if w not in ACCESS]
    if any(SPECS[name].extra for name in run.versions):
        lines.append(
            f"sojourn is first but in: {', '.join(unexpected)}."
            if unexpected
            else "sojourn is first in every row" + (" but attribute access." if behind else ".")
        )
    if {"sojourn", "sojourn-python"} <= run.versions.keys():
        slow = [w for w, cells in run.cells.items() if _uncompiled(run, w, cells) is False]
        within = f"within {targets.UNCOMPILED:g}x of the compiled one"
        lines.append(
            f"Uncompiled kernel {within}" + (f" but in: {', '.join(slow)}." if slow else " everywhere.")
        )
    return lines


def _uncompiled(run: Run, workload: str, cells: dict[str, Cell]) -> bool | None:
    clock = run.clock(workload)
    compiled, plain = cells["sojourn"].figure(clock), cells["sojourn-python"].figure(clock)
    if compiled is None or plain is None or workload in ACCESS:
        return None
    return plain <= compiled * targets.UNCOMPILED * targets.TOLERANCE


def machine() -> dict[str, Any]:
    """Describe where the figures were taken."""
    return {
        "when": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpus": os.cpu_count(),
        "load": os.getloadavg(),
    }


def as_json(run: Run) -> dict[str, Any]:
    """Keep every single figure, its spread, and the verdicts."""
    result = asdict(run)
    for workload, cells in run.cells.items():
        clock = run.clock(workload)
        target, reached = verdict(run, workload)
        for name, cell in cells.items():
            result["cells"][workload][name] |= {
                "median": cell.figure(clock),
                "spread": cell.spread(clock),
                "clock": clock,
            }
        result.setdefault("verdicts", {})[workload] = {"target": target, "reached": reached}
    return result
