"""The same small request in every way a program may send it, and what a lost connection looks like."""

from __future__ import annotations

from typing import Any

from sojourn import literal, select, text
from sojourn.orm import Session
from tests.serverside import WHO

ANSWER = text("SELECT 40 + 2")
#: The same as a statement of which it is known that it only reads.
QUESTION = select(literal(42))


def ask_engine(engine: Any) -> Any:
    """One request through the engine."""
    with engine.connect() as connection:
        return connection.execute(ANSWER).scalar_one()


def ask_session(engine: Any) -> Any:
    """One request through a session."""
    with Session(engine) as session:
        return session.execute(ANSWER).scalar_one()


def ask_raw(engine: Any) -> Any:
    """One request through the driver's own cursor."""
    connection = engine.raw_connection()
    try:
        cursor = connection.cursor()
        cursor.execute("SELECT 40 + 2")
        return cursor.fetchone()[0]
    finally:
        connection.close()


WAYS = {"engine": ask_engine, "session": ask_session, "raw": ask_raw}


def fill(engine: Any, number: int) -> set[int]:
    """Leave *number* idle connections in the pool, and return their numbers on the server."""
    lent = [engine.connect() for _ in range(number)]
    numbers = {each.execute(text(WHO[engine.dialect.name])).scalar_one() for each in lent}
    for each in lent:
        each.close()
    assert len(numbers) == number
    return numbers


async def ask_async(engine: Any) -> Any:
    """One request through an async engine."""
    async with engine.connect() as connection:
        return (await connection.execute(ANSWER)).scalar_one()


async def fill_async(engine: Any, number: int) -> set[int]:
    """Leave *number* idle connections in an async engine's pool, and return their numbers on the server."""
    lent = [await engine.connect() for _ in range(number)]
    numbers = {(await each.execute(text(WHO[engine.dialect.name]))).scalar_one() for each in lent}
    for each in lent:
        await each.close()
    assert len(numbers) == number
    return numbers


def causes(error: BaseException | None) -> list[BaseException]:
    """Return *error* and what it was raised from, outermost first."""
    chain = []
    while error is not None:
        chain.append(error)
        error = error.__cause__
    return chain
