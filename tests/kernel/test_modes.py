"""One source, two kernels: which one runs, and that neither needs Cython to be installed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sojourn.kernel import COMPILED, drive

SCRIPT = """
import sys
sys.modules["cython"] = None  # as where Cython is not installed
from sojourn.kernel import COMPILED, attributes, binding, identity, layout, record, rows, state, units
modules = (attributes, binding, identity, layout, record, rows, state, units)
print(COMPILED, {m.__file__.endswith(".py") for m in modules})
"""


def run(**environment: str) -> str:
    given = {**os.environ, **environment}
    return subprocess.run(
        [sys.executable, "-c", SCRIPT], env=given, check=True, capture_output=True, text=True
    ).stdout


def test_compiled_says_which_kernel_runs() -> None:
    """COMPILED is true exactly when the modules were loaded from compiled files."""
    assert COMPILED is not str(drive.__file__).endswith(".py")


@pytest.mark.slow
def test_the_environment_selects_the_sources() -> None:
    """SOJOURN_KERNEL=python loads every kernel module from its source, without Cython."""
    assert run(SOJOURN_KERNEL="python") == "False {True}\n"


@pytest.mark.slow
@pytest.mark.skipif(not COMPILED, reason="not applicable: this run uses the uncompiled kernel")
def test_all_modules_are_compiled_or_none() -> None:
    """With a compiled kernel no module falls back to its source, and Cython is not needed either."""
    assert run(SOJOURN_KERNEL="") == "True {False}\n"
