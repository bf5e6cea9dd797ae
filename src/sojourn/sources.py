"""Choose between the compiled modules of a package and the sources beside them.

The compiled file wins at import; `SOJOURN_KERNEL=python` in the environment selects the sources.
"""

from __future__ import annotations

import os
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


class _SourceFinder(MetaPathFinder):
    """Find the sources of one package before the compiled modules beside them."""

    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, name = fullname.rpartition(".")
        if package != self.package or not path:
            return None
        source = Path(path[0]) / f"{name}.py"
        if not source.exists():
            return None
        return spec_from_file_location(fullname, source, loader=SourceFileLoader(fullname, str(source)))


def choose_sources(package: str) -> None:
    """Let *package* run as plain Python if the environment says so; call it before importing its modules."""
    if os.environ.get("SOJOURN_KERNEL") == "python":
        sys.meta_path.insert(0, _SourceFinder(package))
