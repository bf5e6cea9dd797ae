"""Compile the kernel and the pool where that is possible; install it as plain Python where it is not.

Modules share C structs, so all of them are compiled or none.

SOJOURN_PURE=1            build nothing: a py3-none-any wheel
SOJOURN_REQUIRE_KERNEL=1  a missing or failing compiler is an error (release wheels, CI)
"""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCE = Path("src/sojourn")
KERNEL = ["record", "layout", "state", "attributes", "identity", "rows", "units", "lean", "binding", "drive"]
POOLING = ["answers", "histogram", "upkeep", "core", "places", "guard", "connecting", "pool", "loop_pool"]
MODULES = [*(f"kernel/{name}" for name in KERNEL), *(f"pooling/{name}" for name in POOLING)]

pure = os.environ.get("SOJOURN_PURE") == "1" or sys.implementation.name != "cpython"
require = os.environ.get("SOJOURN_REQUIRE_KERNEL") == "1"


class BuildAllOrNothing(build_ext):
    """Fall back to plain Python when one module fails: half a compiled kernel does not import."""

    def run(self) -> None:
        try:
            super().run()
        except Exception as error:
            if require:
                raise
            stay_plain(error)
            for extension in self.extensions:
                Path(self.get_ext_fullpath(extension.name)).unlink(missing_ok=True)
            self.extensions = []
            self.distribution.ext_modules = []


def stay_plain(error: Exception) -> None:
    """Say why, and remove what an earlier build has left beside the sources: it would be half a kernel."""
    print(f"*** the kernel stays plain Python ({type(error).__name__}: {error})", file=sys.stderr)
    for left in (*SOURCE.rglob("*.so"), *SOURCE.rglob("*.pyd")):
        left.unlink()


def extensions() -> list[Extension]:
    """Translate the kernel to C; the empty list when it shall stay, or must stay, plain Python."""
    if pure:
        return []
    try:
        from Cython.Build import cythonize  # noqa: PLC0415 - it may be missing
    except ImportError:
        if require:
            raise
        return []
    flags = [] if sys.platform == "win32" else ["-O2", "-g0"]
    wanted = [
        Extension(f"sojourn.{name.replace('/', '.')}", [str(SOURCE / f"{name}.py")], extra_compile_args=flags)
        for name in MODULES
    ]
    try:
        translated: list[Extension] = cythonize(
            wanted,
            build_dir="build/cython",
            include_path=["src"],
            compiler_directives={"language_level": "3"},
            quiet=True,
        )
    except Exception as error:
        if require:
            raise
        stay_plain(error)
        return []
    return translated


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildAllOrNothing})
