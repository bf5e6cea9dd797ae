"""Reading a source tree for the architecture tests; any tree, so that faults can be planted."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

PROJECT = Path(__file__).parents[2]
ROOT = PROJECT / "src" / "sojourn"


@dataclass(frozen=True)
class Source:
    """One Python file of a package that lies at *root* and is called sojourn."""

    root: Path
    path: Path

    @property
    def place(self) -> str:
        """The path inside the package: `pool/core.py`."""
        return self.path.relative_to(self.root).as_posix()

    @property
    def room(self) -> str:
        """The first word of the place: the package or module of the top level."""
        return self.place.split("/")[0].removesuffix(".py")

    @property
    def module(self) -> str:
        """The dotted name; a package's `__init__` has the package's."""
        parts = self.path.relative_to(self.root).with_suffix("").parts
        return ".".join(("sojourn", *parts)).removesuffix(".__init__")

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    def imports(self) -> set[str]:
        """Every module or name imported, absolute, wherever in the file; Cython's `cimports` count."""
        found: set[str] = set()
        package = ("sojourn", *self.path.relative_to(self.root).parts[:-1])
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom):
                base = package[: len(package) - node.level + 1] if node.level else ()
                stem = (*base, *(node.module or "").split("."))
                found |= {".".join(filter(None, (*stem, alias.name))) for alias in node.names}
            elif isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
        return {name.removeprefix("cython.cimports.") for name in found}


def read_tree(root: Path = ROOT) -> list[Source]:
    """Return every Python file under *root*."""
    return [Source(root, path) for path in sorted(root.rglob("*.py"))]


def plant(root: Path, files: dict[str, str]) -> list[Source]:
    """Write *files* (place without `.py` -> text) under *root* and return the tree: a bed for faults."""
    for place, text in files.items():
        path = root / f"{place}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return read_tree(root)
