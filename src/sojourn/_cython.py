"""Stand in for `import cython` where the kernel runs as plain Python: every name does nothing.

Only what the kernel's modules evaluate at import or at run time is here; C types are placeholders.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

compiled: Final = False


def _keep(thing: T) -> T:
    return thing


def _factory(*_args: Any, **_names: Any) -> Callable[[T], T]:
    return _keep


cclass = cfunc = ccall = inline = final = no_gc = no_gc_clear = internal = _keep
boundscheck = wraparound = nonecheck = initializedcheck = annotation_typing = _factory
freelist = locals = returns = exceptval = binding = profile = _factory  # noqa: A001 - Cython's names


def declare(_kind: object = None, value: Any = None) -> Any:
    """Return the initial value of a C variable."""
    return value


def cast(_kind: object, value: T, **_checks: object) -> T:
    """Return the value: there is nothing to convert."""
    return value


class _CType:
    """Any C type."""


bint = int = long = longlong = Py_ssize_t = double = void = p_void = _CType  # noqa: A001 - Cython's names
