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
    asked: list[Any] = []
    for element in parts["_raw_columns"]:
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
    if "_where_criteria" in parts:
        criteria = [_node_of(element) for element in parts["_where_criteria"]]
        if _has_gap(criteria):
            return None
        recording = recording.where(*criteria)
    if "_order_by_clauses" in parts:
        clauses = [_node_of(clause) for clause in parts["_order_by_clauses"]]
        if _has_gap(clauses):
            return None
        recording = recording.order_by(*clauses)
    for name, add in (("_limit_clause", "limit"), ("_offset_clause", "offset")):
        if name in parts:
            value = corelink.limit_value(parts[name])
            if value is None:
                return None
            recording = getattr(recording, add)(value)
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
