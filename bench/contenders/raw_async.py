"""aiosqlite and asyncpg by hand."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from bench.auditor import FastConnection
from bench.contenders.raw_postgresql import columns
from bench.contenders.raw_python import FOUR, PERSON_SQL, TYPED_SQL, WIDE_SQL, RawPython, flat, values_clause
from bench.contenders.raw_sqlite import _CHUNK, _INSERT

if TYPE_CHECKING:
    from collections.abc import Sequence


class RawAiosqlite(RawPython):
    """One connection; every call crosses to its thread and back, so there are few of them."""

    connection: Any = None

    def versions(self) -> str:
        import aiosqlite

        return f"aiosqlite {aiosqlite.__version__}"

    async def begin(self, given: Any) -> Any:
        """Connect once."""
        import aiosqlite

        if self.connection is None:
            self.connection = await aiosqlite.connect(
                self.place["file"], isolation_level=None, factory=FastConnection
            )
        return given

    before_b_insert = before_e_load5 = before_e_load20 = before_e_typed = before_f_rows = begin
    before_g_get = before_i_select = before_j_request = begin

    async def b_insert(self, given: list[dict[str, Any]]) -> Any:
        keys: list[int] = []
        await self.connection.execute("BEGIN")
        for start in range(0, len(given), _CHUNK):
            part = given[start : start + _CHUNK]
            text = _INSERT + values_clause("?", 4, len(part)) + " RETURNING id"
            keys += sorted([key for (key,) in await self.connection.execute_fetchall(text, flat(part, FOUR))])
        await self.connection.execute("COMMIT")
        return keys

    async def e_load5(self, given: None) -> Any:
        return await self.connection.execute_fetchall(PERSON_SQL)

    f_rows = e_load5

    async def e_load20(self, given: None) -> Any:
        return await self.connection.execute_fetchall(WIDE_SQL)

    async def e_typed(self, given: None) -> Any:
        date, stamp, loads = dt.date.fromisoformat, dt.datetime.fromisoformat, json.loads
        return [
            (key, date(born), stamp(seen), Decimal(f"{balance:.2f}"), active == 1, loads(settings))
            for key, born, seen, balance, active, settings in await self.connection.execute_fetchall(
                TYPED_SQL
            )
        ]

    async def g_get(self, given: list[int]) -> Any:
        fetch, text = self.connection.execute_fetchall, PERSON_SQL + " WHERE id = ?"
        return [(await fetch(text, (key,)))[0] for key in given]

    async def i_select(self, given: list[str]) -> Any:
        fetch, text = self.connection.execute_fetchall, PERSON_SQL + " WHERE name = ?"
        return [(await fetch(text, (name,)))[0] for name in given]

    async def j_request(self, given: list[int]) -> Any:
        execute, fetch = self.connection.execute, self.connection.execute_fetchall
        for key in given:
            await execute("BEGIN")
            row = (await fetch("SELECT id, name, email, age, city FROM member WHERE id = ?", (key,)))[0]
            await execute("UPDATE member SET age = ? WHERE id = ?", (row[3] + 1, key))
            await execute("COMMIT")

    async def close(self) -> None:
        if self.connection is not None:
            await self.connection.close()


class RawAsyncpg(RawPython):
    """One connection; asyncpg prepares and keeps each statement by itself."""

    connection: Any = None

    def versions(self) -> str:
        import asyncpg

        return f"asyncpg {asyncpg.__version__}"

    async def begin(self, given: Any) -> Any:
        """Connect once."""
        import asyncpg

        if self.connection is None:
            at = self.place
            self.connection = await asyncpg.connect(
                host=at["host"],
                port=at["port"],
                user=at["user"],
                password=at["password"] or None,
                database=at["name"],
            )
        return given

    before_b_insert = before_e_load5 = before_e_load20 = before_e_typed = before_f_rows = begin
    before_g_get = before_i_select = before_j_request = begin

    async def b_insert(self, given: list[dict[str, Any]]) -> Any:
        text = (
            "INSERT INTO guest (name, email, age, city) SELECT a, b, c, d"
            " FROM unnest($1::text[], $2::text[], $3::int[], $4::text[]) WITH ORDINALITY AS v(a, b, c, d, n)"
            " ORDER BY n RETURNING id"
        )
        keys: list[int] = []
        async with self.connection.transaction():
            for start in range(0, len(given), 1000):
                part = columns(given[start : start + 1000], FOUR)
                keys += sorted([record[0] for record in await self.connection.fetch(text, *part)])
        return keys

    async def e_load5(self, given: None) -> Any:
        return await self.connection.fetch(PERSON_SQL)

    f_rows = e_load5

    async def e_load20(self, given: None) -> Any:
        return await self.connection.fetch(WIDE_SQL)

    async def e_typed(self, given: None) -> Any:
        loads = json.loads
        return [
            (key, born, seen, balance, active, loads(settings))
            for key, born, seen, balance, active, settings in await self.connection.fetch(TYPED_SQL)
        ]

    async def g_get(self, given: list[int]) -> Any:
        fetchrow, text = self.connection.fetchrow, PERSON_SQL + " WHERE id = $1"
        return [await fetchrow(text, key) for key in given]

    async def i_select(self, given: list[str]) -> Any:
        fetchrow, text = self.connection.fetchrow, PERSON_SQL + " WHERE name = $1"
        return [await fetchrow(text, name) for name in given]

    async def j_request(self, given: list[int]) -> Any:
        connection = self.connection
        for key in given:
            async with connection.transaction():
                row = await connection.fetchrow(
                    "SELECT id, name, email, age, city FROM member WHERE id = $1", key
                )
                await connection.execute("UPDATE member SET age = $1 WHERE id = $2", row[3] + 1, key)

    def values(self, row: Any, names: Sequence[str], new: bool = False) -> Sequence[Any]:
        return super().values(tuple(row), names)

    async def close(self) -> None:
        if self.connection is not None:
            await self.connection.close()
