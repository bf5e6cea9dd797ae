"""Prepare a virtual environment: `python3 scripts/prepare.py demo|test|bench [--venv .venv]`.

Needs nothing but Python 3.11 or newer, and runs again in a second when nothing changed. In order:

1. for test and bench, on Debian, as root or with sudo that asks nothing: install what is missing of the
   database servers, the headers mysqlclient compiles against, and a C compiler;
2. create the environment and install the project, editable, with what the purpose needs;
3. compile the kernel in place; without a compiler it stays plain Python, and works.

What cannot be had is said in a line and left out; the tests list it again, by name.
With CI=true a kernel that does not compile is an error.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OLDEST = (3, 11)
GROUPS = {"demo": ("build",), "test": ("build", "lint"), "bench": ("build",)}
#: What a program needs from Debian: how we see that it is missing, and the package that brings it.
DEBIAN = {
    "postgresql": lambda: (
        not any(Path("/usr/lib/postgresql").glob("*/bin/initdb")) and not shutil.which("initdb")
    ),
    "mariadb-server": lambda: not shutil.which("mariadb-install-db"),
    "gcc": lambda: not (shutil.which("gcc") or shutil.which("cc")),
    "pkg-config": lambda: not shutil.which("pkg-config"),
    "libmariadb-dev": lambda: not (shutil.which("mariadb_config") or shutil.which("mysql_config")),
    "libc6-dev": lambda: not Path("/usr/include/stdio.h").exists(),
    "python3-dev": lambda: not Path(sysconfig.get_path("include"), "Python.h").exists(),
    "python3-venv": lambda: importlib.util.find_spec("ensurepip") is None,
}


def say(text: str) -> None:
    """Print one line at once, so that progress shows also through a pipe."""
    print(f"-- {text}", flush=True)


def find_root() -> list[str] | None:
    """Return what to put before a command that needs root: nothing, sudo, or None if we may not."""
    if os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo")
    if sudo and not subprocess.run([sudo, "-n", "true"], capture_output=True, check=False).returncode:
        return [sudo, "-n", "env", "DEBIAN_FRONTEND=noninteractive"]
    return None


def install_debian(packages: list[str]) -> None:
    """Install *packages* if this is Debian and we are allowed to; else say what is missing."""
    root = find_root()
    if not packages:
        return
    if not shutil.which("apt-get") or root is None:
        why = "this is not Debian" if root is not None else "neither root nor sudo without a password"
        say(f"missing: {', '.join(packages)} ({why}); going on without")
        return
    say(f"installing from Debian: {', '.join(packages)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "update", "-qq"],
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages],
    ):
        done = subprocess.run([*root, *command], env=environment, stdout=subprocess.DEVNULL, check=False)
        if done.returncode:
            say(f"{' '.join(command[:2])} failed; going on without")


def run(*command: str | Path, **environment: str) -> None:
    """Run a command in the project's folder; end with its exit code if it fails."""
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


def create_environment(venv: Path) -> Path:
    """Create the virtual environment if it is not there; return its Python."""
    python = venv / "bin" / "python"
    if not python.exists():
        say(f"creating {venv} with Python {sys.version.split()[0]}")
        run(sys.executable, "-m", "venv", venv)
        run(python, "-m", "pip", "install", "--quiet", "--upgrade", "pip")  # older ones know no --group
    return python


@functools.cache
def fingerprint(purpose: str) -> str:
    """Return a hash of all that the installation depends on."""
    parts = [(ROOT / name).read_bytes() for name in ("pyproject.toml", "setup.py", "scripts/prepare.py")]
    return hashlib.sha256(b"".join([purpose.encode(), sys.version.encode(), *parts])).hexdigest()


def install_project(python: Path, purpose: str) -> None:
    """Install the project with what *purpose* needs, unless that was done already."""
    stamp = python.parents[1] / f"installed-for-{purpose}"
    if stamp.exists() and stamp.read_text() == fingerprint(purpose):
        return
    say(f"installing sojourn for: {purpose}")
    groups = [part for group in GROUPS[purpose] for part in ("--group", group)]
    # SOJOURN_PURE: the kernel is compiled in place below, where its result is seen.
    run(python, "-m", "pip", "install", "--quiet", "--editable", f".[{purpose}]", *groups, SOJOURN_PURE="1")
    stamp.write_text(fingerprint(purpose))


def install_mysqlclient(python: Path) -> None:
    """Install mysqlclient, which compiles against MariaDB's headers; say why if it does not."""
    if not subprocess.run([python, "-c", "import MySQLdb"], capture_output=True, check=False).returncode:
        return
    say("installing mysqlclient")
    done = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "mysqlclient>=2.2"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = (done.stderr.strip() or "no reason given").splitlines()[-1]
        say(f"mysqlclient cannot be installed ({reason}); its tests are left out")


def compile_kernel(python: Path) -> None:
    """Compile the kernel beside its source; a second run compiles only what changed."""
    require = {"SOJOURN_REQUIRE_KERNEL": "1"} if os.environ.get("CI") == "true" else {}
    run(python, "setup.py", "--quiet", "build_ext", "--inplace", **require)
    ask = "import sojourn.kernel as k; print('compiled' if k.COMPILED else 'plain Python')"
    done = subprocess.run([python, "-c", ask], cwd=ROOT, capture_output=True, text=True, check=False)
    say(f"kernel: {done.stdout.strip() or done.stderr.strip()}")


def main() -> None:
    """Read the command line and prepare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("purpose", choices=GROUPS)
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv")
    options = parser.parse_args()
    if sys.version_info < OLDEST:
        found = sys.version.split()[0]
        raise SystemExit(f"sojourn needs Python 3.11 or newer, this is {found}: make PYTHON=python3.12 ...")
    wanted = ["python3-venv"] if options.purpose == "demo" else list(DEBIAN)
    install_debian([name for name in wanted if DEBIAN[name]()])
    python = create_environment(options.venv.absolute())
    install_project(python, options.purpose)
    if options.purpose != "demo":
        install_mysqlclient(python)
    compile_kernel(python)


if __name__ == "__main__":
    main()
