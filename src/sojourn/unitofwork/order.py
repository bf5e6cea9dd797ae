"""In which order the tables of a flush are written: a table after those its foreign keys refer to.

Tables that refer to one another in a circle keep the order in which their entities came.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import NoReferencedColumnError, NoReferencedTableError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sojourn.unitofwork.rowops import Writer


def order_writers(writers: Iterable[Writer]) -> list[Writer]:
    """Return *writers* so that each comes after those whose rows its own may refer to."""
    waiting = list(dict.fromkeys(writers))
    if len(waiting) < 2:
        return waiting
    by_table = {writer.table: writer for writer in waiting}
    ordered: dict[Writer, None] = {}
    entered: set[Writer] = set()

    def place(writer: Writer) -> None:
        if writer in ordered or writer in entered:
            return
        entered.add(writer)
        for table in referred_tables(writer.table):
            other = by_table.get(table)
            if other is not None:
                place(other)
        ordered[writer] = None

    for writer in waiting:
        place(writer)
    return list(ordered)


def referred_tables(table: Any) -> list[Any]:
    """Return the tables that the foreign keys of *table* refer to, as far as they are known."""
    found = []
    for key in sorted(table.foreign_keys, key=lambda key: str(key.target_fullname)):
        try:
            found.append(key.column.table)
        except (NoReferencedTableError, NoReferencedColumnError):
            continue  # not in this metadata, so no entity of this flush is in it
    return found
