"""What no file may contain: paths of somebody's machine, and tests that do not say what they expect."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.architecture.source import PROJECT

#: Folders that builds and tools leave behind.
LEFT_BEHIND = {".git", ".venv", ".venvs", "build", "dist", "__pycache__", ".work"}
LEFT_BEHIND |= {".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", ".benchmarks"}
TEXT_ENDINGS = {".py", ".pxd", ".pyi", ".md", ".toml", ".cfg", ".sh", ".txt", ".yml", ".yaml", ".json", ""}

#: A path below somebody's home or workplace; written so that this file does not match itself.
MACHINE_PATH = re.compile(r"(?<![\w.~}])/(?:work|home|root|Users)/" + r"\w|(?<!\w)\.\./" + "shared")


def project_files() -> list[Path]:
    """Return the text files of the project."""
    return [
        path
        for path in sorted(PROJECT.rglob("*"))
        if path.is_file()
        and path.suffix in TEXT_ENDINGS
        and not LEFT_BEHIND & set(path.relative_to(PROJECT).parts)
        and ".egg-info" not in str(path)
    ]


def find_machine_paths(files: list[Path]) -> list[str]:
    """Return the lines that name a path of somebody's machine."""
    return [
        f"{path}:{number}: {line.strip()}"
        for path in files
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if MACHINE_PATH.search(line)
    ]


def find_silent_tests(files: list[Path]) -> list[str]:
    """Return the test functions whose docstring does not state the behaviour."""
    return [
        f"{path}:{node.lineno}: {node.name} has no docstring stating the behaviour"
        for path in files
        if path.name.startswith("test_") and path.suffix == ".py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]


def find_sleeps(files: list[Path]) -> list[str]:
    """Return the tests that sleep: time is an argument, or an event is waited for.

    Where only real time will do, the line says why: `# sleep: ...`.
    """
    return [
        f"{path}:{node.lineno}: {ast.unparse(node)}"
        for path in files
        if path.name.startswith("test_") and path.suffix == ".py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in {"time.sleep", "sleep", "asyncio.sleep"}
        and not (node.args and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0)
        and "# sleep:" not in path.read_text(encoding="utf-8").splitlines()[node.lineno - 1]
    ]


CHECKS = [find_machine_paths, find_silent_tests, find_sleeps]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_no_file_of_the_project_has_the_fault(check):
    """The project's texts are free of the fault."""
    found = check(project_files())

    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (find_machine_paths, "see " + "/ho" + "me/ann/notes"),
        (find_silent_tests, "def test_x():\n    assert True"),
        (find_sleeps, "async def test_x():\n    '''It waits.'''\n    await asyncio.sleep(1)"),
    ],
)
def test_a_planted_fault_is_found(check, text, tmp_path):
    """Each check finds the fault it is there for."""
    path = tmp_path / "test_x.py"
    path.write_text(text)

    assert check([path])


def test_the_files_of_the_project_are_seen():
    """The walk finds sources and documents, and nothing that a tool left behind."""
    names = {path.relative_to(PROJECT).as_posix() for path in project_files()}

    assert {"pyproject.toml", "src/sojourn/flow.py", "Makefile", "README.md"} <= names
    assert not [name for name in names if name.startswith((".venv/", "build/"))]
