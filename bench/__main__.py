"""The command line: `python -m bench`, and `python -m bench pool` for the pools."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from bench import report
from bench.contenders import SPECS
from bench.runner import ROOT, Run, measure
from bench.workloads import LOCAL, WORKLOADS

DATABASES = ("sqlite", "postgresql", "mariadb", "aiosqlite", "asyncpg")
MAIN = ("raw", "sqlalchemy", "sojourn")


def arguments(args: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser("python -m bench", description=__doc__)
    parser.add_argument("--database", default="all", help=f"comma separated: {', '.join(DATABASES)}; or all")
    parser.add_argument(
        "--contenders",
        default=",".join(MAIN),
        help=f"comma separated: {', '.join(SPECS)}; or all; raw is always there",
    )
    parser.add_argument("--workloads", default="all", help="comma separated names or first letters; or all")
    parser.add_argument("--scale", type=float, default=1.0, help="1 for the full size, 0.05 for small work")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--nogc", action="store_true", help="garbage collector off in the timed part, for everybody"
    )
    parser.add_argument("--kernel", choices=("compiled", "python", "both"), default="compiled")
    parser.add_argument("--output", type=Path, default=ROOT / "bench" / "results" / "latest.json")
    parser.add_argument(
        "--log", type=Path, help="where tracebacks of contenders go; standard error by default"
    )
    parser.add_argument("--gate", action="store_true", help="exit with 1 if a target with a figure is missed")
    return parser.parse_args(args)


def chosen_workloads(wanted: str, database: str) -> list[str]:
    """Resolve names and first letters; what never reaches a database is measured on SQLite only."""
    names = [w.strip() for w in wanted.split(",")]
    found = [w for w in WORKLOADS if wanted == "all" or w in names or w[0] in names]
    if not found:
        raise SystemExit(f"no such workload: {wanted}; there are {', '.join(WORKLOADS)}")
    return [w for w in found if database == "sqlite" or w not in LOCAL or wanted != "all"]


def chosen_contenders(wanted: str, kernel: str) -> list[str]:
    """Resolve names and the choice of kernel."""
    names = list(SPECS) if wanted == "all" else [name.strip() for name in wanted.split(",")]
    unknown = [name for name in names if name not in SPECS]
    if unknown:
        raise SystemExit(f"no such contender: {', '.join(unknown)}; there are {', '.join(SPECS)}")
    if "raw" not in names:
        names.insert(0, "raw")
    if kernel == "both" and "sojourn" in names:
        names.append("sojourn-python")
    if kernel == "python":
        names = ["sojourn-python" if name == "sojourn" else name for name in names]
    return [name for name in SPECS if name in names]


def main() -> int:
    """Measure, print the tables, and keep every figure."""
    if sys.argv[1:2] == ["pool"]:
        from bench import pool

        return pool.main(sys.argv[2:])
    options = arguments()
    databases = DATABASES if options.database == "all" else options.database.split(",")
    log = options.log.open("w") if options.log else sys.stderr
    runs: list[Run] = []
    for database in databases:
        run = measure(
            database,
            chosen_contenders(options.contenders, options.kernel),
            chosen_workloads(options.workloads, database),
            scale=options.scale,
            rounds=options.rounds,
            collect=not options.nogc,
            log=log,
            progress=_progress,
        )
        _progress("")
        runs.append(run)
        print(report.markdown(run), flush=True)
        _keep(options.output, runs)
    print(f"Every figure: {options.output}; the tables: {options.output.with_suffix('.md')}")
    missed = [w for run in runs for w in run.cells if report.verdict(run, w)[1] is False]
    wrong = [
        w for run in runs for w, cells in run.cells.items() if any(cell.error for cell in cells.values())
    ]
    return int(bool(wrong) or (options.gate and bool(missed)))


def _keep(output: Path, runs: list[Run]) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    kept = {"machine": report.machine(), "runs": [report.as_json(run) for run in runs]}
    output.write_text(json.dumps(kept, indent=1) + "\n")
    output.with_suffix(".md").write_text("# Benchmark\n\n" + "\n".join(map(report.markdown, runs)))


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
