"""psycopg 3 by hand, with the fastest safe technique for each workload."""

from __future__ import annotations

from typing import Any

import psycopg

from bench.contenders.raw_python import FIVE, FOUR, PERSON_SQL, TYPED_SQL, WIDE_SQL, RawPython, values_clause

_UNNEST = "unnest(%b::text[], %b::text[], %b::int[], %b::text[]) WITH ORDINALITY AS v(a, b, c, d, n)"
_INSERT = f"INSERT INTO guest (name, email, age, city) SELECT a, b, c, d FROM {_UNNEST} ORDER BY n"
_INSERT_KEYS = (
    "INSERT INTO guest (id, name, email, age, city) SELECT *"
    " FROM unnest(%b::int[], %b::text[], %b::text[], %b::int[], %b::text[])"
)
_FEW = "INSERT INTO guest (name, email, age, city) VALUES "


def columns(rows: list[dict[str, Any]], pick: Any) -> list[list[Any]]:
    """Turn rows into one list per column."""
    return [list(column) for column in zip(*map(pick, rows), strict=True)]


class RawPostgresql(RawPython):
    """One connection, one cursor kept; arrays instead of many parameters."""

    def __init__(self, database: str, place: dict[str, Any]) -> None:
        super().__init__(database, place)
        self.connection = psycopg.connect(place["dsn"])
        self.cursor = self.connection.cursor()
        self.execute = self.cursor.execute
        self.commit = self.connection.commit

    def versions(self) -> str:
        return f"psycopg {psycopg.__version__} ({psycopg.pq.__impl__})"

    def after(self) -> None:
        self.connection.rollback()

    def b_insert(self, given: list[dict[str, Any]]) -> Any:
        # ORDER BY gives sequence values in input order; RETURNING promises none, so the keys are sorted.
        keys: list[int] = []
        for start in range(0, len(given), 1000):
            part = columns(given[start : start + 1000], FOUR)
            keys += sorted([key for (key,) in self.execute(_INSERT + " RETURNING id", part).fetchall()])
        self.commit()
        return keys

    def c_insert_keys(self, given: list[dict[str, Any]]) -> Any:
        for start in range(0, len(given), 1000):
            self.execute(_INSERT_KEYS, columns(given[start : start + 1000], FIVE))
        self.commit()

    def d_bulk(self, given: list[dict[str, Any]]) -> Any:
        for start in range(0, len(given), 1000):
            self.execute(_INSERT, columns(given[start : start + 1000], FOUR))
        self.commit()

    def e_load5(self, given: None) -> Any:
        return self.execute(PERSON_SQL).fetchall()

    f_rows = e_load5

    def e_load20(self, given: None) -> Any:
        return self.execute(WIDE_SQL).fetchall()

    def e_typed(self, given: None) -> Any:
        return self.execute(TYPED_SQL).fetchall()

    def before_g_get(self, given: Any) -> Any:
        self.execute("SELECT 1").fetchall()
        return given

    before_i_select = before_i_query = before_i_core = before_s_plan_hit = before_g_get

    def g_get(self, given: list[int]) -> Any:
        execute, text = self.execute, PERSON_SQL + " WHERE id = %s"
        return [execute(text, (key,)).fetchone() for key in given]

    def i_select(self, given: list[str]) -> Any:
        execute, text = self.execute, PERSON_SQL + " WHERE name = %s"
        return [execute(text, (name,)).fetchone() for name in given]

    i_query = i_core = i_select

    def s_plan_hit(self, given: list[int]) -> Any:
        execute = self.execute
        return [execute("SELECT name FROM person WHERE id = %s", (key,)).fetchone()[0] for key in given]

    def j_request(self, given: list[int]) -> Any:
        execute, commit = self.execute, self.commit
        for key in given:
            row = execute("SELECT id, name, email, age, city FROM member WHERE id = %s", (key,)).fetchone()
            execute("UPDATE member SET age = %s WHERE id = %s", (row[3] + 1, key))
            commit()

    def k_update(self, given: None) -> Any:
        rows = self.execute("SELECT id, name, email, age, city FROM member").fetchall()
        values = "unnest(%b::int[], %b::int[]) v(id, age)"
        text = f"UPDATE member SET age = v.age FROM {values} WHERE member.id = v.id"
        for start in range(0, len(rows), 5000):
            part = rows[start : start + 5000]
            params = ([row[0] for row in part], [row[3] + 1 for row in part])
            if self.execute(text, params).rowcount != len(part):
                raise AssertionError("a row is gone")
        self.commit()

    def before_l_delete(self, given: int) -> Any:
        return [key for (key,) in self.execute("SELECT id FROM guest").fetchall()]

    def l_delete(self, given: list[int]) -> Any:
        for start in range(0, len(given), 5000):
            part = given[start : start + 5000]
            if self.execute("DELETE FROM guest WHERE id = ANY(%b::int[])", (part,)).rowcount != len(part):
                raise AssertionError("a row is gone")
        self.commit()

    def p_savepoint(self, given: list[dict[str, Any]]) -> Any:
        execute, text = self.execute, _FEW + values_clause("%s", 4, 1) + " RETURNING id"
        for row in given:
            execute("SAVEPOINT a")
            execute(text, FOUR(row)).fetchone()
            execute("RELEASE a")
        self.commit()

    def r_memory5(self, given: int) -> Any:
        return self.execute(f"{PERSON_SQL} LIMIT {given}").fetchall()

    def r_memory20(self, given: int) -> Any:
        return self.execute(f"{WIDE_SQL} LIMIT {given}").fetchall()

    def close(self) -> None:
        self.connection.close()
