"""Which entities take part in a flush, and how each differs from its row.

`collect_work` reads the identity map and changes nothing. New entities come in the order in which they
were added, cut into runs that name the same columns; changed ones are grouped by the names that changed,
those whose values are what they were are left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sojourn.kernel import units
from sojourn.unitofwork.rowops import Writer, writer_for, writers_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sojourn.kernel.identity import IdentityMap
    from sojourn.kernel.state import InstanceState

PLAIN = 0
EXPRESSION = 1
REFUSED = 2  # by every driver of this database, unless the column type converts it

#: What drivers take as parameters on databases without arrays and composite values.
_CONTAINERS = (dict, list, tuple, set, frozenset)


class Kinds(dict[type, int]):
    """What the type of a value means to a flush; learns each type once."""

    def __init__(self, containers: bool) -> None:
        super().__init__()
        self.containers = containers

    def __missing__(self, kind: type) -> int:
        if getattr(kind, "is_clause_element", False) or hasattr(kind, "__clause_element__"):
            found = EXPRESSION if not hasattr(kind, "__sojourn_layout__") else REFUSED
        elif hasattr(kind, "__sojourn_layout__") or (not self.containers and issubclass(kind, _CONTAINERS)):
            found = REFUSED
        else:
            found = PLAIN
        self[kind] = found
        return found


def kinds_of(engine: Any) -> Kinds:
    """Return what *engine* has learned about the types of values."""
    try:
        return engine.__dict__["_sojourn_kinds"]  # type: ignore[no-any-return]
    except KeyError:
        kinds = Kinds(engine.traits.dialect == "postgresql")
        return engine.__dict__.setdefault("_sojourn_kinds", kinds)  # type: ignore[no-any-return]


class Work:
    """The entities of one flush, by what is to be done to their rows."""

    __slots__ = ("clean", "deletes", "inserts", "updates")

    def __init__(self) -> None:
        #: writer -> runs of (presence bits, entities, states)
        self.inserts: dict[Writer, list[tuple[int, list[Any], list[InstanceState]]]] = {}
        #: writer -> {changed names: (entities, states)}
        self.updates: dict[Writer, dict[tuple[str, ...], tuple[list[Any], list[InstanceState]]]] = {}
        #: writer -> (entities, states)
        self.deletes: dict[Writer, tuple[list[Any], list[InstanceState]]] = {}
        #: changed in name only
        self.clean: list[InstanceState] = []


def collect_work(identity: IdentityMap, engine: Any, objects: Iterable[Any] | None = None) -> Work:
    """Return what a flush of *identity* (or of *objects* alone) has to write."""
    work = Work()
    new: Any = identity.new
    dirty: Any = identity.dirty
    deleted: Any = identity.deleted
    if objects is not None:
        chosen = {id(entity) for entity in objects}
        new = {state: entity for state, entity in new.items() if id(entity) in chosen}
        dirty = {state: entity for state, entity in dirty.items() if id(entity) in chosen}
        deleted = {state: entity for state, entity in deleted.items() if id(entity) in chosen}
    if new:
        writers = writers_of(engine)

        def optional(layout: Any) -> tuple[tuple[str, ...], tuple[bool, ...]]:
            writer = writers.get(layout) or writer_for(layout.mapper, engine)
            return writer.optional, writer.optional_none

        for layout, runs in units.group_inserts(new, optional).items():
            work.inserts[writers[layout]] = runs
    if dirty:
        if deleted:
            dirty = {state: entity for state, entity in dirty.items() if state not in deleted}
        groups = units.collect_changes(dirty)
        if sum(len(states) for _, states in groups.values()) != len(dirty):
            changed = {state for _, states in groups.values() for state in states}
            work.clean = [state for state in dirty if state not in changed]
        for (layout, names), members in groups.items():
            work.updates.setdefault(writer_for(layout.mapper, engine), {})[names] = members
    if deleted:
        for layout, gone in units.group_deletes(deleted).items():
            work.deletes[writer_for(layout.mapper, engine)] = gone
    return work


def find_row_switches(work: Work) -> list[tuple[Writer, Any, InstanceState, InstanceState]]:
    """Take out new entities that carry the key of a row deleted in the same flush.

    INSERTs run before DELETEs, so such a row is updated instead. Returned are (writer, new entity, its
    state, state of the deleted one).
    """
    switches = []
    for writer, (entities, states) in work.deletes.items():
        runs = work.inserts.get(writer)
        if not runs:
            continue
        going = {state.key: n for n, state in enumerate(states)}
        gone: set[int] = set()
        for bits, news, new_states in runs:
            for n in range(len(news) - 1, -1, -1):
                key = writer.layout.key_of(news[n].__dict__)
                place = going.get(key) if key is not None else None
                if place is not None and place not in gone:
                    gone.add(place)
                    switches.append((writer, news.pop(n), new_states.pop(n), states[place]))
            del bits
        if gone:
            entities[:] = [entity for n, entity in enumerate(entities) if n not in gone]
            states[:] = [state for n, state in enumerate(states) if n not in gone]
    return switches
