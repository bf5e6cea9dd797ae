"""The static types of the mapping: mypy --strict agrees with a sample, and refuses what it marks."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SAMPLE = Path(__file__).parent / "samples" / "mapping.py"
ROOT = Path(__file__).parents[2]


def test_mypy_agrees_with_the_sample():
    """Each `# error:` line of the sample is an error with that text; nothing else is one."""
    pytest.importorskip("mypy")
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--follow-imports=silent",
        "--no-pretty",
        str(SAMPLE),
    ]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    found = {
        int(match[1]): match[2] for match in re.finditer(rf"{SAMPLE.name}:(\d+): error: (.*)", answer.stdout)
    }
    lines = enumerate(SAMPLE.read_text().splitlines(), start=1)
    expected = {number: line.split("# error: ")[1] for number, line in lines if "# error: " in line}

    assert not answer.stderr
    assert sorted(found) == sorted(expected), answer.stdout
    for number, text in expected.items():
        assert found[number].startswith(text)
