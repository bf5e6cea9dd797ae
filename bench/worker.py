"""The process of one contender: it does one repetition of one workload whenever the runner asks."""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import os
import sys
import time
import traceback
import tracemalloc
from typing import Any, TextIO

from bench.auditor import AUDITORS, pin
from bench.contenders import create
from bench.workloads import WORKLOADS, Job, count_at


class Worker:
    """One contender, its auditor and, for asyncio, its loop."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.database: str = order["database"]
        self.scale: float = order["scale"]
        self.collect: bool = order["gc"]
        self.auditor = AUDITORS[self.database](order["place"])
        self.sizes = {name: count_at(workload, self.scale) for name, workload in WORKLOADS.items()}
        self.people = self.sizes["e_load5"]
        counts = {"person": self.people, "wide": self.sizes["e_load20"], "typed": self.sizes["e_typed"]}
        self.auditor.build(counts)
        self.loop = asyncio.new_event_loop() if self.database in ("aiosqlite", "asyncpg") else None
        if self.loop is not None:
            asyncio.set_event_loop(self.loop)
        self.contender = create(order["contender"], self.database, order["place"])

    def call(self, method: Any, *args: Any) -> Any:
        """Call a method of the contender, in the loop when it is a coroutine."""
        result = method(*args)
        if inspect.iscoroutine(result):
            assert self.loop is not None
            return self.loop.run_until_complete(result)
        return result

    def reason(self, name: str) -> str | None:
        """Say why the contender leaves a workload out."""
        if name in self.contender.cannot:
            return self.contender.cannot[name]
        return None if hasattr(self.contender, name) else "not offered"

    def repeat(self, name: str) -> dict[str, Any]:
        """Do one repetition, check it, and return its times in seconds."""
        workload = WORKLOADS[name]
        job = Job(workload, self.sizes[name], self.people)
        if workload.table is not None:
            self.auditor.fill(workload.table, job.rows if workload.filled else 0)
        given = job.given()
        prepare = getattr(self.contender, f"before_{name}", None)
        if prepare is not None:
            given = self.call(prepare, given)
        method = getattr(self.contender, name)
        pinned = (workload.chatty and self.database != "sqlite") or self.database == "aiosqlite"
        pin(os.cpu_count() - 1 if pinned else None, self.auditor.backends() if pinned else ())  # type: ignore[operator]
        try:
            reply, outcome = (
                self.weigh(method, given, job) if workload.memory else self.time(method, given, job)
            )
            workload.check(job, self.auditor, self.contender, outcome)
        finally:
            given = outcome = None
            self.call(self.contender.after)
        return reply

    def time(self, method: Any, given: Any, job: Job) -> tuple[dict[str, Any], Any]:
        """Time the workload alone, by wall clock and by the CPU this process used."""
        gc.collect()
        if not self.collect:
            gc.disable()
        wall, cpu = time.perf_counter(), time.process_time()
        outcome = self.call(method, given)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        gc.enable()
        operations = job.count * job.workload.repeat
        return {"wall": wall / operations * 1e6, "cpu": cpu / operations * 1e6}, outcome

    def weigh(self, method: Any, given: Any, job: Job) -> tuple[dict[str, Any], Any]:
        """Weigh what the workload leaves in memory, in bytes per entity."""
        self.call(method, 10)  # plans and caches are not the entities' weight
        self.call(self.contender.after)
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        outcome = self.call(method, given)
        gc.collect()
        weight = (tracemalloc.get_traced_memory()[0] - before) / job.count
        tracemalloc.stop()
        return {"bytes": weight}, len(outcome)

    def serve(self, orders: TextIO, replies: TextIO) -> None:
        """Answer orders, one JSON line each, until there are no more."""
        _say(replies, {"versions": self.contender.versions()})
        for line in orders:
            name = line.strip()
            reason = self.reason(name)
            if reason is not None:
                _say(replies, {"without": reason})
                continue
            try:
                _say(replies, self.repeat(name))
            except Exception as error:  # noqa: BLE001 - it belongs into the table
                traceback.print_exc()
                _say(
                    replies,
                    {"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"},
                )
        self.call(self.contender.close)
        self.auditor.close()


def _say(replies: TextIO, reply: dict[str, Any]) -> None:
    replies.write(json.dumps(reply) + "\n")
    replies.flush()


def main() -> None:
    """Take the order from the command line; replies leave by the original standard output."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not mix with the replies
    try:
        worker = Worker(json.loads(sys.argv[1]))
    except Exception as error:  # noqa: BLE001 - it belongs into the table
        traceback.print_exc()
        _say(replies, {"error": f"{type(error).__name__}: {error}"})
        return
    worker.serve(sys.stdin, replies)


if __name__ == "__main__":
    main()
