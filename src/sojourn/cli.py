"""`sojourn doctor`: what runs here, and the longer story of an error by its code."""

from __future__ import annotations

import argparse
import importlib.metadata
import inspect
import sys
import textwrap

import sqlalchemy

from sojourn import errors, kernel

#: Driver packages one may have installed.
DRIVERS = ("psycopg", "psycopg2-binary", "psycopg2", "asyncpg", "aiosqlite", "mysqlclient", "PyMySQL")


def explain(code: str) -> str:
    """Return what the error of this code means; raise KeyError for a code that no error has."""
    for error in vars(errors).values():
        if errors.is_error(error) and error.number == code.upper():
            story = textwrap.fill(inspect.getdoc(error) or "", 90)
            bases = [base for base in error.__mro__ if base.__module__ in {"sqlalchemy.exc", "builtins"}]
            caught = ", ".join(f"{base.__module__}.{base.__name__}" for base in bases[:2])
            return f"{error.number} {error.__name__}\n\n{story}\n\nCaught also as {caught}."
    raise KeyError(code)


def describe() -> str:
    """Return what runs here: versions, which kernel, which drivers."""
    installed = []
    for name in DRIVERS:
        try:
            installed.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return "\n".join(
        [
            f"Python      {sys.version.split()[0]}",
            f"SQLAlchemy  {sqlalchemy.__version__} (Core)",
            f"kernel      {'compiled' if kernel.COMPILED else 'plain Python'}",
            f"drivers     sqlite3{''.join(', ' + each for each in installed)}",
        ]
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(prog="sojourn", description="Look at sojourn from the command line.")
    commands = parser.add_subparsers(dest="command", required=True)
    doctor = commands.add_parser("doctor", help="say what runs here, or explain an error")
    doctor.add_argument("--explain", metavar="CODE", help="the code at the end of an error, such as SJ202")
    given = parser.parse_args(arguments)
    if given.explain is None:
        sys.stdout.write(describe() + "\n")
        return 0
    try:
        sys.stdout.write(explain(given.explain) + "\n")
    except KeyError:
        sys.stderr.write(f"No error has the code {given.explain!r}; docs/errors.md lists them.\n")
        return 1
    return 0
