"""Pony ORM; it has no savepoints, and uses psycopg2 on PostgreSQL."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pony
from pony.orm import Database, Json, PrimaryKey, Required, db_session

from bench import data
from bench.contenders.base import Contender, construct
from bench.contenders.raw_python import read_ten, set_ten


def _declare(link: Any) -> Any:
    def entity(title: str, table: str, **fields: Any) -> Any:
        columns = {"__module__": __name__, "_table_": table, "id": PrimaryKey(int, auto=True), **fields}
        return type(link.Entity)(title, (link.Entity,), columns)

    def people(title: str, table: str) -> Any:
        return entity(
            title, table, name=Required(str), email=Required(str), age=Required(int), city=Required(str)
        )

    kinds = {"n": int, "t": str, "x": float}
    return SimpleNamespace(
        Person=people("Person", "person"),
        Member=people("Member", "member"),
        Guest=people("Guest", "guest"),
        Wide=entity("Wide", "wide", **{name: Required(kinds[name[0]]) for name in data.WIDE[1:]}),
        Typed=entity(
            "Typed", "typed", born=Required(dt.date), seen=Required(dt.datetime),
            balance=Required(Decimal, 12, 2), active=Required(bool), settings=Required(Json),
        ),
    )  # fmt: skip


class Pony(Contender):
    """Entities within one db_session per repetition."""

    def __init__(self, database: str, place: dict[str, Any]) -> None:
        super().__init__(database, place)
        self.link = Database()
        self.types = _declare(self.link)
        if database == "sqlite":

            @self.link.on_connect(provider="sqlite")  # type: ignore[untyped-decorator]
            def relax(db: Any, connection: Any) -> None:
                connection.execute("PRAGMA synchronous=off")

            self.link.bind("sqlite", filename=place["file"], create_db=False)
        else:
            self.link.bind(
                "postgres", host=place["host"], port=place["port"], user=place["user"], dbname=place["name"]
            )
        self.link.generate_mapping(create_tables=False)
        self.scope: Any = None

    def versions(self) -> str:
        return f"Pony {pony.__version__}"

    def begin(self, given: Any) -> Any:
        """Begin a db_session for this repetition."""
        self.scope = db_session()
        self.scope.__enter__()
        return given

    before_a_construct = before_b_insert = before_c_insert_keys = before_d_bulk = before_e_load5 = begin
    before_e_load20 = before_e_typed = before_f_rows = before_g_get = before_i_select = before_i_query = begin
    before_s_plan_hit = before_k_update = begin

    def after(self) -> None:
        scope, self.scope = self.scope, None
        if scope is not None:
            self.link.rollback()
            scope.__exit__()

    def a_construct(self, given: Any) -> Any:
        return construct(self.types.Guest, given)

    def b_insert(self, given: Any) -> Any:
        guests = [self.types.Guest(**row) for row in given]
        self.link.commit()
        return [guest.id for guest in guests]

    def c_insert_keys(self, given: Any) -> Any:
        self.b_insert(given)

    d_bulk = c_insert_keys

    def e_load5(self, given: Any) -> Any:
        return list(self.types.Person.select())

    def e_load20(self, given: Any) -> Any:
        return list(self.types.Wide.select())

    def e_typed(self, given: Any) -> Any:
        return list(self.types.Typed.select())

    def f_rows(self, given: Any) -> Any:
        from pony.orm import select

        return select((p.id, p.name, p.email, p.age, p.city) for p in self.types.Person)[:]

    def values(self, row: Any, names: Any, new: bool = False) -> Any:
        if type(row) is tuple:
            return [row[data.PERSON.index(name)] for name in names]
        return [dict(value) if isinstance(value, dict) else value for value in super().values(row, names)]

    def g_get(self, given: Any) -> Any:
        Person = self.types.Person
        return [Person[key] for key in given]

    def before_h_get_hot(self, given: Any) -> Any:
        self.begin(given)
        return [self.types.Person[key] for key in given], given

    def h_get_hot(self, given: Any) -> Any:
        Person, keys = self.types.Person, given[1]
        for _ in range(9):
            for key in keys:
                Person[key]
        return [Person[key] for key in keys]

    def i_select(self, given: Any) -> Any:
        Person = self.types.Person
        return [Person.get(name=name) for name in given]

    i_query = i_select

    def s_plan_hit(self, given: Any) -> Any:
        from pony.orm import get

        Person = self.types.Person
        return [get(p.name for p in Person if p.id == key) for key in given]

    def j_request(self, given: Any) -> Any:
        for key in given:
            with db_session:
                self.types.Member[key].age += 1

    def k_update(self, given: Any) -> Any:
        for member in self.types.Member.select():
            member.age += 1
        self.link.commit()

    def before_l_delete(self, given: Any) -> Any:
        self.begin(given)
        return list(self.types.Guest.select())

    def l_delete(self, given: Any) -> Any:
        for guest in given:
            guest.delete()
        self.link.commit()

    def before_q_get(self, given: Any) -> Any:
        self.begin(given)
        return self.types.Person[1], given

    before_q_set = before_q_get

    def q_get(self, given: Any) -> Any:
        return read_ten(*given)

    def q_set(self, given: Any) -> Any:
        return set_ten(*given)

    def r_memory5(self, given: Any) -> Any:
        self.begin(given)
        return self.types.Person.select()[:given].to_list()

    def r_memory20(self, given: Any) -> Any:
        self.begin(given)
        return self.types.Wide.select()[:given].to_list()

    def close(self) -> None:
        self.link.disconnect()
