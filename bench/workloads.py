"""The workloads: size, input and the check of the outcome. A wrong result is an error, not a figure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench import data

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.auditor import Auditor
    from bench.contenders.base import Contender


class WrongOutcome(AssertionError):
    """A contender finished without having done the work."""


@dataclass(frozen=True)
class Job:
    """One workload at one size: what a repetition and its check are given."""

    workload: Workload
    count: int
    people: int  # rows of the table person

    def given(self) -> Any:
        """Make the input of one repetition."""
        return self.workload.given(self)

    @property
    def rows(self) -> int:
        """How many rows the workload's own table is filled with."""
        return self.people if self.workload.chatty else self.count


@dataclass(frozen=True)
class Workload:
    """One line of the table."""

    name: str
    title: str
    size: int
    given: Callable[[Job], Any]
    check: Callable[[Job, Auditor, Contender, Any], None]
    table: str | None = None  # emptied or filled before each repetition
    filled: bool = False
    chatty: bool = False  # one round trip after another: client and server share one CPU
    memory: bool = False  # bytes per entity instead of time
    repeat: int = 1  # operations that are done for each of `count`


def expect(what: str, expected: Any, actual: Any) -> None:
    """Raise unless both are equal."""
    if expected != actual:
        raise WrongOutcome(f"{what}: expected {expected!r:.200}, got {actual!r:.200}")


def _check_loaded(table: str) -> Callable[[Job, Auditor, Contender, Any], None]:
    names, make = {
        "person": (data.PERSON, data.person),
        "wide": (data.WIDE, data.wide),
        "typed": (data.TYPED, data.typed),
    }[table]

    def check(job: Job, auditor: Auditor, contender: Contender, outcome: Any) -> None:
        expect("rows", job.count, len(outcome))
        keys = sorted(contender.values(row, ("id",))[0] for row in outcome)
        expect("keys", list(range(1, job.count + 1)), keys)
        for row in (*outcome[:40], *outcome[-40:]):
            values = contender.values(row, names)
            expect("row", make(values[0]), tuple(values))
            expect("types", [type(v) for v in make(values[0])], [type(v) for v in values])

    return check


def _check_found(job: Job, auditor: Auditor, contender: Contender, outcome: Any) -> None:
    expect("found", job.count, len(outcome))
    for key, row in zip(data.scattered(job.count, job.people), outcome, strict=True):
        expect("row", data.person(key), tuple(contender.values(row, data.PERSON)))


def _check_inserted(keys_back: bool) -> Callable[[Job, Auditor, Contender, Any], None]:
    def check(job: Job, auditor: Auditor, contender: Contender, outcome: Any) -> None:
        rows = auditor.run("SELECT id, name, email, age, city FROM guest")
        expect("rows", job.count, len(rows))
        expect("contents", {data.person(k)[1:] for k in range(1, job.count + 1)}, {row[1:] for row in rows})
        if keys_back:  # the key read back belongs to the row of the same place
            names = {row[0]: row[1] for row in rows}
            expect(
                "keys", [data.person(k)[1] for k in range(1, job.count + 1)], [names.get(k) for k in outcome]
            )

    return check


def _check_own_keys(job: Job, auditor: Auditor, contender: Contender, outcome: Any) -> None:
    rows = auditor.run("SELECT id, name, email, age, city FROM guest ORDER BY id")
    expect("rows", [data.person(key) for key in range(1, job.count + 1)], rows)


def _check_ages(touched: Callable[[Job], set[int]]) -> Callable[[Job, Auditor, Contender, Any], None]:
    def check(job: Job, auditor: Auditor, contender: Contender, outcome: Any) -> None:
        changed = touched(job)
        ages = dict(auditor.run("SELECT id, age FROM member"))
        expect("rows", job.rows, len(ages))
        expect("ages", {k: data.person(k)[3] + (k in changed) for k in ages}, ages)

    return check


def _check_deleted(job: Job, auditor: Auditor, contender: Contender, outcome: Any) -> None:
    expect("rows left", [(0,)], auditor.run("SELECT count(*) FROM guest"))


