"""What the lanes share for sending statements: arguments per row, streams, cursors that failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sojourn.flow import ExecuteMany
    from sojourn.plans import StatementPlan

#: What a lane's `_first` says after a first statement that may be repeated, while nothing came after it.
ONE_READ = 2


class Stream:
    """A statement whose rows are still with the driver."""

    __slots__ = ("args", "plan", "source", "text")

    def __init__(self, source: Any, plan: StatementPlan, text: str, args: Sequence[Any]) -> None:
        self.source = source  # a driver's cursor, or Core's result on the slow lane
        self.plan = plan
        self.text = text
        self.args = args


def bind_rows(request: ExecuteMany) -> tuple[str, Sequence[tuple[Any, ...]]]:
    """Return the text and the driver's arguments of a statement that runs once per row."""
    plan, rows = request.plan, request.rows
    if plan.binder.direct:
        return plan.text, rows
    bound = [plan.bind(row) for row in rows]
    return (bound[0][0] if bound else plan.text), [args for _, args in bound]


def close_quietly(cursor: Any) -> None:
    """Close a cursor whose statement failed half-way: it would hold locks."""
    if cursor is not None:
        try:
            cursor.close()
        except Exception:  # noqa: BLE001, S110 - the first error is the one to tell
            pass
