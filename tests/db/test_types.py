"""Every Core type with a Python-side conversion comes back as it went in, on every database."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import uuid

import pytest
import sqlalchemy as sa

from sojourn import select
from sojourn.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    """The base of the rows below."""


class Mood(enum.Enum):
    """A Python enum."""

    GOOD = "g"
    BAD = "b"


class Celsius:
    """A value object that only a TypeDecorator can store."""

    def __init__(self, degrees):
        self.degrees = degrees

    def __eq__(self, other):
        return isinstance(other, Celsius) and other.degrees == self.degrees

    def __hash__(self):
        return hash(self.degrees)

    def __repr__(self):
        return f"Celsius({self.degrees})"


class CelsiusType(sa.types.TypeDecorator):
    """Stores Celsius as an integer."""

    impl = sa.Integer
    cache_ok = True

    def process_bind_param(self, value, dialect):
        return None if value is None else value.degrees

    def process_result_value(self, value, dialect):
        return None if value is None else Celsius(value)


UTC = dt.UTC
UUID = uuid.UUID("12345678-1234-5678-1234-567812345678")
CASES = {
    "integer": (sa.Integer, -7),
    "big": (sa.BigInteger, 2**53),
    "small": (sa.SmallInteger, 12),
    "text": (sa.Text, "ä'\"\\%s$1:x"),
    "string": (sa.String(40), "line\nbreak"),
    "unicode": (sa.Unicode(40), "漢字"),
    "floating": (sa.Float, 1.5),
    "double": (sa.Double, 0.1),
    "numeric": (sa.Numeric(12, 3), decimal.Decimal("123456.789")),
    "boolean": (sa.Boolean, True),
    "date": (sa.Date, dt.date(2024, 2, 29)),
    "time": (sa.Time, dt.time(23, 59, 58)),
    "datetime": (sa.DateTime, dt.datetime(2024, 2, 29, 12, 30, 15)),
    "interval": (sa.Interval, dt.timedelta(days=2, seconds=5)),
    "binary": (sa.LargeBinary, b"\x00\xff\x01"),
    "json": (sa.JSON, {"a": [1, None, {"b": "ü"}]}),
    "enum": (sa.Enum(Mood), Mood.BAD),
    "words": (sa.Enum("x", "y", name="words_kind"), "y"),
    "uuid": (sa.Uuid, UUID),
    "uuid_text": (sa.Uuid(as_uuid=False), str(UUID)),
    "pickled": (sa.PickleType, {"set": {1, 2}}),
    "decorated": (CelsiusType, Celsius(21)),
}


class Thing(Base):
    """A row with a column of each type."""

    __tablename__ = "thing"

    id: Mapped[int] = mapped_column(primary_key=True)

    locals().update({name: mapped_column(kind, nullable=True) for name, (kind, _) in CASES.items()})


class ByUuid(Base):
    """A row whose key has a Python-side conversion."""

    __tablename__ = "by_uuid"

    id: Mapped[uuid.UUID] = mapped_column(sa.Uuid, primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(20))


@pytest.fixture
def session(db):
    """A session on an empty table of things."""
    engine = db.create_engine()
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        yield session
    Base.metadata.drop_all(engine)


@pytest.mark.parametrize("count", [1, 3, 60])
def test_values_come_back_as_they_went_in(session, count):
    """Each type round-trips, whichever insert technique the number of rows selects."""
    things = [Thing(**{name: value for name, (_, value) in CASES.items()}) for _ in range(count)]
    session.add_all(things)
    session.commit()
    session.expunge_all()

    for thing in session.scalars(select(Thing)):
        for name, (_, value) in CASES.items():
            found = getattr(thing, name)
            assert found == value, name
            assert type(found) is type(value), name


def test_nulls_stay_nulls(session):
    """A column that is not set is NULL and comes back as None."""
    session.add(Thing())
    session.add(Thing(json=None))
    session.commit()
    session.expunge_all()
    for thing in session.scalars(select(Thing)):
        assert [name for name in CASES if getattr(thing, name) is not None] == []


@pytest.mark.parametrize(
    "name", [name for name in CASES if name not in {"json", "pickled", "floating", "double"}]
)
def test_values_work_in_criteria_and_updates(session, name):
    """A value of each type finds its row, also through a plan made for another value, and can be changed."""
    _kind, value = CASES[name]
    session.add(Thing(**{name: value}))
    session.add(Thing())
    session.commit()
    attribute = getattr(Thing, name)
    found = session.scalars(select(Thing).where(attribute == value)).one()
    assert session.scalars(select(Thing).where(attribute.in_([value]))).one() is found
    assert session.scalars(select(Thing).where(attribute.is_(None))).one() is not found
    setattr(found, name, None)
    session.commit()
    assert getattr(found, name) is None
    setattr(found, name, value)
    session.commit()
    assert getattr(found, name) == value


def test_a_converted_key_is_one_identity(session):
    """A UUID key finds its entity in the identity map and in the database."""
    rows = [ByUuid(id=uuid.UUID(int=number), name=f"n{number}") for number in range(1, 40)]
    session.add_all(rows)
    session.commit()
    assert session.get(ByUuid, uuid.UUID(int=7)) is rows[6]
    session.expunge_all()
    assert session.get(ByUuid, uuid.UUID(int=7)).name == "n7"
    assert [row.name for row in session.get_many(ByUuid, [uuid.UUID(int=9), uuid.UUID(int=3)])] == [
        "n9",
        "n3",
    ]
    session.delete(session.get(ByUuid, uuid.UUID(int=3)))
    session.commit()
    assert session.get(ByUuid, uuid.UUID(int=3)) is None
