"""`Handling`: what a pool of threads can do with a connection; the engine supplies it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sojourn.pooling.core import Entry
    from sojourn.pooling.stats import LeaseInfo


class Handling:
    """The base of what an engine supplies."""

    def connect(self) -> Entry:
        """Open a connection, or raise the driver's error; a creator thread may call this."""
        raise NotImplementedError

    def close(self, entry: Entry, reason: str) -> None:
        """Say goodbye, in bounded time and without raising.

        For the reason "fork" be silent instead, now and when the connection is collected: it is the parent's.
        """

    def cut(self, entry: Entry) -> None:
        """Make whoever uses the socket fail now; from any thread, without waiting or raising."""

    def serves(self, entry: Entry) -> bool:
        """Ask the server, in bounded time: the socket has something to say, or was silent for long."""
        return True

    def is_transient(self, error: BaseException) -> bool:
        """Tell whether connecting again soon may help."""
        return False

    def is_hopeless(self, error: BaseException) -> bool:
        """Tell whether connecting again cannot help, so that nobody needs to try."""
        return False

    def leaked(self, lease: LeaseInfo) -> None:
        """Tell somebody that a lease lasts for longer than `leak_after`."""
