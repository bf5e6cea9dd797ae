"""The floors: imports point down, no circles, one sentence a file, no file outgrows a reading.

Type-only and function-local imports count as imports. Each check is a function over a tree, and is
itself tested on a tree with a planted fault: a check that cannot fail is worth nothing.
"""

from __future__ import annotations

import ast
import io
import tokenize

import pytest

from tests.architecture.source import PROJECT, Source, plant, read_tree

WORDS = "errors symbols _cython sources"
BELOW_SESSION = f"{WORDS} corelink kernel flow pooling statements plans engine mapping loading unitofwork"
PUBLIC = f"{BELOW_SESSION} session"

#: room -> the rooms it may import, bottom to top.
MAY_IMPORT = {
    "errors": "",
    "symbols": "",
    "corelink": "errors",
    "kernel": WORDS,
    "flow": f"{WORDS} kernel",  # for `drive` alone, which is compiled
    "_cython": "",
    "sources": "",
    "pooling": WORDS,
    "statements": f"{WORDS} corelink flow kernel",
    "plans": f"{WORDS} corelink flow kernel statements",
    "engine": f"{WORDS} corelink flow kernel pooling statements plans",
    "mapping": f"{WORDS} corelink kernel statements",
    "loading": f"{WORDS} corelink kernel flow statements plans mapping",
    "unitofwork": f"{WORDS} corelink kernel flow statements plans mapping",
    "session": BELOW_SESSION,
    # watchers
    "guards": PUBLIC,
    "lint": PUBLIC,
    "audit": PUBLIC,
    "observe": PUBLIC,
    "testing": PUBLIC,
    # doors
    "web": f"{PUBLIC} guards lint audit observe testing",
    "cli": f"{PUBLIC} guards lint audit observe testing",
    "shim": f"{PUBLIC} guards lint audit observe testing",
}
#: Thin re-exports for users; they may import everything, and nothing inside imports them.
FACADES = {"__init__", "orm", "ext", "exc", "event", "pool"}
#: Rooms that know nothing of SQLAlchemy.
KNOWS_NO_CORE = {"kernel", "flow", "pooling", "symbols", "events"}
#: Rooms that may see public names only.
WATCHERS = {"guards", "lint", "audit", "observe", "testing", "web", "cli", "shim"}
MAY_AWAIT = {
    "flow.py",
    "pooling/async_pool.py",
    "pooling/handling.py",
    "pooling/loop_pool.py",
    "engine/async_connection.py",
    "engine/async_core.py",
    "engine/async_engine.py",
    "engine/async_events.py",
    "engine/async_handling.py",
    "engine/async_opening.py",
    "engine/bridge.py",
    "engine/async_result.py",
    "engine/engine.py",
    "engine/native_aiosqlite.py",
    "engine/native_asyncpg.py",
    "engine/native_psycopg.py",
    "engine/natives.py",
    "session/async_scoping.py",
    "session/async_session.py",
    "session/blocking.py",
    "session/scoping.py",
    "web/asgi.py",
    "testing.py",
}
MAY_THREAD = {
    "engine/pools.py": "a connection per thread",
    "pooling/guard.py": "the lock of a pool",
    "pooling/keeper.py": "the one thread that minds the time",
    "pooling/pool.py": "waiters on thread",
    "pooling/scaling.py": "a resize may close connections, for which the keeper does not wait",
    "session/scoping.py": "a scope per thread",
    "guards.py": "who owns a session",
    "plans.py": "the plan cache is shared by threads",
}
LONGEST = 600


def find_climbs(tree: list[Source]) -> list[str]:
    """Return the imports that do not point down, and rooms that have no floor."""
    wrong = []
    for source in tree:
        if source.room in FACADES:
            continue
        if source.room not in MAY_IMPORT:
            wrong.append(f"{source.place}: {source.room!r} has no floor; give it one in MAY_IMPORT")
            continue
        for module in source.imports():
            top, _, rest = module.partition(".")
            if top == "sqlalchemy" and source.room in KNOWS_NO_CORE:
                wrong.append(f"{source.place}: {source.room} may not know SQLAlchemy Core ({module})")
            if top != "sojourn":
                continue
            room = rest.split(".")[0]
            if room != source.room and room not in MAY_IMPORT[source.room].split():
                wrong.append(f"{source.place}: {source.room} may not import {module}")
            elif source.room in WATCHERS and any(part.startswith("_") for part in rest.split(".")):
                wrong.append(f"{source.place}: a watcher sees public names only, not {module}")
    return wrong


