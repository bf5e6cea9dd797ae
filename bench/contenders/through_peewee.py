"""Peewee."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import peewee

from bench import data
from bench.contenders.base import Contender, construct
from bench.contenders.raw_python import read_ten, set_ten


class JsonField(peewee.TextField):
    """JSON in whatever the database keeps it in."""

    def python_value(self, value: Any) -> Any:
        return json.loads(value) if isinstance(value, str) else value


def _declare(link: Any) -> Any:
    def entity(title: str, table: str, **fields: Any) -> Any:
        meta = type("Meta", (), {"database": link, "table_name": table})
        return type(title, (peewee.Model,), {"Meta": meta, "id": peewee.AutoField(), **fields})

    def people(title: str, table: str) -> Any:
        text = peewee.CharField
        return entity(title, table, name=text(60), email=text(80), age=peewee.IntegerField(), city=text(40))

    kinds = {"n": peewee.IntegerField, "t": peewee.CharField, "x": peewee.DoubleField}
    return SimpleNamespace(
        Person=people("Person", "person"),
        Member=people("Member", "member"),
        Guest=people("Guest", "guest"),
        Wide=entity("Wide", "wide", **{name: kinds[name[0]]() for name in data.WIDE[1:]}),
        Typed=entity(
            "Typed", "typed", born=peewee.DateField(), seen=peewee.DateTimeField(),
            balance=peewee.DecimalField(12, 2), active=peewee.BooleanField(), settings=JsonField(),
        ),
    )  # fmt: skip


class Peewee(Contender):
    """Models; the bulk forms where Peewee has them. Only PostgreSQL's reads keys back."""

    def __init__(self, database: str, place: dict[str, Any]) -> None:
        super().__init__(database, place)
        if database == "sqlite":
            self.link = peewee.SqliteDatabase(place["file"], pragmas={"synchronous": 0})
        else:
            server = {"host": place["host"], "port": place["port"], "user": place["user"]}
            server |= {"password": place["password"]} if place["password"] else {}
            kind = peewee.PostgresqlDatabase if database == "postgresql" else peewee.MySQLDatabase
            self.link = kind(place["name"], **server)
        self.types = _declare(self.link)

    def versions(self) -> str:
        return f"Peewee {peewee.__version__}"

    def a_construct(self, given: Any) -> Any:
        return construct(self.types.Guest, given)

    def b_insert(self, given: Any) -> Any:
        Guest = self.types.Guest
        with self.link.atomic():
            guests = [Guest(**row) for row in given]
            if self.database == "postgresql":
                Guest.bulk_create(guests, batch_size=1000)
            else:
                for guest in guests:
                    guest.save()
            return [guest.id for guest in guests]

    def c_insert_keys(self, given: Any) -> Any:
        Guest = self.types.Guest
        with self.link.atomic():
            Guest.bulk_create([Guest(**row) for row in given], batch_size=199)

    def d_bulk(self, given: Any) -> Any:
        with self.link.atomic():
            for start in range(0, len(given), 249):
                self.types.Guest.insert_many(given[start : start + 249]).execute()

    def e_load5(self, given: Any) -> Any:
        return list(self.types.Person.select())

    def e_load20(self, given: Any) -> Any:
        return list(self.types.Wide.select())

    def e_typed(self, given: Any) -> Any:
        return list(self.types.Typed.select())

    def f_rows(self, given: Any) -> Any:
        return list(self.types.Person.select().tuples())

    def values(self, row: Any, names: Any, new: bool = False) -> Any:
        if type(row) is tuple:
            return [row[data.PERSON.index(name)] for name in names]
        return super().values(row, names)

    def g_get(self, given: Any) -> Any:
        get = self.types.Person.get_by_id
        with self.link.atomic():
            return [get(key) for key in given]

    def i_select(self, given: Any) -> Any:
        Person = self.types.Person
        with self.link.atomic():
            return [Person.select().where(Person.name == name).first() for name in given]

    i_query = i_select

    def s_plan_hit(self, given: Any) -> Any:
        Person = self.types.Person
        with self.link.atomic():
            return [Person.select(Person.name).where(Person.id == key).scalar() for key in given]

    def j_request(self, given: Any) -> Any:
        Member = self.types.Member
        for key in given:
            with self.link.atomic():
                member = Member.get_by_id(key)
                member.age += 1
                member.save(only=[Member.age])

    def k_update(self, given: Any) -> Any:
        Member = self.types.Member
        with self.link.atomic():
            members = list(Member.select())
            for member in members:
                member.age += 1
            Member.bulk_update(members, [Member.age], batch_size=100)

    def before_l_delete(self, given: Any) -> Any:
        return list(self.types.Guest.select())

    def l_delete(self, given: Any) -> Any:
        Guest = self.types.Guest
        with self.link.atomic():
            for start in range(0, len(given), 500):
                Guest.delete().where(
                    Guest.id.in_([guest.id for guest in given[start : start + 500]])
                ).execute()

    def p_savepoint(self, given: Any) -> Any:
        with self.link.atomic():
            for row in given:
                with self.link.atomic():
                    self.types.Guest.create(**row)

    def before_q_get(self, given: Any) -> Any:
        return self.types.Person.get_by_id(1), given

    before_q_set = before_q_get

    def q_get(self, given: Any) -> Any:
        return read_ten(*given)

    def q_set(self, given: Any) -> Any:
        return set_ten(*given)

    def r_memory5(self, given: Any) -> Any:
        return list(self.types.Person.select().limit(given))

    def r_memory20(self, given: Any) -> Any:
        return list(self.types.Wide.select().limit(given))

    def close(self) -> None:
        self.link.close()
