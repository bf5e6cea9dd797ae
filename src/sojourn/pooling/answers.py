# cython: language_level=3, annotation_typing=False
"""What passes between the pool's core and its fronts: tickets, decisions, actions.

Compiled, because an interrupt cannot arrive within compiled code: a decision is never lost half-made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    Entry = Any  # an `Entry` of the core, whose file imports this one
    Actions = Sequence["Action"]


class Ticket:
    """One caller's wait; the front attaches whatever wakes that caller.

    Until it is served it stands in `core.waiting`. It leaves that line with an entry, with the permit
    to connect, with an error, or *gone*: its deadline had passed when its turn came. `core.give_up`
    ends it in whichever of these it is.
    """

    __slots__ = ("by", "deadline", "entry", "error", "gone", "may_connect", "races", "since", "wake")

    def __init__(self, wake: Any = None, *, by: Any = None, deadline: float | None = None) -> None:
        self.wake = wake  # a lock, a future, whatever the front wakes with
        self.by = by
        self.deadline = deadline
        self.races = True  # waits where a creator or a return will serve it, instead of connecting
        self.since = 0.0
        self.entry: Entry | None = None
        self.may_connect = False
        self.error: BaseException | None = None
        self.gone = False

    @property
    def served(self) -> bool:
        """Tell whether the wait ended with something; not so while it lasts, nor when it is gone."""
        return self.entry is not None or self.may_connect or self.error is not None


# -- decisions: the answer to `acquire` ------------------------------------------------------------


class Connect:
    """Decision: close *retired* if there is one, open a connection, say `connected` or `connect_failed`."""

    __slots__ = ("retired",)

    def __init__(self, retired: Entry | None = None) -> None:
        self.retired = retired


class Wait:
    """Decision: wait until the ticket is woken, or give up; carry out *actions* meanwhile."""

    __slots__ = ("actions",)

    def __init__(self, actions: Actions = ()) -> None:
        self.actions = actions


# -- actions: the answer to everything else --------------------------------------------------------


class Action:
    """Something the front has to do, outside its lock and in the given order."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class Wake(Action):
    """Wake the caller of this ticket: it has an entry, may connect, or gets an error."""

    __slots__ = ("ticket",)

    def __init__(self, ticket: Ticket) -> None:
        self.ticket = ticket


class Close(Action):
    """Close this entry's connection; it no longer belongs to the pool."""

    __slots__ = ("entry", "reason")

    def __init__(self, entry: Entry, reason: str) -> None:
        self.entry = entry
        self.reason = reason

    def __repr__(self) -> str:
        return f"Close({self.reason})"


class Open(Action):
    """Let a creator open a connection, then say `opened` or `open_failed`."""

    __slots__ = ()


class Leak(Action):
    """Tell that this entry is lent for longer than `leak_after`."""

    __slots__ = ("entry",)

    def __init__(self, entry: Entry) -> None:
        self.entry = entry


class Reclaim(Action):
    """Cut this lent entry's connection off: it is out for longer than `reclaim_after`."""

    __slots__ = ("entry",)

    def __init__(self, entry: Entry) -> None:
        self.entry = entry


# -- the thread front's own ------------------------------------------------------------------------


class Vacate(Action):
    """Let go of places whose connections are closed by now."""

    __slots__ = ("places",)

    def __init__(self, places: int) -> None:
        self.places = places


class CloseLate(Close):
    """Close a connection whose place was freed before."""

    __slots__ = ()
