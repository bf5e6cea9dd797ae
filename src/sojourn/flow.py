"""The requests a flow may yield, the leaf flows that yield them, and the two drivers that answer them.

A *flow* is a generator: it yields requests, is sent replies, and returns its result. It decides and
never waits. `drive` and `drive_async` are the only two places where I/O happens for a session; they
differ by one word. A request knows its `lane` (an engine or a connection), and performing it is
`request.lane.perform(request)`.

Bare `yield` stands in this file only: all other flows say `yield from` a leaf, which also gives each
call its static type. A failed request is raised at the `yield` that asked, so `try/except/finally` in
a flow reads as in ordinary code. After anything but an `Exception` (a cancelled task, Ctrl-C) a flow
may clean up but not ask again: `drive` refuses it, because the connection's state is unknown then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from sojourn.kernel.drive import drive
from sojourn.symbols import Flow

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from sojourn.kernel.identity import IdentityMap

T = TypeVar("T")

__all__ = [
    "Acquire", "Begin", "Close", "Commit", "Core", "Execute", "ExecuteMany", "Fetch", "Finish", "Flow",
    "InsertEach", "More", "Open", "Prepare", "Release", "Request", "Return", "Rollback", "RollbackTo",
    "Rows", "Savepoint", "ask", "drive", "drive_async",
]  # fmt: skip


class Request:
    """One thing to be done by a lane; its fields print themselves."""

    __slots__ = ("lane",)

    def __init__(self, lane: Any) -> None:
        self.lane = lane

    def __repr__(self) -> str:
        names = [n for kind in type(self).__mro__ for n in getattr(kind, "__slots__", ()) if n != "lane"]
        return f"{type(self).__name__}({', '.join(f'{n}={getattr(self, n)!r}' for n in names)})"


class Acquire(Request):
    """Lend a connection of the engine that is the lane, in a transaction; the reply is the connection."""

    __slots__ = ()


class Return(Request):
    """Give the connection back to its pool; *discard* closes it instead."""

    __slots__ = ("discard",)

    def __init__(self, lane: Any, discard: bool = False) -> None:
        self.lane = lane
        self.discard = discard


class Fetch(Request):
    """Run a plan and materialise its rows into entities or rows; the reply is a list."""

    __slots__ = ("flags", "identity", "params", "plan", "scalars")

    def __init__(
        self, lane: Any, plan: Any, params: tuple[Any, ...], identity: IdentityMap, flags: int, scalars: bool
    ) -> None:
        self.lane = lane
        self.plan = plan
        self.params = params
        self.identity = identity
        self.flags = flags
        self.scalars = scalars


class Execute(Request):
    """Run a plan that returns no rows; the reply is the row count."""

    __slots__ = ("params", "plan")

    def __init__(self, lane: Any, plan: Any, params: tuple[Any, ...]) -> None:
        self.lane = lane
        self.plan = plan
        self.params = params


class Rows(Execute):
    """Run a plan; the reply is its rows as tuples, result processors applied."""

    __slots__ = ()


class ExecuteMany(Request):
    """Run a plan once per parameter tuple; the reply is the summed row count, -1 if unknown."""

    __slots__ = ("plan", "rows")

    def __init__(self, lane: Any, plan: Any, rows: Sequence[tuple[Any, ...]]) -> None:
        self.lane = lane
        self.plan = plan
        self.rows = rows


class InsertEach(ExecuteMany):
    """Run an INSERT once per parameter tuple; the reply is the list of row ids, in order."""

    __slots__ = ()


class Open(Execute):
    """Start streaming a plan's rows, *size* at a time; the reply is a handle."""

    __slots__ = ("size",)

    def __init__(self, lane: Any, plan: Any, params: tuple[Any, ...], size: int) -> None:
        self.lane = lane
        self.plan = plan
        self.params = params
        self.size = size


class More(Request):
    """Fetch the next *size* raw rows of a stream; the reply is empty at its end."""

    __slots__ = ("handle", "size")

    def __init__(self, lane: Any, handle: Any, size: int) -> None:
        self.lane = lane
        self.handle = handle
        self.size = size


class Close(Request):
    """End a stream."""

    __slots__ = ("handle",)

    def __init__(self, lane: Any, handle: Any) -> None:
        self.lane = lane
        self.handle = handle


class Core(Request):
    """Run any Core executable through Core's own way; the reply is a Core result."""

    __slots__ = ("options", "params", "statement")

    def __init__(self, lane: Any, statement: Any, params: Any, options: dict[str, Any]) -> None:
        self.lane = lane
        self.statement = statement
        self.params = params
        self.options = options


class Begin(Request):
    """Start a transaction."""

    __slots__ = ()


class Commit(Request):
    """Commit the transaction."""

    __slots__ = ()


class Finish(Request):
    """Commit the transaction and give the connection back: the usual end in one request."""

    __slots__ = ()


class Rollback(Request):
    """Roll the transaction back."""

    __slots__ = ()


class Savepoint(Request):
    """Set a savepoint of the given name."""

    __slots__ = ("name",)

    def __init__(self, lane: Any, name: str) -> None:
        self.lane = lane
        self.name = name


class Release(Savepoint):
    """Release a savepoint: its work becomes part of what surrounds it."""

    __slots__ = ()


class RollbackTo(Savepoint):
    """Undo the work since a savepoint."""

    __slots__ = ()


class Prepare(Savepoint):
    """Prepare the transaction for two-phase commit under the given id."""

    __slots__ = ()


def ask(request: Request) -> Flow[Any]:
    """Ask for one request and return its reply: the leaf of every flow."""
    return (yield request)


async def drive_async(flow: Flow[T], perform: Callable[[Any], Awaitable[Any]]) -> T:
    """Run *flow* to its end, awaiting each request."""
    try:
        request = next(flow)
        while True:
            try:
                reply = await perform(request)  # the one word that differs from `drive`
            except Exception as error:  # noqa: BLE001 - it is raised again, at the line that asked
                request = flow.throw(error)
            except BaseException as error:
                end_cancelled(flow, error)
                raise
            else:
                request = flow.send(reply)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


def end_cancelled(flow: Flow[Any], error: BaseException) -> None:
    """Let a cancelled flow clean up; raise RuntimeError if it asks for anything more."""
    try:
        request = flow.throw(error)
    except StopIteration:
        return  # it swallowed the cancellation; the caller raises it again
    except BaseException as raised:
        if raised is error:
            return
        raise
    flow.close()
    msg = f"a flow asked for {request!r} after it was cancelled"
    raise RuntimeError(msg) from error