def _check_constructed(job: Job, auditor: Auditor, contender: Contender, outcome: Any) -> None:
    expect("entities", job.count, len(outcome))
    expect(
        "values", data.person(job.count)[1:], tuple(contender.values(outcome[-1], data.PERSON[1:], new=True))
    )


def _check_count(job: Job, auditor: Auditor, contender: Contender, outcome: Any) -> None:
    expect("outcome", job.count, outcome)


def _check_names(job: Job, auditor: Auditor, contender: Contender, outcome: Any) -> None:
    expect("names", [data.person(key)[1] for key in data.scattered(job.count, job.people)], list(outcome))


def _nothing(job: Job) -> None:
    return None


def _new(job: Job) -> list[dict[str, Any]]:
    return data.person_dicts(job.count)


def _tuples(job: Job) -> list[tuple[Any, ...]]:
    return [data.person(key)[1:] for key in range(1, job.count + 1)]


def _new_with_keys(job: Job) -> list[dict[str, Any]]:
    return data.person_dicts(job.count, keys=True)


def _keys(job: Job) -> list[int]:
    return data.scattered(job.count, job.people)


def _names(job: Job) -> list[str]:
    return [data.person(key)[1] for key in data.scattered(job.count, job.people)]


def _size(job: Job) -> int:
    return job.count


_every = _check_ages(lambda job: set(range(1, job.count + 1)))
_some = _check_ages(lambda job: set(data.scattered(job.count, job.people)))

WORKLOADS: dict[str, Workload] = {
    w.name: w
    for w in (
        Workload("a_construct", "construct with four keywords", 20_000, _tuples, _check_constructed),
        Workload(
            "b_insert", "add_all + commit, keys read back", 20_000, _new, _check_inserted(True), "guest"
        ),
        Workload("c_insert_keys", "the same with own keys", 20_000, _new_with_keys, _check_own_keys, "guest"),
        Workload("d_bulk", "bulk insert of dicts", 20_000, _new, _check_inserted(False), "guest"),
        Workload("e_load5", "load entities, 5 columns", 40_000, _nothing, _check_loaded("person")),
        Workload("e_load20", "load entities, 20 columns", 20_000, _nothing, _check_loaded("wide")),
        Workload("e_typed", "load entities, typed columns", 20_000, _nothing, _check_loaded("typed")),
        Workload("f_rows", "load rows", 40_000, _nothing, _check_loaded("person")),
        Workload("g_get", "session.get, cold", 2_000, _keys, _check_found, chatty=True),
        Workload("h_get_hot", "get in the identity map", 2_000, _keys, _check_found, repeat=10),
        Workload("i_select", "select().where() built anew, first", 2_000, _names, _check_found, chatty=True),
        Workload(
            "i_query", "query().filter_by() built anew, first", 2_000, _names, _check_found, chatty=True
        ),
        Workload("i_core", "sqlalchemy.select built anew, first", 2_000, _names, _check_found, chatty=True),
        Workload(
            "j_request", "new session, get, change, commit, close", 1_000, _keys, _some, "member", True, True
        ),
        Workload(
            "k_update", "load all, change one attribute, commit", 20_000, _nothing, _every, "member", True
        ),
        Workload("l_delete", "delete all loaded", 20_000, _size, _check_deleted, "guest", True),
        Workload(
            "p_savepoint", "savepoint per row", 1_000, _new, _check_inserted(False), "guest", chatty=True
        ),
        Workload("q_get", "attribute read", 100_000, _size, _check_count, repeat=10),
        Workload("q_set", "attribute set", 100_000, _size, _check_count, repeat=10),
        Workload("r_memory5", "memory per entity, 5 columns", 20_000, _size, _check_count, memory=True),
        Workload("r_memory20", "memory per entity, 20 columns", 10_000, _size, _check_count, memory=True),
        Workload(
            "s_plan_hit",
            "plan-cache hit: build, key, execute, one value",
            2_000,
            _keys,
            _check_names,
            chatty=True,
        ),
    )
}
#: Those that never reach the database; measured once, on SQLite.
LOCAL = ("a_construct", "h_get_hot", "q_get", "q_set", "r_memory5", "r_memory20")


def count_at(workload: Workload, scale: float) -> int:
    """Return how many operations a repetition has at `scale`; below 1 the tables shrink alike."""
    return max(10, round(workload.size * scale))
