"""The comparison: the same work by hand on the driver, by sojourn and by SQLAlchemy, as table and bars."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench.report import number
from bench.runner import Run, measure
from bench.workloads import WORKLOADS

if TYPE_CHECKING:
    from rich.console import Console

CHOSEN = ("b_insert", "d_bulk", "e_load5", "f_rows", "g_get", "i_select", "j_request", "k_update", "l_delete")
COLOURS = {"raw": "white", "sojourn": "green", "sojourn-python": "yellow", "sqlalchemy": "red"}
TITLES = {
    "raw": "raw driver",
    "sojourn": "sojourn",
    "sojourn-python": "sojourn, uncompiled",
    "sqlalchemy": "SQLAlchemy",
}
SCALE, ROUNDS, WIDTH = 0.2, 3, 48


def compare(console: Console, compiled: bool) -> None:
    """Measure in processes of their own, in turns, and draw what came out."""
    names = ["raw", "sojourn", *(["sojourn-python"] if compiled else []), "sqlalchemy"]
    repetitions = len(CHOSEN) * (ROUNDS + 1)
    bar = (TextColumn("{task.description:45}"), BarColumn(), TimeElapsedColumn())
    with Progress(*bar, console=console, transient=True) as progress:
        task = progress.add_task("starting", total=repetitions + len(names))
        run = measure(
            "sqlite",
            names,
            CHOSEN,
            scale=SCALE,
            rounds=ROUNDS,
            progress=lambda text: progress.update(task, description=text, advance=1),
        )
    console.print(table(run))
    for workload in CHOSEN:
        bars(console, run, workload)
    for name, reason in run.left_out.items():
        console.print(f"{TITLES[name]} left out: {reason}", markup=False)


def table(run: Run) -> Table:
    """Lay out all figures, microseconds per operation, with the ratio to the raw driver."""
    title = (
        f"Microseconds per operation on SQLite (CPU time, median of {run.rounds}; x = times the raw driver)"
    )
    result = Table(title=title, title_justify="left")
    result.add_column("work")
    for name in run.versions:
        result.add_column(TITLES[name], justify="right", style=COLOURS[name])
    for workload, cells in run.cells.items():
        raw = cells["raw"].figure("cpu") if "raw" in cells else None
        line = [WORKLOADS[workload].title]
        for name in run.versions:
            figure = cells[name].figure("cpu")
            ratio = f"  {figure / raw:4.1f}x" if figure and raw else ""
            line.append(f"{number(figure)}{ratio}" if cells[name].error is None else "error")
        result.add_row(*line)
    return result


def bars(console: Console, run: Run, workload: str) -> None:
    """Draw one workload, the longest bar for the slowest."""
    figures = {name: cell.figure("cpu") for name, cell in run.cells[workload].items()}
    known = [figure for figure in figures.values() if figure]
    console.print(f"\n[bold]{WORKLOADS[workload].title}[/bold]")
    for name, figure in figures.items():
        if figure:
            length = max(1, round(figure / max(known) * WIDTH * 8))
            blocks = "█" * (length // 8) + (" ▏▎▍▌▋▊▉"[length % 8] if length % 8 else "")
            console.print(f"  {TITLES[name]:20} [{COLOURS[name]}]{blocks}[/] {number(figure)} us")
