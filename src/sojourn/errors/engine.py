"""Errors of engines, pools and drivers (SJ5xx)."""

from __future__ import annotations

import sqlalchemy.exc as sa

from sojourn.errors.base import SojournError


class PoolTimeout(SojournError, sa.TimeoutError, TimeoutError):
    """No connection became free in time."""

    number = "SJ501"


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
