"""What a contender is: one method per workload, with untimed preparation and clean-up around it."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def construct(cls: Any, rows: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Construct an entity of each row with four keywords."""
    return [cls(name=name, email=email, age=age, city=city) for name, email, age, city in rows]


class Contender:
    """Base of all contenders.

    A workload `w` is the method `w(given)`; the optional `before_w(given)` prepares it untimed and returns
    what `w` is given instead, and `after()` cleans up. Coroutines are run in the contender's own loop.
    """

    #: workloads it cannot do -> the reason
    cannot: Mapping[str, str] = MappingProxyType({})

    def __init__(self, database: str, place: dict[str, Any]) -> None:
        self.database = database
        self.place = place

    def versions(self) -> str:
        """Name what was measured."""
        return ""

    def values(self, row: Any, names: Sequence[str], new: bool = False) -> Sequence[Any]:
        """Read attributes for the check; `new` says the row was constructed, not loaded."""
        return [getattr(row, name) for name in names]

    def after(self) -> Any:
        """Release what the last workload held."""

    def close(self) -> Any:
        """Close all connections."""
