"""Every error's text as users read it: a change here is a change others will read.

The texts are in texts.json beside this file; SOJOURN_WRITE_TEXTS=1 writes them anew, for the review to judge.
The errors of mapping have theirs in tests/mapping/test_messages.py.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from sojourn import errors

TEXTS = Path(__file__).with_name("texts.json")
CAUSE = ValueError("no such thing")

#: error -> the arguments of an example
SAMPLES = {
    "BindMissing": ("age",),
    "BlockingCall": (),
    "BulkKey": ("User", "nam", 3, ["id", "name"]),
    "DetachedRead": ("User", "name"),
    "DriverMissing": ("The driver psycopg is not installed.", "pip install sojourn[postgresql]"),
    "FlushKeyMissing": ("User", "code"),
    "IdentityConflict": ("User", 7),
    "KeyArity": ("Item", 5, ["order_id", "line"]),
    "KeyIsNone": ("User", None, ["id"]),
    "KeysUnmatched": ("User", "the database skipped a row"),
    "NoBind": ("User",),
    "NotEvaluable": ("lower(users.name)",),
    "NotLoadedInAsync": ("User", "name"),
    "NotPersistent": ("User", "transient", "refresh"),
    "ObjectDeleted": ("User", 7),
    "OtherSession": ("User", "<Session 1>", "<Session 2>"),
    "ParameterRefused": ("SELECT 1", object, "INTEGER", CAUSE),
    "PendingRollback": (CAUSE,),
    "PoolClosed": ("The pool 'orders' is closed and lends no more connections.", "Create another engine."),
    "PoolDeadlock": (
        "MainThread holds every connection that there may be and asks for another.",
        "Give one back first.",
    ),
    "PoolTimeout": (
        "No connection became free in 30.0 s.",
        "Close sessions: with Session(engine) as session: ...",
    ),
    "SessionClosed": ("<Session>",),
    "SessionError": ("A transaction is already begun on this session.", "session.begin_nested()"),
    "SojournError": ("Something happened to User.", "Do this instead: ..."),
    "StaleData": ("The row of User with key 7 is gone.", "Load it anew: session.get(User, 7)"),
    "TooManyParameters": (70_000, 65_535),
    "TransactionState": ("This transaction is committed.", "session.begin()"),
    "UnflushedRows": ("users", 2),
    "UnknownAttribute": ("User", "nam", ["id", "name"]),
    "UnknownKeyword": ("User", "nam", ["id", "name"]),
    "UnmappedClass": (dict,),
    "UnmappedInstance": (int,),
    "ValueRefused": ("User", "age", "x", "INTEGER", CAUSE),
    "WrongStatement": ("select 1",),
}


def text_of(name):
    return str(getattr(errors, name)(*SAMPLES[name]))


@pytest.fixture(scope="module")
def texts():
    """The texts as reviewed."""
    if os.environ.get("SOJOURN_WRITE_TEXTS"):
        TEXTS.write_text(json.dumps({name: text_of(name) for name in SAMPLES}, indent=1) + "\n")
    return json.loads(TEXTS.read_text())


@pytest.mark.parametrize("name", SAMPLES)
def test_the_text_is_as_reviewed(texts, name):
    """Each message is what somebody read and found good."""
    assert text_of(name) == texts[name]


@pytest.mark.parametrize("name", [name for name in SAMPLES if name != "SojournError"])
def test_a_message_has_what_remedy_and_code(name):
    """A message says what happened, then what to do, then the stable code."""
    error = getattr(errors, name)
    lines = text_of(name).splitlines()
    assert len(lines) >= 3
    assert any(line.strip().startswith(f"[{error.number}]") for line in lines[2:])


def test_every_error_has_a_golden_text():
    """No error without an example, here or among those of mapping."""
    elsewhere = (Path(__file__).parents[1] / "mapping" / "test_messages.py").read_text()
    missing = [
        name
        for name in errors.__all__
        if isinstance(getattr(errors, name), type)
        and name not in SAMPLES
        and f'"{name}"' not in elsewhere
        and name not in {"MappingError", "StaleDataError"}
    ]
    assert missing == []


def test_no_two_errors_share_a_code():
    """A code names one error."""
    numbers = {}
    for name in errors.__all__:
        error = getattr(errors, name)
        if isinstance(error, type):
            assert numbers.setdefault(error.number, error) is error, name
