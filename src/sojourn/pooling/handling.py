"""What an asyncio pool can do with a connection, and how it behaves towards callers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sojourn.pooling.core import Entry
    from sojourn.pooling.stats import LeaseInfo


class Handling:
    """What a pool can do with a connection; the engine supplies a subclass."""

    async def connect(self) -> Entry:
        """Open a connection; raise the driver's error."""
        raise NotImplementedError

    async def close(self, entry: Entry, reason: str) -> None:
        """Say goodbye, in bounded time, and close."""

    def terminate(self, entry: Entry, reason: str) -> Awaitable[Any] | None:
        """Close at once, without a word; never raises. What it returns, if anything, is done at the end."""

    def cut(self, entry: Entry) -> None:
        """Let whoever uses the connection fail now; never raises."""

    async def serves(self, entry: Entry) -> bool:
        """Ask the server, in bounded time."""
        return True

    def fileno(self, entry: Entry) -> int | None:
        """Return the descriptor of the connection's socket, None where there is none."""
        return None

    def statement(self, entry: Entry) -> str | None:
        """Return the last statement of the lease, without its values."""
        return entry.statement  # type: ignore[no-any-return]

    def abandon(self, entry: Entry) -> None:
        """Let a forked child's copy never speak: the socket is the parent's."""

    def is_transient(self, error: BaseException) -> bool:
        """Tell whether connecting again soon may help."""
        return False

    def is_hopeless(self, error: BaseException) -> bool:
        """Tell whether connecting again cannot help."""
        return False

    def leaked(self, lease: LeaseInfo) -> None:
        """Hear once of each lease that is out for longer than `leak_after`."""


class Manners:
    """How a pool behaves, whatever the loop; see `AsyncPool` for what each option means."""

    def __init__(
        self,
        *,
        timeout: float | None = 30.0,
        connect_retry: float = 5.0,
        ping_after: float | None = 30.0,
        self_wait: str = "raise",
        max_waiting: int | None = None,
        reuse: bool = True,
        name: str = "",
        clock: Callable[[], float],
        luck: Callable[[], float],
    ) -> None:
        self.timeout = timeout
        self.connect_retry = connect_retry
        self.ping_after = ping_after
        self.self_wait = self_wait
        self.max_waiting = max_waiting
        self.reuse = reuse
        self.name = name
        self.clock = clock
        self.luck = luck
