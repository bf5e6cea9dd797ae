"""The recorder interns structure and carries literals beside it."""

from __future__ import annotations

import operator

import pytest

from sojourn.kernel import operations, record
from sojourn.kernel.record import Node, Shape, make_node, root, step


def test_a_step_is_found_again():
    """The same key leads from one shape to the same object; another key to another."""
    beginning = root("test")
    first = step(beginning, ("eq", int), operator.eq, None, (beginning,), 1)

    assert step(beginning, ("eq", int), operator.eq, None, (beginning,), 1) is first
    assert step(beginning, ("eq", str), operator.eq, None, (beginning,), 1) is not first
    assert (first.op, first.kids, first.literals) == (operator.eq, (beginning,), 1)


def test_forget_empties_the_roots_and_leaves_shapes_valid():
    """What was recorded before stays usable; new steps make new shapes."""
    beginning = root("test")
    first = step(beginning, "key", "op")
    record.forget()

    assert record.shape_count() == 0
    assert step(beginning, "key", "op") is not first
    assert first.op == "op"


def test_growth_is_bounded():
    """At the limit the next shape that grows children empties the roots."""
    beginning = root("test")
    step(beginning, "key", "op")
    record._count[0] = record.MAX_SHAPES
    step(Shape("other"), "key", "op")

    assert beginning.trans is None
    assert record.shape_count() == 1


def test_known_transitions_take_any_literal():
    """A transition recorded for a Python type serves every value of it, without a hook."""
    beginning = root("test")
    found = step(beginning, (operator.eq, int), operator.eq, None, (beginning,), 1)
    node = make_node(beginning, ())

    for value in (1, 2, 10**30):
        made = node == value
        assert made.shape is found
        assert made.params == (value,)


def test_lists_are_one_literal():
    """A list of one type is one literal, a tuple; its own type is not part of the shape."""
    beginning = root("test")
    found = step(beginning, (operations.in_, int), operations.in_, "list", (beginning,), 1)
    node = make_node(beginning, ("before",))

    for items in ([1, 2], (1, 2), range(1, 3)):
        made = node.in_(items)
        assert made.shape is found
        assert made.params == ("before", (1, 2))


def test_nodes_are_hashed_by_identity_and_compared_by_shape():
    """A node may be a dictionary key; only comparing two nodes has a truth value."""
    a, b = make_node(root("a"), ()), make_node(root("b"), ())
    for left in (a, b):
        for right in (a, b):
            step(left.shape, (operator.eq, right.shape), operator.eq, None, (left.shape, right.shape), 0)
    step(a.shape, (operator.eq, int), operator.eq, None, (a.shape,), 1)

    assert {a: 1, b: 2}[a] == 1
    assert a in [b, a]
    assert a not in [b, b]
    with pytest.raises(TypeError, match="Boolean value"):
        bool(a == 1)
    assert isinstance(a == 1, Node)
    assert Node.is_clause_element is False