def find_orm(tree: list[Source]) -> list[str]:
    """Return the imports of `sqlalchemy.orm`, `sqlalchemy.ext` (except compiler) and greenlet."""
    return [
        f"{source.place}: imports {module}"
        for source in tree
        for module in source.imports()
        if module.split(".")[0] == "greenlet"
        or (f"{module}.".startswith(("sqlalchemy.orm.", "sqlalchemy.ext.")) and "ext.compiler" not in module)
    ]


def find_circle(tree: list[Source]) -> list[str]:
    """Return the files that import one another, directly or through others.

    A file and the `__init__` of a package around it do not count: Python runs that one first anyway.
    """
    files = {source.module for source in tree}
    edges = {}
    for source in tree:
        named = {module if module in files else module.rpartition(".")[0] for module in source.imports()}
        around = {module for module in named if f"{source.module}.".startswith(f"{module}.")}
        edges[source.module] = (named & files) - around
    while leaves := {name for name, targets in edges.items() if not targets}:
        edges = {name: targets - leaves for name, targets in edges.items() if name not in leaves}
    while edges.keys() - (wanted := set().union(*edges.values())):  # peel what merely imports a circle
        edges = {name: targets for name, targets in edges.items() if name in wanted}
    return sorted(edges)


def find_awaits(tree: list[Source]) -> list[str]:
    """Return the files with an `async def` that are not named in MAY_AWAIT."""
    return sorted(
        {
            source.place
            for source in tree
            for node in ast.walk(source.tree)
            if isinstance(node, ast.AsyncFunctionDef) and source.place not in MAY_AWAIT
        }
    )


def find_threads(tree: list[Source]) -> list[str]:
    """Return the files that import `threading` or `_thread` and are not named in MAY_THREAD."""
    return [
        source.place
        for source in tree
        if source.place not in MAY_THREAD
        and any(module.split(".")[0] in {"threading", "_thread"} for module in source.imports())
    ]


def find_mute(tree: list[Source]) -> list[str]:
    """Return the files that say something, but not first, in one sentence, what they are for."""
    return [
        source.place
        for source in tree
        if source.text.strip()
        and not (ast.get_docstring(source.tree) or "").split("\n\n")[0].rstrip().endswith((".", ":", "?"))
    ]


def find_long(tree: list[Source]) -> list[str]:
    """Return the files of more than 600 lines."""
    return [f"{source.place}: {n} lines" for source in tree if (n := len(source.text.splitlines())) > LONGEST]


def find_bare_yields(tree: list[Source]) -> list[str]:
    """Return the bare `yield`s in functions that return a Flow, outside flow.py, where the leaves are."""
    return [
        f"{source.place}:{node.lineno}: a bare yield in {function.name}; use 'yield from' a leaf of flow.py"
        for source in tree
        if source.place != "flow.py"
        for function in ast.walk(source.tree)
        if isinstance(function, ast.FunctionDef)
        and function.returns
        and ast.unparse(function.returns).startswith("Flow[")
        for node in ast.walk(function)
        if isinstance(node, ast.Yield)
    ]


def find_unreasoned(tree: list[Source]) -> list[str]:
    """Return the `noqa` and `type: ignore` comments that switch off more than one named rule."""
    blanket = []
    for source in tree:
        for token in tokenize.generate_tokens(io.StringIO(source.text).readline):
            text = token.string.replace(" ", "")
            if token.type == tokenize.COMMENT and (
                ("#noqa" in text and "#noqa:" not in text)
                or ("type:ignore" in text and "type:ignore[" not in text)
            ):
                blanket.append(f"{source.place}:{token.start[0]}: {token.string}")
    return blanket


