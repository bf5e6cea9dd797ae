"""Private names of Core: none outside corelink/, and none there without a contract test."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from functools import cache
from pathlib import Path

from sojourn import corelink
from tests.architecture.source import Source, plant, read_tree

CONTRACTS = sorted(Path(__file__).parent.glob("test_corelink*.py"))


def public_names() -> set[str]:
    """Return the names that the files of corelink/ define for others."""
    files = Path(corelink.__file__).parent.glob("*.py")
    body = [node for path in files for node in ast.parse(path.read_text()).body]
    names = {node.name for node in body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    for node in body:
        if isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return {name for name in names if not name.startswith("_")}


def names_under_test(text: str) -> set[str]:
    """Return the `corelink.NAME`s that occur in the test functions of *text*."""
    return {
        node.attr
        for function in ast.parse(text).body
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)) and function.name.startswith("test_")
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "corelink"
    }


def test_every_name_of_corelink_has_a_contract_test():
    """A name added to corelink/ brings its test to a test_corelink*.py."""
    missing = public_names() - set().union(*(names_under_test(path.read_text()) for path in CONTRACTS))

    assert not missing, f"no contract test for {sorted(missing)}"


def test_every_name_of_corelink_is_used():
    """A name that nothing uses any more leaves corelink/, and its test with it."""
    used = {
        name
        for source in read_tree()
        for node in ast.walk(source.tree)
        for name in (
            [node.attr]
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "corelink"
            else [alias.name for alias in node.names]
            if isinstance(node, ast.ImportFrom) and (node.module or "").endswith("corelink")
            else [node.id]
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and source.room == "corelink"
            else []
        )
    }

    assert not public_names() - used, f"nothing uses {sorted(public_names() - used)}"


@cache
def core_private_names() -> frozenset[str]:
    """Return the private names that Core's modules and classes define, dunders left out."""
    names: set[str] = set()
    for package in ("sqlalchemy.sql", "sqlalchemy.engine", "sqlalchemy.pool"):
        parent = importlib.import_module(package)
        for info in pkgutil.iter_modules(parent.__path__, f"{package}."):
            if info.name.rpartition(".")[2].startswith("_"):
                continue
            module = importlib.import_module(info.name)
            names.update(vars(module))
            for value in vars(module).values():
                if isinstance(value, type) and value.__module__.startswith("sqlalchemy."):
                    names.update(vars(value), getattr(value, "__annotations__", {}))
    return frozenset(n for n in names if n.startswith("_") and not n.startswith("__") and n != "_")


#: Public in spite of the underscore (documented), ours, or of a driver (`_conn`).
NOT_PRIVATE = {
    "_conn",
    "_asdict",
    "_fields",
    "_mapping",
    "_t",
    "_tuple",
    "_sa_instance_state",
    "_replace",
    "_make",
}


def own_names(tree: list[Source]) -> set[str]:
    """Return the private names that the tree itself defines: functions, classes, assigned ones."""
    names: set[str] = set()
    for source in tree:
        for node in ast.walk(source.tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                names.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                names.add(node.attr)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
    return names


def find_private_core(tree: list[Source]) -> list[str]:
    """Return the places outside corelink/ where a private name of Core is touched, as far as text tells."""
    private = core_private_names() - NOT_PRIVATE - own_names(tree)
    wrong = []
    for source in tree:
        if source.room == "corelink":
            continue
        for module in source.imports():
            if module.startswith("sqlalchemy.") and any(part.startswith("_") for part in module.split(".")):
                wrong.append(f"{source.place}: imports {module}")
        for node in ast.walk(source.tree):
            name = None
            if isinstance(node, ast.Attribute):
                name = node.attr
            elif isinstance(node, ast.Call) and ast.unparse(node.func) in {"getattr", "setattr", "hasattr"}:
                name = getattr(node.args[1], "value", None)
            if name in private:
                wrong.append(f"{source.place}:{node.lineno}: {ast.unparse(node)} is private to SQLAlchemy")
    return wrong


def test_only_corelink_touches_private_names_of_core():
    """No other file reads, sets or imports an underscored name of SQLAlchemy."""
    found = find_private_core(read_tree())

    assert not found, "\n".join(found)


DOC = '"""It says what it is for."""\n'


def test_a_planted_private_name_is_found(tmp_path):
    """Reading, asking for and importing a private name are all found; corelink/ itself may."""
    tree = plant(
        tmp_path,
        {
            "corelink/statements": f"{DOC}x = element._annotate({{}})",
            "plans": f"{DOC}x = statement._generate_cache_key()",
            "mapping/mapper": f"{DOC}x = getattr(table, '_annotations', None)",
            "engine/engine": f"{DOC}from sqlalchemy.engine.result import _RowData",
            "session/core": f"{DOC}self._own = 1\nx = self._own\nrow._mapping",
        },
    )

    assert [line.partition(":")[0] for line in find_private_core(tree)] == [
        "engine/engine.py",
        "mapping/mapper.py",
        "plans.py",
    ]


def test_a_name_without_a_contract_test_is_found():
    """The meta test sees which names the tests of a text use."""
    assert names_under_test("def test_x():\n    corelink.annotate(1)\ndef helper():\n    corelink.other") == {
        "annotate"
    }
    assert {"annotate", "cache_key"} <= public_names()
