"""The pool beside other pools: `python -m bench pool`; fairness, throughput, costs, and a restart."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import subprocess
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from bench import pool_contenders as contenders
from bench import pool_work as work
from bench.places import Places
from bench.report import machine, number
from bench.runner import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

SECTIONS = ("uncontended", "engine", "crowd", "async", "restart")
#: section, contender, figure -> bound; a tuple names the contender it must beat by that factor.
TARGETS: tuple[tuple[str, str, str, str, float], ...] = (
    ("uncontended", "sojourn, lease", "us", "<=", 0.5),
    ("uncontended", "sojourn, lease, socket asked", "us", "<=", 0.8),
    ("uncontended", "sojourn, lease", "faster than sqlalchemy", ">=", 8.0),
    ("engine sqlite", "sojourn", "faster than sqlalchemy", ">=", 4.0),
    ("crowd", "sojourn", "throughput %", ">=", 97.0),
    ("crowd", "sojourn", "p99 x", "<=", 1.4),
    ("crowd", "sojourn", "Jain", ">=", 0.999),
    ("crowd", "sojourn", "time-outs", "<=", 0),
    ("async uncontended", "sojourn, lease", "us", "<=", 0.5),
    ("async crowd", "sojourn, lease", "p99 x", "<=", 1.2),
    ("async crowd", "sojourn", "p99 x", "<=", 1.2),
    ("restart", "sojourn", "failed", "<=", 16),
    ("restart", "sojourn, retry=reads", "failed", "<=", 0),
)


@dataclass
class Result:
    """All figures of a run: section -> contender -> figure -> value."""

    tables: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, section: str, table: dict[str, dict[str, float]]) -> None:
        """Keep a table, with what sojourn's rows are in relation to SQLAlchemy's."""
        base = table.get("sqlalchemy", {}).get("us")
        if base:
            for row in table.values():
                row["faster than sqlalchemy"] = base / row["us"]
        self.tables[section] = table

    def verdicts(self) -> Iterator[tuple[str, bool]]:
        """Say of each target that has a figure whether it is reached."""
        for section, contender, figure, sign, bound in TARGETS:
            value = self.tables.get(section, {}).get(contender, {}).get(figure)
            if value is not None:
                reached = value <= bound if sign == "<=" else value >= bound
                yield f"{section}, {contender}: {figure} {written(figure, value)} {sign} {bound:g}", reached

    def markdown(self) -> str:
        """Write the tables."""
        lines = []
        for section, table in self.tables.items():
            figures = list(dict.fromkeys(key for row in table.values() for key in row))
            lines += [f"## {section}", "", _line(["pool", *figures]), _line(["---"] * (len(figures) + 1))]
            lines += [
                _line([name, *(written(key, row[key]) if key in row else "-" for key in figures)])
                for name, row in table.items()
            ]
            lines.append("")
        lines += [f"- {note}" for note in self.notes]
        lines += [f"- {'reached' if reached else 'MISSED'}: {text}" for text, reached in self.verdicts()]
        return "\n".join([*lines, ""])


def written(figure: str, value: float) -> str:
    """Write a figure: counts whole, Jain's index with the digits that matter near 1."""
    if figure == "Jain":
        return f"{value:.4f}"
    return f"{value:.0f}" if float(value).is_integer() else number(value)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def able(kinds: Any, result: Result) -> list[Any]:
    """Leave out, with a note, what is not installed."""
    kept = []
    for kind in kinds:
        if reason := contenders.missing(kind):
            result.notes.append(f"{kind.name} left out: {reason}")
        else:
            kept.append(kind)
    return kept


# -- sections ----------------------------------------------------------------------------------


