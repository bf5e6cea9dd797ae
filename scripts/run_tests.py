"""Run the tests in all the ways that matter: `python3 scripts/run_tests.py [--everything]`.

1. the whole suite on the main environment's Python, compiled kernel, every database;
2. a shorter pass (nothing marked slow, SQLite only) with the kernel uncompiled;
3. the shorter pass on each other supported Python found here, compiled and uncompiled.

--everything makes every pass a whole one, and sets SOJOURN_NIGHTLY=1, by which random tests take more
steps. What was left out is listed by name with its reason; with CI=true that is a failure inside each
pass. The last line adds the passes up.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from prepare import ROOT, say

SUPPORTED = ("3.11", "3.12", "3.13")
SHORT = ("-m", "not slow", "--ignore=tests/architecture", "--ignore=tests/docs")
#: What is written for the main Python version: call counts, generated pages, style, types.
MAIN_ONLY = tuple(f"--ignore=tests/{folder}" for folder in ("architecture", "docs", "profile", "typing"))
CI = os.environ.get("CI") == "true"


@dataclass
class Pass:
    """One run of pytest: which Python, which kernel, how much."""

    title: str
    python: Path
    kernel: str
    whole: bool
    main: bool

    def run(self, extra: list[str]) -> dict[str, dict[str, int | str]]:
        """Run pytest and return what it reported; a crash counts as one failure."""
        say(self.title)
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder, "report.json")
            environment = {**os.environ, "SOJOURN_TEST_REPORT": str(report), "SOJOURN_KERNEL": self.kernel}
            if not self.kernel:
                del environment["SOJOURN_KERNEL"]
            if not self.whole:
                environment["SOJOURN_TEST_DATABASES"] = "sqlite,aiosqlite"
            command = [self.python, "-m", "pytest", "-q", *(() if self.whole else SHORT)]
            command += [*(() if self.main else MAIN_ONLY), *extra]
            done = subprocess.run(command, cwd=ROOT, env=environment, check=False)
            result = json.loads(report.read_text()) if report.exists() else {"counts": {}}
        if done.returncode and not result["counts"].get("failed"):
            result["counts"]["failed"] = 1
        return result


def find_python(version: str) -> str | None:
    """Return a Python of *version* that starts: on PATH, or among pyenv's."""
    home = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = shutil.which(f"python{version}")
    candidates = [found] if found else []
    candidates += sorted(map(str, home.glob(f"versions/{version}.*/bin/python{version}")), reverse=True)
    for candidate in candidates:
        if not subprocess.run([candidate, "-c", ""], capture_output=True, check=False).returncode:
            return candidate
    return None


def is_compiled(python: Path) -> bool:
    """Return whether the compiled kernel works in the environment of *python*."""
    ask = "import sojourn.kernel as k; raise SystemExit(not k.COMPILED)"
    return not subprocess.run([python, "-c", ask], cwd=ROOT, capture_output=True, check=False).returncode


def main() -> None:
    """Plan the passes, run them, add them up."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--everything", action="store_true", help="every pass whole, on every database")
    parser.add_argument("pytest", nargs="*", help="more arguments for every pytest")
    options = parser.parse_args()
    if options.everything:
        os.environ["SOJOURN_NIGHTLY"] = "1"

    main_python = ROOT / ".venv" / "bin" / "python"
    ask = "import sys; print('%d.%d' % sys.version_info[:2])"
    main_version = subprocess.run(
        [main_python, "-c", ask], capture_output=True, text=True, check=True
    ).stdout.strip()
    left_out: list[str] = []
    passes: list[Pass] = []

    def plan(version: str, python: Path, *, main: bool) -> None:
        """Add the passes of one environment: compiled if it can, and uncompiled."""
        if is_compiled(python):
            words = "whole suite" if main or options.everything else "shorter pass"
            passes.append(
                Pass(
                    f"Python {version}, compiled kernel, {words}",
                    python,
                    "",
                    main or options.everything,
                    main,
                )
            )
        else:
            left_out.append(f"Python {version}, compiled kernel: not built, which needs a C compiler")
        whole = options.everything or (main and not is_compiled(python))
        words = "whole suite" if whole else "shorter pass"
        passes.append(Pass(f"Python {version}, uncompiled kernel, {words}", python, "python", whole, main))

    plan(main_version, main_python, main=True)
    for version in SUPPORTED:
        if version == main_version:
            continue
        found = find_python(version)
        if found is None:
            left_out.append(f"Python {version}: no interpreter on PATH or in pyenv")
            continue
        venv = ROOT / ".venvs" / version
        done = subprocess.run([found, ROOT / "scripts" / "prepare.py", "test", "--venv", venv], check=False)
        if done.returncode:
            left_out.append(f"Python {version}: its environment cannot be prepared")
            continue
        plan(version, venv / "bin" / "python", main=False)

    total: Counter[str] = Counter()
    lines = []
    for each in passes:
        result = each.run(options.pytest)
        counts = Counter(result["counts"])
        total.update(counts)
        lines.append(
            f"{each.title}: {counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped"
        )
        reasons = Counter(result.get("not run", {}).values())
        left_out += [f"{each.title}: {reason} ({n} tests)" for reason, n in reasons.items()]

    print()
    for line in lines:
        say(line)
    print("\nleft out:" if left_out else "\nleft out: nothing")
    for line in left_out:
        print(f"  {line}")
    if CI and any("compiled kernel: not built" in line for line in left_out):
        total["failed"] += 1
    print(f"\ntotal: {total['passed']} passed, {total['failed']} failed, {total['skipped']} skipped")
    sys.exit(bool(total["failed"]))


if __name__ == "__main__":
    main()
