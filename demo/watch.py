"""Show the statements as the database itself sees them: SQLite's own trace, so nothing takes another way."""

from __future__ import annotations

import re
import sqlite3
import sys
import threading
from typing import Any

from rich.console import Console

console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
_LITERAL = re.compile(r"'(?:[^']|'')*'|(?<![\w.])\d+(?:\.\d+)?(?![\w.])")
_lock = threading.Lock()
_seen: list[tuple[str, str, int]] = []  # text as sent, its shape, how often in a row


class Watched(sqlite3.Connection):
    """A SQLite connection that tells what it is asked."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.set_trace_callback(_note)


def _note(text: str) -> None:
    """Remember a statement; the trace has the values filled in."""
    if text.startswith("PRAGMA"):
        return
    text = " ".join(text.split())
    shape = _LITERAL.sub("?", text)
    with _lock:
        if _seen and _seen[-1][1] == shape:
            _seen[-1] = (_seen[-1][0], shape, _seen[-1][2] + 1)
        else:
            _seen.append((text, shape, 1))


def show_statements() -> None:
    """Print what was sent since the last call."""
    with _lock:
        sent, _seen[:] = list(_seen), []
    for text, shape, times in sent:
        line = shape if times > 1 else text
        line = line if len(line) <= 150 else f"{line[:110]} ... {line[-30:]}"
        console.print(
            f"     [dim]sent[/dim]  [cyan]{_escape(line)}[/cyan]"
            + (f"  [bold]x {times}[/bold]" if times > 1 else "")
        )


def say(text: str) -> None:
    """Print what has just happened."""
    console.print(f"  {text}")


def chapter(title: str) -> None:
    """Begin a part of the story."""
    console.print()
    console.rule(f"[bold]{title}[/bold]", align="left", style="green")


def _escape(text: str) -> str:
    return text.replace("[", r"\[")
