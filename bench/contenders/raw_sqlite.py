"""sqlite3 by hand, with the fastest safe technique for each workload."""

from __future__ import annotations

import datetime as dt
import json
import platform
import sqlite3
from decimal import Decimal
from typing import Any

from bench.auditor import FastConnection
from bench.contenders.raw_python import (
    FIVE,
    FOUR,
    PERSON_SQL,
    TYPED_SQL,
    WIDE_SQL,
    RawPython,
    flat,
    values_clause,
)

_INSERT = "INSERT INTO guest (name, email, age, city) VALUES "
_CHUNK = 249


class RawSqlite(RawPython):
    """One connection, one cursor kept."""

    def __init__(self, database: str, place: dict[str, Any]) -> None:
        super().__init__(database, place)
        self.connection = sqlite3.connect(place["file"], isolation_level=None, factory=FastConnection)
        self.cursor = self.connection.cursor()
        self.execute = self.cursor.execute

    def versions(self) -> str:
        return f"sqlite3 {sqlite3.sqlite_version}, Python {platform.python_version()}"

    def b_insert(self, given: list[dict[str, Any]]) -> Any:
        # RETURNING promises no order; new rowids grow, so sorted keys belong to the rows in turn.
        execute, keys = self.execute, []
        execute("BEGIN")
        if len(given) <= 15:
            keys = [execute(_INSERT + "(?, ?, ?, ?)", FOUR(row)).lastrowid for row in given]
        else:
            for start in range(0, len(given), _CHUNK):
                part = given[start : start + _CHUNK]
                text = _INSERT + values_clause("?", 4, len(part)) + " RETURNING id"
                keys += sorted([key for (key,) in execute(text, flat(part, FOUR))])
        execute("COMMIT")
        return keys

    def c_insert_keys(self, given: list[dict[str, Any]]) -> Any:
        self.execute("BEGIN")
        for start in range(0, len(given), 199):
            part = given[start : start + 199]
            text = "INSERT INTO guest (id, name, email, age, city) VALUES " + values_clause("?", 5, len(part))
            self.execute(text, flat(part, FIVE))
        self.execute("COMMIT")

    def d_bulk(self, given: list[dict[str, Any]]) -> Any:
        self.execute("BEGIN")
        for start in range(0, len(given), _CHUNK):
            part = given[start : start + _CHUNK]
            self.execute(_INSERT + values_clause("?", 4, len(part)), flat(part, FOUR))
        self.execute("COMMIT")

    def e_load5(self, given: None) -> Any:
        return self.execute(PERSON_SQL).fetchall()

    f_rows = e_load5

    def e_load20(self, given: None) -> Any:
        return self.execute(WIDE_SQL).fetchall()

    def e_typed(self, given: None) -> Any:
        date, stamp, loads = dt.date.fromisoformat, dt.datetime.fromisoformat, json.loads
        return [
            (key, date(born), stamp(seen), Decimal(f"{balance:.2f}"), active == 1, loads(settings))
            for key, born, seen, balance, active, settings in self.execute(TYPED_SQL)
        ]

    def g_get(self, given: list[int]) -> Any:
        execute, text = self.execute, PERSON_SQL + " WHERE id = ?"
        return [execute(text, (key,)).fetchone() for key in given]

    def i_select(self, given: list[str]) -> Any:
        execute, text = self.execute, PERSON_SQL + " WHERE name = ?"
        return [execute(text, (name,)).fetchone() for name in given]

    i_query = i_core = i_select

    def s_plan_hit(self, given: list[int]) -> Any:
        execute = self.execute
        return [execute("SELECT name FROM person WHERE id = ?", (key,)).fetchone()[0] for key in given]

    def j_request(self, given: list[int]) -> Any:
        execute = self.execute
        for key in given:
            execute("BEGIN")
            row = execute("SELECT id, name, email, age, city FROM member WHERE id = ?", (key,)).fetchone()
            execute("UPDATE member SET age = ? WHERE id = ?", (row[3] + 1, key))
            execute("COMMIT")

    def k_update(self, given: None) -> Any:
        execute = self.execute
        execute("BEGIN")
        rows = execute("SELECT id, name, email, age, city FROM member").fetchall()
        for start in range(0, len(rows), 500):
            part = rows[start : start + 500]
            params: list[int] = []
            for row in part:
                params += (row[0], row[3] + 1)
            text = f"UPDATE member SET age = v.column2 FROM (VALUES {values_clause('?', 2, len(part))}) v"
            if execute(text + " WHERE id = v.column1", params).rowcount != len(part):
                raise AssertionError("a row is gone")
        execute("COMMIT")

    def before_l_delete(self, given: int) -> Any:
        return [key for (key,) in self.execute("SELECT id FROM guest")]

    def l_delete(self, given: list[int]) -> Any:
        self.execute("BEGIN")
        for start in range(0, len(given), 500):
            part = given[start : start + 500]
            text = f"DELETE FROM guest WHERE id IN ({', '.join(['?'] * len(part))})"
            if self.execute(text, part).rowcount != len(part):
                raise AssertionError("a row is gone")
        self.execute("COMMIT")

    def p_savepoint(self, given: list[dict[str, Any]]) -> Any:
        execute = self.execute
        execute("BEGIN")
        for row in given:
            execute("SAVEPOINT a")
            execute(_INSERT + "(?, ?, ?, ?)", FOUR(row))
            execute("RELEASE a")
        execute("COMMIT")

    def r_memory5(self, given: int) -> Any:
        return self.execute(f"{PERSON_SQL} LIMIT {given}").fetchall()

    def r_memory20(self, given: int) -> Any:
        return self.execute(f"{WIDE_SQL} LIMIT {given}").fetchall()

    def close(self) -> None:
        self.connection.close()
