"""Write docs/errors.md from src/sojourn/errors/, or with --check say whether it is current."""

from __future__ import annotations

import argparse
import ast
import inspect
import sys
import textwrap
from pathlib import Path

from sojourn import errors

PAGE = Path(__file__).resolve().parents[1] / "docs" / "errors.md"
HEAD = """# Errors

Every error of sojourn says what happened to which thing, then the remedy as code to type, then its
number. The numbers are stable; the classes are importable from `sojourn.exc`, and each is also a
subclass of the SQLAlchemy or built-in class named here, so that code which catches those keeps
working. Facts are attributes of the error, so that no program needs to read its text.

This page is written by `make format` from the classes in `src/sojourn/errors/`; edit those.
"""
AREAS = {
    "SJ0": "The base",
    "SJ1": "Mapping",
    "SJ2": "Attributes and loading",
    "SJ3": "Session",
    "SJ4": "Flush",
    "SJ5": "Engine, pool and drivers",
    "SJ6": "Statements",
    "SJ7": "Watchers",
    "SJ8": "Frameworks and tools",
}


def find_errors() -> list[type[errors.SojournError]]:
    """Return every error class once, by number."""
    found = {thing for thing in vars(errors).values() if errors.is_error(thing)}
    return sorted(found, key=lambda error: (error.number, error.__name__))


def also(error: type[errors.SojournError]) -> str:
    """Return the foreign classes that *error* is one of, as code catches them."""
    foreign = [
        base
        for base in error.__mro__[1:]
        if not errors.is_error(base) and base.__module__ in {"sqlalchemy.exc", "builtins"}
    ]
    nearest = [base for base in foreign if not any(base in other.__mro__[1:] for other in foreign)]
    return ", ".join(f"`{base.__module__}.{base.__name__}`".replace("builtins.", "") for base in nearest)


def find_facts(error: type[errors.SojournError]) -> list[str]:
    """Return the attributes that the error's own `__init__` sets, in order."""
    if "__init__" not in vars(error) or error is errors.SojournError:
        return []
    tree = ast.parse(textwrap.dedent(inspect.getsource(error.__init__)))
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    stores = [node for node in attributes if isinstance(node.ctx, ast.Store)]
    stores.sort(key=lambda node: (node.lineno, node.col_offset))
    return [name for name in dict.fromkeys(node.attr for node in stores) if name not in {"what", "remedy"}]


def write_page() -> str:
    """Return the text of the page."""
    lines = [HEAD]
    area = ""
    for error in find_errors():
        if AREAS[error.number[:3]] != area:
            area = AREAS[error.number[:3]]
            lines.append(f"## {area}\n")
        lines.append(f"### {error.number} {error.__name__}\n")
        lines.append(f"{inspect.getdoc(error)}\n")
        if facts := find_facts(error):
            lines.append(f"Facts: {', '.join(f'`{name}`' for name in facts)}.\n")
        lines.append(f"Caught also as {also(error)}.\n")
    return "\n".join(lines)


def main() -> None:
    """Write the page, or compare it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    text = write_page()
    if not parser.parse_args().check:
        PAGE.write_text(text)
    elif not PAGE.exists() or PAGE.read_text() != text:
        sys.exit(f"{PAGE.name} is not what the error classes say: make format")


if __name__ == "__main__":
    main()
