"""`SojournError`, the base of every error: its text has three lines: what, remedy, number."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, ClassVar

import sqlalchemy.exc as sa

if TYPE_CHECKING:
    from collections.abc import Iterable


class SojournError(sa.SQLAlchemyError):
    """Base of every error sojourn raises on its own account."""

    number: ClassVar[str] = "SJ000"
    code = None

    def __init__(self, what: str, remedy: str = "") -> None:
        self.what = what
        self.remedy = remedy
        lines = [
            what,
            *([remedy] if remedy else []),
            f"[{self.number}] sojourn doctor --explain {self.number}",
        ]
        super().__init__("\n  ".join(lines))


def closest(name: str, known: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for the known name nearest to *name*, or an empty text."""
    near = difflib.get_close_matches(str(name), [str(k) for k in known], n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def is_error(thing: Any) -> bool:
    """Return whether *thing* is a public error class of sojourn."""
    return isinstance(thing, type) and issubclass(thing, SojournError)