def measure_uncontended(result: Result, place: dict[str, Any], options: argparse.Namespace) -> None:
    """One thread takes and gives."""
    count = int(20_000 * options.scale)
    with work.opened(able(contenders.UNCONTENDED, result), place) as pools:
        found = work.interleave(
            list(pools), options.rounds, lambda name: work.uncontended(pools[name], count)
        )
    table = {name: {"us": median(figures)} for name, figures in found.items()}
    if not options.child:
        table |= {f"{name}, uncompiled": row for name, row in uncompiled(options).items()}
    result.add("uncontended", table)


def uncompiled(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Measure sojourn's pools once more, in a process that runs them as plain Python."""
    command = [sys.executable, "-m", "bench", "pool", "--child", "--rounds", str(options.rounds)]
    command += ["--scale", str(options.scale)]
    environment = {**os.environ, "SOJOURN_KERNEL": "python"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise work.WrongOutcome(done.stderr)
    return json.loads(done.stdout)


def measure_engine(result: Result, place: dict[str, Any], options: argparse.Namespace) -> None:
    """engine.connect() and close(), on SQLite in memory and on PostgreSQL."""
    for title, url in (("sqlite", "sqlite://"), ("psycopg", place["url"])):
        pair = contenders.engines(url)
        measure = partial(_connect_and_close, pair, int(5_000 * options.scale))
        found = work.interleave(list(pair), options.rounds, measure)
        for engine in pair.values():
            engine.dispose()
        result.add(f"engine {title}", {name: {"us": median(figures)} for name, figures in found.items()})


def _connect_and_close(pair: dict[str, Any], count: int, name: str) -> float:
    return work.connect_and_close(pair[name], count)


def measure_crowd(result: Result, place: dict[str, Any], options: argparse.Namespace) -> None:
    """32 threads over 5 connections, each held for 2 ms."""
    seconds = 3.0 * options.scale
    with work.opened(able(contenders.FAIRNESS, result), place) as pools:

        def measure(name: str) -> dict[str, float]:
            ideal = work.ideal_rate(seconds / 3)  # beside each, for the machine's speed changes
            return work.crowd(pools[name], seconds).figures(ideal)

        found = work.interleave(list(pools), options.rounds, measure)
    result.add("crowd", {name: work.medians(rows) for name, rows in found.items()})


def measure_async(result: Result, place: dict[str, Any], options: argparse.Namespace) -> None:
    """One task, then 200 tasks over 5 connections."""
    asyncio.run(_measure_async(result, place, options))


async def _measure_async(result: Result, place: dict[str, Any], options: argparse.Namespace) -> None:
    place = {**place, "url": place["url"].replace("+psycopg", "+asyncpg")}
    pools = {}
    for kind in able(contenders.ASYNC, result):
        pools[kind.name] = kind()
        await pools[kind.name].open(place)
    alone: dict[str, list[float]] = {name: [] for name in pools}
    crowded: dict[str, list[dict[str, float]]] = {name: [] for name in pools}
    seconds, count, names = 2.0 * options.scale, int(2_000 * options.scale), list(pools)
    for turn in range(options.rounds + 1):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            if name == "sojourn, lease":
                cost = await work.uncontended_lease(pools[name], count * 10)
            else:
                cost = await work.uncontended_async(pools[name], count)
            ideal = await work.ideal_rate_async(seconds / 4)
            seen = (await work.crowd_async(pools[name], seconds)).figures(ideal)
            if turn:
                alone[name].append(cost)
                crowded[name].append(seen)
    for pool in pools.values():
        await pool.close()
    result.add("async uncontended", {name: {"us": median(figures)} for name, figures in alone.items()})
    result.add("async crowd", {name: work.medians(rows) for name, rows in crowded.items()})


def measure_restart(result: Result, place: dict[str, Any], options: argparse.Namespace) -> None:
    """A server of its own is restarted under 16 threads."""
    import sqlalchemy

    import sojourn
    from sojourn.orm import Session
    from tests.servers import PostgreSQL, own_server

    with own_server(PostgreSQL) as server:
        url = f"postgresql+psycopg://sojourn@127.0.0.1:{server.port}/postgres"
        question = sojourn.select(sojourn.literal(42))
        core_question = sqlalchemy.select(sqlalchemy.literal(42))

        def by_session(**engine_options: Any) -> tuple[Any, Any]:
            engine = sojourn.create_engine(url, **engine_options)

            def ask() -> Any:
                with Session(engine) as session:
                    return session.scalar(question)

            return ask, engine.dispose

        def by_core(**engine_options: Any) -> tuple[Any, Any]:
            engine = sqlalchemy.create_engine(url, **engine_options)

            def ask() -> Any:
                with engine.connect() as connection:
                    return connection.scalar(core_question)

            return ask, engine.dispose

        asking = {
            "sojourn": by_session,
            "sojourn, retry=reads": partial(by_session, retry="reads"),
            "sqlalchemy": by_core,
            "sqlalchemy, pre_ping": partial(by_core, pool_pre_ping=True),
        }
        if contenders.missing(contenders.PsycopgPool) is None:
            asking["psycopg_pool"] = partial(_by_psycopg, server.port)

        def measure(name: str) -> dict[str, float]:
            ask, close = asking[name]()
            try:
                return work.through_restart(ask, server)
            finally:
                close()

        logging.disable(logging.CRITICAL)  # psycopg_pool and SQLAlchemy log each connection they lose
        found = work.interleave(list(asking), max(options.rounds // 2, 1), measure)
        logging.disable(logging.NOTSET)
    result.add("restart", {name: work.medians(rows) for name, rows in found.items()})


def _by_psycopg(port: int) -> tuple[Any, Any]:
    from psycopg_pool import ConnectionPool

    pool = ConnectionPool(
        f"host=127.0.0.1 port={port} user=sojourn dbname=postgres", min_size=5, max_size=15, open=True
    )

    def ask() -> Any:
        with pool.connection() as connection:
            return connection.execute("SELECT 42").fetchone()[0]

    return ask, pool.close


MEASURES = {
    "uncontended": measure_uncontended,
    "engine": measure_engine,
    "crowd": measure_crowd,
    "async": measure_async,
    "restart": measure_restart,
}


# -- the command -------------------------------------------------------------------------------


def arguments(args: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser("python -m bench pool", description=__doc__)
    parser.add_argument("--sections", default="all", help=f"comma separated: {', '.join(SECTIONS)}; or all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="how long each measurement takes")
    parser.add_argument("--output", type=Path, default=ROOT / "bench" / "results" / "pool.json")
    parser.add_argument("--gate", action="store_true", help="exit with 1 if a target is missed")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(args)


def main(args: list[str]) -> int:
    """Measure, print the tables, keep every figure."""
    options = arguments(args)
    result = Result()
    if options.child:  # sojourn alone, for `uncompiled`
        kinds = [kind for kind in contenders.UNCONTENDED if kind.name.startswith("sojourn")]
        with work.opened(kinds, {}) as pools:
            count = int(20_000 * options.scale)
            found = work.interleave(list(pools), options.rounds, lambda n: work.uncontended(pools[n], count))
        print(json.dumps({name: {"us": median(figures)} for name, figures in found.items()}))
        return 0
    chosen = SECTIONS if options.sections == "all" else options.sections.split(",")
    if unknown := set(chosen) - set(SECTIONS):
        raise SystemExit(f"no such section: {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    with Places("postgresql") as places:
        place = places.give("pool")
        for section in chosen:
            MEASURES[section](result, place, options)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    kept = {"machine": machine(), "tables": result.tables, "verdicts": dict(result.verdicts())}
    options.output.write_text(json.dumps(kept, indent=1) + "\n")
    text = result.markdown()
    options.output.with_suffix(".md").write_text(f"# Pools\n\n{text}")
    print(text)
    return int(options.gate and not all(reached for _, reached in result.verdicts()))
