# cython: language_level=3, annotation_typing=False
# mypy: disable-error-code="untyped-decorator"
"""Name who holds a connection and where it was acquired: the nearest line that is the user's own.

A place is taken down at every lease, so it is kept raw (a code object and an offset: 0.1 us) and becomes text
only when somebody reads it.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

try:
    import cython
except ImportError:
    from sojourn import _cython as cython

if TYPE_CHECKING:
    from types import CodeType, FrameType

    Site = tuple[CodeType, int]

_inside: dict[str, bool] = {}  # file name -> whether it belongs to a library that only passes calls on

if not cython.compiled:

    def sj_frame() -> FrameType | None:
        """Return the frame of who asks for a place: not its own, or it would hold itself until collected."""
        return sys._getframe(2)  # noqa: SLF001 - the documented way to one's caller

    def sj_caller(frame: FrameType) -> FrameType | None:
        """Return the frame that called it."""
        return frame.f_back

    def sj_code(frame: FrameType) -> CodeType:
        """Return what runs in it."""
        return frame.f_code

    def sj_file(code: CodeType) -> str:
        """Return the file it comes from."""
        return code.co_filename

    def sj_offset(frame: FrameType) -> int:
        """Return where in the code it is."""
        return frame.f_lasti


@cython.ccall
def here() -> Site | None:
    """Return the place from which the libraries were called, for `describe`."""
    frame: FrameType | None = sj_frame()
    first = frame
    while frame is not None:
        code = sj_code(frame)
        name = sj_file(code)
        inside = _inside.get(name)
        if inside is None:
            inside = _inside[name] = _passes_on(name)
        if not inside:
            return (code, sj_offset(frame))
        frame = sj_caller(frame)
    return None if first is None else (sj_code(first), sj_offset(first))


def _passes_on(name: str) -> bool:
    """Tell whether *name* is a file of ours, or of SQLAlchemy where that is what calls us."""
    roots = [Path(__file__).parents[1]]
    core = sys.modules.get("sqlalchemy")
    if core is not None and core.__file__:
        roots.append(Path(core.__file__).parent)
    return name == contextlib.__file__ or any(name.startswith(f"{root}{os.sep}") for root in roots)


def describe(site: Site | None) -> str:
    """Return `file:line in function`."""
    if site is None:
        return "an unknown place"
    code, offset = site
    found = code.co_firstlineno
    for start, end, line in code.co_lines():
        if start <= offset < end and line is not None:
            found = line
    return f"{code.co_filename}:{found} in {code.co_qualname}"


def describe_holder(by: Any) -> str:
    """Return the name of a thread or task, and whether it still runs."""
    if by is None:
        return "unknown"
    name = by.name if hasattr(by, "name") else by.get_name() if hasattr(by, "get_name") else str(by)
    if hasattr(by, "is_alive"):
        return f"{name}" if by.is_alive() else f"{name} (ended)"
    return f"{name}"
