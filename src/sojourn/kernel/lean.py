# cython: language_level=3, annotation_typing=False, nonecheck=True
"""Plan and settle the most frequent flush of all: one entity, one row, of a shape that was seen before.

A request or a savepoint block that stores one thing spends most of its time here rather than in the
statement; as plain Python these two functions took a third of a savepoint per row (`bench` workload p).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

try:
    import cython
except ImportError:
    from sojourn import _cython as cython

from sojourn.kernel import units

if cython.compiled:
    from cython.cimports.sojourn.kernel._capi import sj_dict
    from cython.cimports.sojourn.kernel.identity import IdentityMap
    from cython.cimports.sojourn.kernel.layout import Layout
    from cython.cimports.sojourn.kernel.state import InstanceState
else:
    from sojourn.kernel._plain import sj_dict
    from sojourn.kernel.identity import IdentityMap  # noqa: TC001 - a C type when compiled
    from sojourn.kernel.layout import Layout  # noqa: TC001 - the same
    from sojourn.kernel.state import InstanceState

if TYPE_CHECKING:
    from collections.abc import Mapping


@cython.cclass
class LeanRow:
    """One row to be sent: the entity, its state, the shape of its statement, the parameters.

    `lean` is what the shape noted for such rows: the request's class, the technique, the statement plan.
    """

    if not cython.compiled:
        __slots__ = ("entity", "is_insert", "lean", "row", "shape", "state")

    entity: Any
    is_insert: bool
    lean: Any
    row: tuple[Any, ...]
    shape: Any
    state: InstanceState


@cython.locals(identity=IdentityMap, state=InstanceState, found=LeanRow, new=dict, changed=dict)
def plan_lean_row(identity: IdentityMap, writers: Mapping[Layout, Any] | None, kinds: Any) -> LeanRow | None:
    """Return the one row a flush sends, or None when it is anything but that.

    *writers*: by layout, with `inserts` by presence and `updates` by changed names, whose shapes know their
    `lean`. A value that cannot be sent makes it None: the long way finds out which.
    """
    new = identity.new
    changed = identity.dirty
    if writers is None or kinds is None or len(new) + len(changed) != 1 or identity.deleted:
        return None
    for state, entity in (new or changed).items():
        writer = writers.get(state.layout)
        if writer is None:
            return None
        found = LeanRow()
        found.entity = entity
        found.state = state
        found.is_insert = bool(new)
        try:
            if new:
                shape = writer.inserts.get(units.presence(entity, writer.optional, writer.optional_none))
                if shape is None or shape.lean is None:
                    return None
                row = units.collect_one(entity, shape.names, shape.processors, kinds, None)
            else:
                names = units.changed_names(state, entity)
                shape = writer.updates.get(names)
                if shape is None or shape.lean is None:
                    return None
                row = units.collect_one(entity, names, shape.processors, kinds, state)
        except Exception:  # noqa: BLE001 - the long way tells which value it was
            return None
        if row is None:
            return None
        found.row = row
        found.shape = shape
        found.lean = shape.lean
        return found
    return None


@cython.locals(identity=IdentityMap, state=InstanceState, sent=LeanRow, layout=Layout, values=dict)
def settle_lean_row(identity: IdentityMap, sent: LeanRow, reply: Any) -> bool:
    """Take the reply for the row *sent* into its entity; return False if it is not what one row brings.

    The reply is a row count, a list of one row id, or the list of one row that the statement returned.
    """
    state = sent.state
    lapsed = sent.shape.lapsed
    if not sent.is_insert:
        if reply not in (1, -1):
            return False
        state.committed = None
        identity.dirty.pop(state, None)
    else:
        layout = state.layout
        technique = sent.lean[1]
        if technique == "each":
            units.settle_inserted(identity, layout, (sent.entity,), (state,))
            lapsed = sent.shape.lapsed_unreturned
        elif len(reply) != 1 or reply[0] is None:
            return False
        elif technique == "each, lastrowid":
            units.settle_inserted(identity, layout, (sent.entity,), (state,), reply)
        else:
            units.settle_inserted(
                identity, layout, (sent.entity,), (state,), None, sent.shape.returned_names, reply
            )
    if lapsed:
        values = sj_dict(sent.entity)
        for name in lapsed:
            values.pop(name, None)
    return True
