"""`Front`: what the parts of the thread front see of the `Pool` they work for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sojourn.pooling.answers import Action, Ticket
    from sojourn.pooling.core import Entry, PoolCore
    from sojourn.pooling.thread_handling import Handling


class Front(Protocol):
    """A pool of threads, from inside."""

    core: PoolCore
    handling: Handling
    name: str
    guard: Any  # the lock, entered by `with`; compiled, and so without a type
    clock: Callable[[], float]
    luck: Callable[[], float]
    new_lock: Any  # `threading.Lock` and `Thread`, or those of gevent
    new_thread: Any
    connect_retry: float
    connect_error: BaseException | None
    failed_at: float
    pauses: Any  # `connecting.Bells`
    plan: Any  # `keeper.Plan`, or None
    max_waiting: int | None
    self_wait: str
    pings: int
    pings_failed: int
    gc_returns: int
    resets: dict[str, int]

    def release(self, entry: Entry, reason: str | None = None) -> None: ...
    def serves(self, entry: Entry, idle: float) -> bool: ...
    def carry_out(self, actions: Iterable[Action]) -> None: ...
    def keep_places(self, actions: Sequence[Action]) -> Sequence[Action]: ...
    def give_permit_up(self, ticket: Ticket, now: float) -> Sequence[Action]: ...
    def take_late(self) -> None: ...
    def ran_out(self, ticket: Ticket) -> bool: ...
    def refuse_late(self, ticket: Ticket) -> BaseException: ...
    def plan_ahead(self) -> None: ...
    def keep(self, now: float) -> float | None: ...