CHECKS = [
    find_climbs,
    find_orm,
    find_circle,
    find_awaits,
    find_threads,
    find_mute,
    find_long,
    find_bare_yields,
    find_unreasoned,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_source_keeps_the_rule(check):
    """No file of the package breaks the rule of the check."""
    found = check(read_tree())

    assert not found, "\n".join(found)


@pytest.mark.parametrize("folder", ["tests", "bench", "demo", "scripts"])
@pytest.mark.parametrize("check", [find_long, find_mute], ids=lambda check: check.__name__)
def test_what_surrounds_the_source_keeps_it_too(check, folder):
    """Tests, benchmarks, demo and scripts are as readable as the package."""
    found = check(read_tree(PROJECT / folder))

    assert not found, "\n".join(found)


DOC = '"""It says what it is for."""\n'
FAULTS = [
    (find_climbs, {"kernel/state": f"{DOC}from sojourn.session.core import SessionCore"}),
    (find_climbs, {"kernel/state": f"{DOC}def f():\n    from sojourn import loading"}),
    (find_climbs, {"pooling/core": f"{DOC}import sqlalchemy.exc"}),
    (find_climbs, {"pooling/core": f"{DOC}from ..kernel import state"}),
    (find_climbs, {"mapping/mapper": f"{DOC}if TYPE_CHECKING:\n    from sojourn.engine import engine"}),
    (find_climbs, {"session/core": f"{DOC}from sojourn.orm import Session"}),
    (find_climbs, {"kernel/state": f"{DOC}from cython.cimports.sojourn.plans import x"}),
    (find_climbs, {"surprise": DOC}),
    (find_climbs, {"lint": f"{DOC}from sojourn.session.core import _secret"}),
    (find_orm, {"orm": f"{DOC}from sqlalchemy import orm"}),
    (find_orm, {"mapping/mapper": f"{DOC}from sqlalchemy.ext.hybrid import hybrid_property"}),
    (find_orm, {"flow": f"{DOC}import greenlet"}),
    (
        find_circle,
        {
            "mapping/mapper": f"{DOC}from sojourn.mapping import joins",
            "mapping/joins": f"{DOC}def f():\n    from sojourn.mapping.mapper import Mapper",
        },
    ),
    (
        find_circle,
        {
            "pooling/__init__": f"{DOC}from sojourn.flow import x",
            "flow": f"{DOC}from sojourn.symbols import y",
            "symbols": f"{DOC}from sojourn import pooling",
        },
    ),
    (find_awaits, {"session/core": f"{DOC}class A:\n    async def f(self): pass"}),
    (find_threads, {"session/core": f"{DOC}from threading import Lock"}),
    (find_mute, {"flow": "x = 1"}),
    (find_mute, {"flow": '"""no sentence"""'}),
    (find_long, {"flow": DOC + "\n" * 600}),
    (find_bare_yields, {"session/core": f"{DOC}def get_flow(self) -> Flow[int]:\n    yield 1"}),
    (find_unreasoned, {"flow": f"{DOC}import x  # no" + "qa"}),
    (find_unreasoned, {"flow": f"{DOC}import x  # type: " + "ignore"}),
]


@pytest.mark.parametrize(("check", "files"), FAULTS, ids=lambda value: getattr(value, "__name__", None))
def test_a_planted_fault_is_found(check, files, tmp_path):
    """Each check finds the fault it is there for."""
    assert check(plant(tmp_path, files))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_clean_tree_passes(check, tmp_path):
    """No check objects to a tree that keeps the rules."""
    tree = plant(
        tmp_path,
        {
            "errors": f"{DOC}import sqlalchemy.exc",
            "flow": f"{DOC}from sojourn.kernel.drive import d\nasync def f(): pass",
            "kernel/drive": f"{DOC}from . import state",
            "kernel/state": f"{DOC}from cython.cimports.sojourn.kernel import record",
            "kernel/record": DOC,
            "pooling/__init__": f"{DOC}from sojourn.pooling.pool import Pool",
            "pooling/pool": f"{DOC}import threading\nfrom sojourn import errors",
            "session/core": f"{DOC}def get_flow(self) -> Flow[int]:\n    return (yield from ask(1))",
        },
    )

    assert not check(tree)
