"""The same flush through async drivers: keys, types, changes, deletions (aiosqlite, asyncpg, psycopg)."""

from __future__ import annotations

import datetime
import decimal
import uuid

import pytest
import sqlalchemy as sa

from sojourn import errors, insert
from sojourn.ext.asyncio import AsyncSession
from tests.unitofwork.shop import Base, Colour, Counted, Pair, Stamped, Thing, Typed


@pytest.fixture
async def session(adb):
    """An async session on empty tables."""
    Base.metadata.create_all(adb.sync_engine())
    async with AsyncSession(adb.create_engine(), expire_on_commit=False) as session:
        yield session


def stored(adb, entity):
    """Return the table's rows, by key, through another connection."""
    table = entity.__table__
    with adb.sync_engine().connect() as connection:
        return {row[0]: row for row in connection.execute(sa.select(table))}


@pytest.mark.parametrize("count", [1, 2, 16, 430])
async def test_insert_change_delete(session, adb, count):
    """Keys come back to their entities; changes and deletions find their rows."""
    things = [Thing(name=f"n{n}", rank=n) for n in range(count)]
    session.add_all(things)
    await session.commit()
    rows = stored(adb, Thing)
    assert [rows[t.id].name for t in things] == [t.name for t in things]
    for thing in things:
        thing.name += "!"
    await session.commit()
    rows = stored(adb, Thing)
    assert [rows[t.id].name for t in things] == [t.name for t in things]
    for thing in things[1:]:
        await session.delete(thing)
    await session.commit()
    assert set(stored(adb, Thing)) == {things[0].id}


@pytest.mark.parametrize("count", [1, 3, 70])
async def test_types_and_defaults(session, adb, count):
    """Types that convert and values the database makes come back right."""
    typed = [
        Typed(
            day=datetime.date(2020, 1, 1),
            at=datetime.datetime(2020, 1, 1, 2, 3),
            price=decimal.Decimal("1.25"),
            weight=n / 8,
            flag=True,
            colour=Colour.BLUE,
            data={"n": n},
            blob=b"\x00\xff",
            guid=uuid.UUID(int=n),
            text="ä%s$1?",
        )
        for n in range(count)
    ]  # fmt: skip
    stamped = [Stamped(name=f"n{n}") for n in range(count)]
    session.add_all([*typed, *stamped])
    await session.commit()
    assert {(s.fixed, s.expressed, s.served) for s in stamped} == {("fixed", "sql", "served")}
    assert [s.shout for s in stamped] == [s.name.upper() for s in stamped]
    columns = [c.key for c in Typed.__table__.c]
    before = [[getattr(e, name) for name in columns] for e in typed]
    for entity in typed:
        await session.refresh(entity)
    assert [[getattr(e, name) for name in columns] for e in typed] == before


async def test_versions_and_composite_keys(session, adb):
    """Versions are checked and counted, composite keys found."""
    counted = [Counted(name="a") for _ in range(4)]
    pairs = [Pair(left=n, right="r", name="a") for n in range(4)]
    session.add_all([*counted, *pairs])
    await session.commit()
    for entity in (*counted, *pairs):
        entity.name = "b"
    await session.commit()
    assert {row.version for row in stored(adb, Counted).values()} == {2}
    assert {row.name for row in stored(adb, Pair).values()} == {"b"}
    with adb.sync_engine().begin() as connection:
        connection.execute(
            sa.update(Counted.__table__).where(Counted.__table__.c.id == counted[1].id).values(version=7)
        )
    for entity in counted:
        entity.name = "c"
    with pytest.raises(errors.StaleDataError, match=f"in another version: Counted {counted[1].id}"):
        await session.flush()


async def test_rows_as_dictionaries(session, adb):
    """Bulk rows go the same way."""
    await session.execute(insert(Thing), [{"name": f"n{n}"} for n in range(200)])
    await session.commit()
    assert {row.name for row in stored(adb, Thing).values()} == {f"n{n}" for n in range(200)}
