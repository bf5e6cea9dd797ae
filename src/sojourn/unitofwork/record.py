"""What a flush did to entities, so that a rollback can undo it to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sojourn.kernel.state import InstanceState


class FlushRecord:
    """States by what a flush did to them; filled while it runs, so that a failure half-way is undone too.

    States refer to their entities weakly: an entity nobody holds any more may leave memory before the
    transaction ends (G4).
    """

    __slots__ = ("changed", "deleted", "inserted", "key_changes")

    def __init__(self) -> None:
        self.inserted: list[InstanceState] = []
        self.deleted: list[tuple[InstanceState, Any]] = []  # with the entity: only a rollback brings it back
        self.changed: list[InstanceState] = []
        self.key_changes: list[tuple[InstanceState, Any]] = []  # with the key before

    def take_over(self, later: FlushRecord) -> None:
        """Note what *later* notes as done after this."""
        self.inserted += later.inserted
        self.deleted += later.deleted
        self.changed += later.changed
        self.key_changes += later.key_changes

    def __repr__(self) -> str:
        counts = f"{len(self.inserted)} inserted, {len(self.changed)} changed, {len(self.deleted)} deleted"
        return f"<FlushRecord: {counts}>"
