"""A flow that is called but not yielded from never runs; find each such call."""

from __future__ import annotations

import ast

import pytest

from tests.architecture.source import Source, plant, read_tree


def flow_names(tree: list[Source]) -> set[str]:
    """Return the names of the functions that say `-> Flow[...]`."""
    return {
        node.name
        for source in tree
        for node in ast.walk(source.tree)
        if isinstance(node, ast.FunctionDef)
        and node.returns
        and ast.unparse(node.returns).startswith("Flow[")
    }


def find_dropped(tree: list[Source]) -> list[str]:
    """Return the calls of flows whose generator is thrown away."""
    flows = flow_names(tree)
    return [
        f"{source.place}:{node.lineno}: {ast.unparse(node)} is dropped; write 'yield from'"
        for source in tree
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and ast.unparse(node.value.func).rpartition(".")[2] in flows
    ]


def find_ambiguous(tree: list[Source]) -> list[str]:
    """Return the names that are a flow in one place and not in another: the check goes by name."""
    flows = flow_names(tree)
    return [
        f"{source.place}:{node.lineno}: {node.name} is a flow elsewhere; give one of them another name"
        for source in tree
        for node in ast.walk(source.tree)
        if isinstance(node, ast.FunctionDef)
        and node.name in flows
        and not (node.returns and ast.unparse(node.returns).startswith("Flow["))
    ]


@pytest.mark.parametrize("check", [find_dropped, find_ambiguous], ids=lambda check: check.__name__)
def test_no_flow_is_dropped(check):
    """Every call of a flow in the package is yielded from, driven or returned."""
    found = check(read_tree())

    assert not found, "\n".join(found)


FLOW = "def load_flow(self) -> Flow[int]:\n    return (yield from ask(1))\n"


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (find_dropped, "def f(core):\n    core.load_flow()"),
        (find_dropped, "load_flow(1)"),
        (find_ambiguous, "def load_flow() -> int:\n    return 1"),
    ],
)
def test_a_planted_fault_is_found(check, text, tmp_path):
    """A flow called as a statement, or sharing its name with a plain function, is found."""
    assert check(plant(tmp_path, {"session/core": FLOW, "session/other": text}))


def test_a_flow_in_use_is_no_fault(tmp_path):
    """A flow that is yielded from, driven or handed on passes."""
    text = "def f(core) -> Flow[int]:\n    yield from core.load_flow()\n    drive(core.load_flow(), 1)"
    tree = plant(tmp_path, {"session/core": FLOW, "session/other": text})

    assert not find_dropped(tree)
    assert not find_ambiguous(tree)
