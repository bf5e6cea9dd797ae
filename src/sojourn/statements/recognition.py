"""Recognise a select written with Core's own functions of which every part was recorded.

`sqlalchemy.select(User).where(User.name == name)` is Core's object, but it is made of a class and of criteria
that were recorded before Core asked for their elements. Where there is nothing else in it, it means the same
as the recorded `select(User).where(User.name == name)`: that carries its plan, while Core's cache key of it
costs as much as building it did.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy

from sojourn import corelink
from sojourn.kernel import record as kernel
from sojourn.kernel.record import Node
from sojourn.statements.builders import Select
from sojourn.statements.namespaces import EntitySelect
from sojourn.statements.replay import origin_of


def recorded_form(statement: Any) -> Select | None:
    """Return the recording that means the same as a Core select, or None where there is none."""
    kind = type(statement)
    parts = corelink.plain_parts(statement) if kind is sqlalchemy.Select or kind is EntitySelect else None
    if parts is None:
        return None
    columns, criteria, order, limit, offset = parts
    asked: list[Any] = []
    for element in columns:
        mapper = corelink.notes_on(element).get(corelink.ENTITY)
        if mapper is None:
            node = _node_of(element)
            if node is None:
                return None
            asked.append(node)
        elif mapper.clause is element:
            asked.append(mapper.class_)
        else:
            return None
    recording = kernel.begin(*asked)
    if criteria:
        nodes = [_node_of(element) for element in criteria]
        if _has_gap(nodes):
            return None
        recording = recording.where(*nodes)
    if order:
        nodes = [_node_of(element) for element in order]
        if _has_gap(nodes):
            return None
        recording = recording.order_by(*nodes)
    for clause, name in ((limit, "limit"), (offset, "offset")):
        if clause is not None:
            value = corelink.limit_value(clause)
            if value is None:
                return None
            recording = getattr(recording, name)(value)
    return recording if type(recording) is Select else None


def _node_of(element: Any) -> Node | None:
    """Return the attribute, or what was made of attributes, whose expression *element* is, or None."""
    notes = corelink.notes_on(element)
    mapper = notes.get(corelink.ATTRIBUTE)
    if mapper is None:
        return origin_of(element)
    attribute: Any = getattr(mapper.class_, notes["proxy_key"], None)
    return attribute if isinstance(attribute, Node) and attribute.shape.arg is element else None


def _has_gap(nodes: list[Node | None]) -> bool:
    for node in nodes:  # `None in nodes` would ask Node.__eq__, a generator costs more than all the rest
        if node is None:
            return True
    return False
