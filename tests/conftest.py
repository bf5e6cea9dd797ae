"""Fixtures `db` and `adb`, the header of a run, and what a whole run must not have done.

Three checks belong to the run and not to a test: what could not run is listed by name with its reason
(with CI=true that is a failure, unless declared not applicable); `sqlalchemy.orm` and `greenlet` were
never imported; every private server is stopped.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests import databases, servers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

CI = os.environ.get("CI", "").lower() == "true"
NOT_APPLICABLE = "not applicable: "

#: Packages no part of sojourn may import, and the Core-only extension that is allowed.
FORBIDDEN = ("sqlalchemy.orm", "sqlalchemy.ext", "greenlet")
ALLOWED = {"sqlalchemy.ext", "sqlalchemy.ext.compiler"}

counts: Counter[str] = Counter()
not_run: dict[str, str] = {}
not_applicable: dict[str, str] = {}


# -- databases --------------------------------------------------------------------------------


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test once per database its fixtures and its `databases` marks name."""
    wanted = [mark.args for mark in metafunc.definition.iter_markers("databases")]
    for fixture, names in databases.FIXTURES.items():
        if fixture in metafunc.fixturenames:
            for names_of_mark in wanted:
                names = databases.select_drivers(names, names_of_mark)
            metafunc.parametrize(fixture, names, indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out databases that SOJOURN_TEST_DATABASES does not name (ids, comma separated)."""
    chosen = os.environ.get("SOJOURN_TEST_DATABASES")
    if not chosen:
        return
    kept = []
    for item in items:
        parameters = (
            item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
        )
        used = {parameters[name] for name in databases.FIXTURES if name in parameters}
        if used <= set(chosen.split(",")):
            kept.append(item)
    config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
    items[:] = kept


def prepare(name: str, folder: Path) -> databases.Database:
    """Return the empty database *name*, or skip the test with the reason why there is none."""
    driver = databases.DRIVERS[name]
    if obstacle := databases.find_obstacle(driver):
        pytest.skip(obstacle)
    return databases.open_database(driver, folder)


@pytest.fixture
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[databases.Database]:
    """An empty database through each blocking driver in turn."""
    database = prepare(request.param, tmp_path)
    yield database
    database.dispose()


@pytest.fixture
def sqlite_db(tmp_path: Path) -> Iterator[databases.Database]:
    """An empty SQLite file, for tests that need a database and no particular one."""
    database = prepare("sqlite", tmp_path)
    yield database
    database.dispose()


@pytest.fixture
async def adb(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[databases.Database]:
    """An empty database through each async driver in turn; its engines live in the test's event loop."""
    database = prepare(request.param, tmp_path)
    yield database
    for waiting in database.dispose():
        await waiting


# -- header and summary -----------------------------------------------------------------------


def kernel_words() -> str:
    """Return which kernel the run uses, in words."""
    try:
        import sojourn.kernel as kernel
    except ImportError as error:
        return f"not importable ({error})"
    return "compiled" if kernel.COMPILED else "python"


def pytest_report_header() -> list[str]:
    """Say which kernel runs and which databases are installed."""
    places = (
        f"PostgreSQL in {servers.find_postgresql()}, MariaDB at {servers.find_program('mariadbd', 'mysqld')}"
    )
    return [f"kernel: {kernel_words()}", f"databases: {databases.describe()}; {places}"]


def reason_of(report: Any) -> str:
    """Return the reason of a skipped report, without the place."""
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")


def judge_skip(report: Any) -> None:
    """Note a skipped test by name and reason; under CI make it a failure."""
    if report.outcome != "skipped" or hasattr(report, "wasxfail"):
        return
    reason = reason_of(report)
    if reason.startswith(NOT_APPLICABLE):
        not_applicable[report.nodeid] = reason.removeprefix(NOT_APPLICABLE)
        return
    not_run[report.nodeid] = reason
    if CI:
        report.outcome = "failed"
        report.longrepr = f"with CI=true nothing may be skipped: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[Any]:
    """Judge the skips of tests."""
    report = yield
    judge_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator[Any]:
    """Judge the skips of whole files."""
    report = yield
    judge_skip(report)
    return report


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave out what was declared to make no sense here."""
    for mark in item.iter_markers("not_applicable"):
        pytest.skip(NOT_APPLICABLE + mark.args[0])


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Count files that could not even be read."""
    counts["failed"] += report.outcome == "failed"


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count outcomes for whoever adds up several runs."""
    if report.when == "call" or report.outcome != "passed":
        counts["failed" if report.outcome == "failed" else report.outcome] += 1


def find_forbidden(modules: list[str]) -> list[str]:
    """Return those of *modules* that must never be imported."""
    return sorted(
        name
        for name in modules
        if name not in ALLOWED and any(name == root or name.startswith(f"{root}.") for root in FORBIDDEN)
    )


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run in which something imported `sqlalchemy.orm` or `greenlet`; stop the servers."""
    databases.close_admins()
    servers.stop_all()
    if find_forbidden(list(sys.modules)) and session.exitstatus in (0, pytest.ExitCode.NO_TESTS_COLLECTED):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print what was left out and why, and write the counts where SOJOURN_TEST_REPORT says."""
    for title, names in (("not run", not_run), ("not applicable here", not_applicable)):
        if names:
            terminalreporter.section(title)
            by_reason: dict[str, list[str]] = {}
            for name, reason in names.items():
                by_reason.setdefault(reason, []).append(name)
            for reason, tests in by_reason.items():
                terminalreporter.line(f"{reason}: {len(tests)} tests")
                for name in tests:
                    terminalreporter.line(f"  {name}")
    if found := find_forbidden(list(sys.modules)):
        terminalreporter.section("forbidden imports")
        terminalreporter.line(f"the run imported {', '.join(found)}; sojourn must work without them")
        counts["failed"] += 1
    if path := os.environ.get("SOJOURN_TEST_REPORT"):
        Path(path).write_text(
            json.dumps(
                {
                    "counts": counts,
                    "not run": not_run,
                    "not applicable": not_applicable,
                    "kernel": kernel_words(),
                }
            )
        )
