"""Errors of engines, pools and drivers (SJ5xx)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy.exc as sa

from sojourn.errors.base import SojournError

if TYPE_CHECKING:
    from collections.abc import Sequence


class PoolTimeout(SojournError, sa.TimeoutError, TimeoutError):
    """No connection became free in time."""

    number = "SJ501"

    def __init__(
        self, what: str, remedy: str = "", *, waited: float = 0.0, leases: Sequence[Any] = ()
    ) -> None:
        super().__init__(what, remedy)
        self.waited = waited  # seconds
        self.leases = tuple(leases)  # who held what, the oldest first: `LeaseInfo`s of the pool


class PoolDeadlock(PoolTimeout):
    """A thread or task that holds all connections asked for another: it would wait for itself."""

    number = "SJ503"


class PoolClosed(SojournError, sa.InvalidRequestError):
    """The pool was closed for good."""

    number = "SJ504"


class DriverMissing(SojournError, sa.NoSuchModuleError):
    """The library that talks to the database is not installed, or not known."""

    number = "SJ502"


class BlockingCall(SojournError, sa.MissingGreenlet):
    """Blocking code was to use an async connection in the very thread of its event loop."""

    number = "SJ510"
    code = None  # type: ignore[assignment]  # both parents have one

    def __init__(self) -> None:
        super().__init__(
            "An async engine's connection was asked to block in the thread of its event loop, "
            "or after the call that lent it to blocking code had ended.",
            "Hand the blocking code over: await connection.run_sync(function), "
            "await session.run_sync(function).",
        )
