"""The compiled core: states, attributes, the identity map, rows; it knows no SQL.

Each module is one source in Cython's pure Python mode; the compiled file beside it wins at import.
`SOJOURN_KERNEL=python` in the environment selects the sources. `COMPILED` says which one runs.
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
    """Find the kernel's sources before the compiled modules beside them."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, name = fullname.rpartition(".")
        if package != __name__ or not path:
            return None
        source = Path(path[0]) / f"{name}.py"
        if not source.exists():
            return None
        return spec_from_file_location(fullname, source, loader=SourceFileLoader(fullname, str(source)))


if os.environ.get("SOJOURN_KERNEL") == "python":
    sys.meta_path.insert(0, _SourceFinder())

from sojourn.kernel.drive import COMPILED  # noqa: E402 - the finder comes first

__all__ = ["COMPILED"]
