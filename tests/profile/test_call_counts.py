"""Call counts: how many Python functions each operation calls, so that a slow-down is seen at review.

Calls do not depend on the machine, so the numbers can be kept: call_counts.json holds them per kernel. A
change that lowers or has to raise them writes the file anew with `SOJOURN_WRITE_CALL_COUNTS=1`, and the diff
shows it.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sqlite3
import sys
from collections import Counter
from pathlib import Path

import pytest

import sojourn
from sojourn import Integer, String, create_engine, insert, select
from sojourn.kernel import COMPILED
from sojourn.orm import DeclarativeBase, Session, mapped_column

KEPT = Path(__file__).with_name("call_counts.json")
KERNEL = "compiled" if COMPILED else "python"
WRITE = "SOJOURN_WRITE_CALL_COUNTS" in os.environ
#: More than this times the kept count, and two calls, is a slow-down.
TOLERANCE = 1.05
ROWS = 100


class Base(DeclarativeBase):
    pass


class Person(Base):
    __tablename__ = "person"

    id = mapped_column(Integer, primary_key=True)
    name = mapped_column(String(40))
    age = mapped_column(Integer)


def count_calls(operation, *args):
    """Count the Python functions that `operation` calls, by name."""
    counts: Counter[str] = Counter()

    def note(frame, event, arg):
        if event == "call":
            code = frame.f_code
            counts[f"{Path(code.co_filename).parent.name}/{Path(code.co_filename).name}:{code.co_name}"] += 1

    enabled = gc.isenabled()
    gc.collect()
    gc.disable()  # a collection would run finalisers at any moment
    sys.setprofile(note)
    try:
        operation(*args)
    finally:
        sys.setprofile(None)
        if enabled:
            gc.enable()
    counts.pop(f"{Path(__file__).parent.name}/{Path(__file__).name}:{operation.__name__}", None)
    return counts


@pytest.fixture
def engine(tmp_path):
    file = tmp_path / "counts.db"
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode=wal")  # a reader must not stop the writer beside it
    engine = create_engine(f"sqlite:///{file}")
    # An earlier test may have listened to every engine; Core's mark of that stays on the class for good.
    engine._has_events = engine.dialect._has_events = False
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(Person(id=i, name=f"p{i}", age=i) for i in range(1, ROWS + 1))
        session.commit()
    yield engine
    engine.dispose()


def people(count):
    return [Person(name="new", age=i) for i in range(count)]


def construct(session):
    people(10)


def flush_10(session):
    session.add_all(people(10))
    session.flush()


def flush_100(session):
    session.add_all(people(100))
    session.flush()


def get_cold(session):
    session.get(Person, 7)


def get_hot(session):
    session.get(Person, 1)


def select_first(session):
    session.scalars(select(Person).where(Person.name == "p9")).first()


def query_first(session):
    session.query(Person).filter_by(name="p9").first()


def load_100(session):
    session.scalars(select(Person)).all()


def rows_100(session):
    session.execute(select(Person.id, Person.name)).all()


def request(session):
    with Session(session.bind) as other:
        other.get(Person, 5).age += 1
        other.commit()


def update_100(session):
    for person in session.scalars(select(Person)).all():
        person.age += 1
    session.commit()


def delete_10(session):
    for person in session.scalars(select(Person).limit(10)).all():
        session.delete(person)
    session.flush()


def savepoint(session):
    with session.begin_nested():
        session.add(Person(name="new", age=1))


def bulk_100(session):
    session.execute(insert(Person), [{"name": "new", "age": i} for i in range(100)])


OPERATIONS = (
    construct, flush_10, flush_100, get_cold, get_hot, select_first, query_first, load_100, rows_100, request,
    update_100, delete_10, savepoint, bulk_100,
)  # fmt: skip


def measure(engine, operation):
    """Count the calls of one operation once everything it needs is compiled and connected."""
    for _ in range(2):
        with Session(engine) as session:
            keep = session.get(Person, 1)
            counts = count_calls(operation, session)
            session.rollback()
        del keep
    return counts


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)
def test_no_operation_calls_more_functions_than_it_used_to(engine, operation):
    """Every operation stays within 5 % of the number of Python calls that was kept for this kernel."""
    counts = measure(engine, operation)
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    if WRITE:
        kept.setdefault(KERNEL, {})[operation.__name__] = counts.total()
        KEPT.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n")
    allowed = kept[KERNEL][operation.__name__]
    listing = "\n".join(f"{number:6} {name}" for name, number in counts.most_common(25))
    assert counts.total() <= allowed * TOLERANCE + 2, f"kept: {allowed}, now: {counts.total()}\n{listing}"


@pytest.mark.skipif(not COMPILED, reason="not applicable: the uncompiled kernel is Python functions")
@pytest.mark.parametrize(
    "operation", [load_100, flush_100, update_100], ids=lambda operation: operation.__name__
)
def test_the_compiled_kernel_calls_no_python_function_per_row(engine, operation):
    """A hundred rows cost fewer Python calls than rows: the loops over them are compiled."""
    counts = measure(engine, operation)
    busiest, number = counts.most_common(1)[0]
    assert number < ROWS, f"{busiest} is called {number} times for {ROWS} rows"


def test_the_counts_are_of_this_package():
    """The operations run sojourn, not something else of the same names."""
    assert sojourn.orm.Session is Session
