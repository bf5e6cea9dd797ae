"""mysqlclient by hand, with the fastest safe technique for each workload."""

from __future__ import annotations

import json
from typing import Any

import MySQLdb

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


class RawMariadb(RawPython):
    """One connection, one cursor kept; many rows by one statement, changes by a join with a JSON table."""

    def __init__(self, database: str, place: dict[str, Any]) -> None:
        super().__init__(database, place)
        self.connection = MySQLdb.connect(**place["mysql"])
        self.cursor = self.connection.cursor()
        self.execute = self.cursor.execute
        self.commit = self.connection.commit

    def versions(self) -> str:
        return "mysqlclient " + ".".join(map(str, MySQLdb.version_info[:3]))

    def fetch(self, text: str, params: Any = None) -> Any:
        """Execute and fetch everything."""
        self.execute(text, params)
        return self.cursor.fetchall()

    def after(self) -> None:
        self.connection.rollback()

    def b_insert(self, given: list[dict[str, Any]]) -> Any:
        keys: list[int] = []
        for start in range(0, len(given), 1000):
            part = given[start : start + 1000]
            text = _INSERT + values_clause("%s", 4, len(part)) + " RETURNING id"
            keys += sorted([key for (key,) in self.fetch(text, flat(part, FOUR))])
        self.commit()
        return keys

    def c_insert_keys(self, given: list[dict[str, Any]]) -> Any:
        for start in range(0, len(given), 1000):
            part = given[start : start + 1000]
            text = "INSERT INTO guest (id, name, email, age, city) VALUES " + values_clause(
                "%s", 5, len(part)
            )
            self.execute(text, flat(part, FIVE))
        self.commit()

    def d_bulk(self, given: list[dict[str, Any]]) -> Any:
        for start in range(0, len(given), 1000):
            part = given[start : start + 1000]
            self.execute(_INSERT + values_clause("%s", 4, len(part)), flat(part, FOUR))
        self.commit()

    def e_load5(self, given: None) -> Any:
        return self.fetch(PERSON_SQL)

    f_rows = e_load5

    def e_load20(self, given: None) -> Any:
        return self.fetch(WIDE_SQL)

    def e_typed(self, given: None) -> Any:
        loads = json.loads
        return [
            (key, born, seen, balance, active == 1, loads(settings))
            for key, born, seen, balance, active, settings in self.fetch(TYPED_SQL)
        ]

    def g_get(self, given: list[int]) -> Any:
        return self._one_by_one(PERSON_SQL + " WHERE id = %s", given)

    def i_select(self, given: list[str]) -> Any:
        return self._one_by_one(PERSON_SQL + " WHERE name = %s", given)

    i_query = i_core = i_select

    def _one_by_one(self, text: str, given: list[Any]) -> Any:
        execute, fetchone, rows = self.execute, self.cursor.fetchone, []
        for value in given:
            execute(text, (value,))
            rows.append(fetchone())
        return rows

    def s_plan_hit(self, given: list[int]) -> Any:
        return [name for (name,) in self._one_by_one("SELECT name FROM person WHERE id = %s", given)]

    def j_request(self, given: list[int]) -> Any:
        execute, fetchone, commit = self.execute, self.cursor.fetchone, self.commit
        for key in given:
            execute("SELECT id, name, email, age, city FROM member WHERE id = %s", (key,))
            row = fetchone()
            execute("UPDATE member SET age = %s WHERE id = %s", (row[3] + 1, key))
            commit()

    def k_update(self, given: None) -> Any:
        rows = self.fetch("SELECT id, name, email, age, city FROM member")
        text = (
            "UPDATE member JOIN JSON_TABLE(%s, '$[*]' COLUMNS (id INT PATH '$[0]', age INT PATH '$[1]')) v"
            " ON member.id = v.id SET member.age = v.age"
        )
        for start in range(0, len(rows), 1000):
            part = json.dumps([(row[0], row[3] + 1) for row in rows[start : start + 1000]])
            if self.execute(text, (part,)) != len(rows[start : start + 1000]):
                raise AssertionError("a row is gone")
        self.commit()

    def before_l_delete(self, given: int) -> Any:
        return [key for (key,) in self.fetch("SELECT id FROM guest")]

    def l_delete(self, given: list[int]) -> Any:
        for start in range(0, len(given), 1000):
            part = given[start : start + 1000]
            if self.execute(f"DELETE FROM guest WHERE id IN ({', '.join(['%s'] * len(part))})", part) != len(
                part
            ):
                raise AssertionError("a row is gone")
        self.commit()

    def p_savepoint(self, given: list[dict[str, Any]]) -> Any:
        execute, text = self.execute, _INSERT + "(%s, %s, %s, %s)"
        for row in given:
            execute("SAVEPOINT a")
            execute(text, FOUR(row))
            execute("RELEASE SAVEPOINT a")
        self.commit()

    def r_memory5(self, given: int) -> Any:
        return self.fetch(f"{PERSON_SQL} LIMIT {given}")

    def r_memory20(self, given: int) -> Any:
        return self.fetch(f"{WIDE_SQL} LIMIT {given}")

    def close(self) -> None:
        self.connection.close()
