"""The documents are true: examples run, generated parts are current, links lead somewhere."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
PAGES = [PROJECT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")]
PAGES += sorted((PROJECT / "docs").glob("*.md"))
#: A block that shall not run is marked `python no-run`; it must still be Python.
BLOCK = re.compile(r"^```python([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)(?:#[^)]*)?\)")


def read_blocks(page: Path) -> list[tuple[str, str]]:
    """Return the Python blocks of *page*, each with what follows `python` on its first line."""
    return [(flags.strip(), code) for flags, code in BLOCK.findall(page.read_text())]


def run_page(page: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the blocks of *page* one after another, as one program, in an empty folder."""
    code = "\n".join(code for flags, code in read_blocks(page) if flags != "no-run")
    script = folder / "example.py"
    script.write_text(code)
    command = [sys.executable, "-W", "error", str(script)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_examples_run(page, tmp_path):
    """The Python blocks of a page, taken together, are a program that ends well without a warning."""
    done = run_page(page, tmp_path)

    assert done.returncode == 0, done.stderr


def test_the_readme_has_thirty_lines_of_code():
    """The first page shows the library in code that fits a screen."""
    code = "\n".join(code for _, code in read_blocks(PROJECT / "README.md"))

    assert 20 <= len([line for line in code.splitlines() if line.strip()]) <= 60


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_python_block_is_python(page):
    """Blocks that are only shown parse as well."""
    for _, code in read_blocks(page):
        ast.parse(code)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_of_the_project(page):
    """A relative link names a file that exists."""
    dead = [target for target in LINK.findall(page.read_text()) if not (page.parent / target).exists()]

    assert not dead


def test_the_errors_page_is_current():
    """docs/errors.md says what the error classes say."""
    command = [sys.executable, PROJECT / "scripts" / "errors_page.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_readme_examples_are_typed(tmp_path):
    """The type checker accepts the README's program, so what we show is what editors understand."""
    code = "\n".join(code for flags, code in read_blocks(PROJECT / "README.md") if flags != "no-run")
    (tmp_path / "example.py").write_text(code)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", PROJECT / "pyproject.toml"]
    command += ["--cache-dir", PROJECT / ".mypy_cache", tmp_path / "example.py"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("text", "ends_well"),
    [
        ("```python\nx = 1\n```\n\n```python\nassert x == 1\n```\n", True),
        ("```python\nassert False\n```\n", False),
        ("```python\nimport warnings; warnings.warn('x')\n```\n", False),
        ("```python no-run\nassert False\n```\n", True),
    ],
)
def test_a_planted_fault_is_found(text, ends_well, tmp_path):
    """A page whose example fails or warns is found; blocks share their names."""
    page = tmp_path / "page.md"
    page.write_text(text)

    assert (run_page(page, tmp_path).returncode == 0) is ends_well
