"""Django's ORM."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import django
from django.conf import settings

from bench import data
from bench.auditor import FastConnection
from bench.contenders.base import Contender, construct
from bench.contenders.raw_python import read_ten, set_ten


def _declare() -> Any:
    from django.db import models

    def entity(title: str, table: str, **fields: Any) -> Any:
        meta = type("Meta", (), {"app_label": "bench", "db_table": table, "managed": False})
        return type(
            title,
            (models.Model,),
            {"__module__": __name__, "Meta": meta, "id": models.AutoField(primary_key=True), **fields},
        )

    def people(title: str, table: str) -> Any:
        text = models.CharField
        return entity(
            title, table, name=text(max_length=60), email=text(max_length=80), age=models.IntegerField(),
            city=text(max_length=40),
        )  # fmt: skip

    kinds = {"n": models.IntegerField, "t": lambda: models.CharField(max_length=60), "x": models.FloatField}
    return SimpleNamespace(
        Person=people("Person", "person"),
        Member=people("Member", "member"),
        Guest=people("Guest", "guest"),
        Wide=entity("Wide", "wide", **{name: kinds[name[0]]() for name in data.WIDE[1:]}),
        Typed=entity(
            "Typed", "typed", born=models.DateField(), seen=models.DateTimeField(),
            balance=models.DecimalField(max_digits=12, decimal_places=2), active=models.BooleanField(),
            settings=models.JSONField(),
        ),
    )  # fmt: skip


class Django(Contender):
    """Managers and querysets; the bulk forms where Django has them."""

    def __init__(self, database: str, place: dict[str, Any]) -> None:
        super().__init__(database, place)
        if database == "sqlite":
            link = {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": place["file"],
                "OPTIONS": {"factory": FastConnection},
            }
        else:
            engine = "postgresql" if database == "postgresql" else "mysql"
            link = {
                "ENGINE": f"django.db.backends.{engine}", "NAME": place["name"], "HOST": place["host"],
                "PORT": str(place["port"] or ""), "USER": place["user"], "PASSWORD": place["password"],
            }  # fmt: skip
        settings.configure(DATABASES={"default": link}, USE_TZ=False, INSTALLED_APPS=[])
        django.setup()
        self.types = _declare()
        from django.db import connection, transaction

        self.atomic, self.connection = transaction.atomic, connection

    def versions(self) -> str:
        return f"Django {django.__version__}"

    def a_construct(self, given: Any) -> Any:
        return construct(self.types.Guest, given)

    def b_insert(self, given: Any) -> Any:
        Guest = self.types.Guest
        with self.atomic():
            return [
                guest.pk
                for guest in Guest.objects.bulk_create([Guest(**row) for row in given], batch_size=1000)
            ]

    def c_insert_keys(self, given: Any) -> Any:
        self.b_insert(given)

    d_bulk = c_insert_keys

    def e_load5(self, given: Any) -> Any:
        return list(self.types.Person.objects.all())

    def e_load20(self, given: Any) -> Any:
        return list(self.types.Wide.objects.all())

    def e_typed(self, given: Any) -> Any:
        return list(self.types.Typed.objects.all())

    def f_rows(self, given: Any) -> Any:
        return list(self.types.Person.objects.values_list(*data.PERSON, named=False))

    def values(self, row: Any, names: Any, new: bool = False) -> Any:
        if type(row) is tuple:
            return [row[data.PERSON.index(name)] for name in names]
        return super().values(row, names)

    def g_get(self, given: Any) -> Any:
        get = self.types.Person.objects.get
        with self.atomic():
            return [get(pk=key) for key in given]

    def i_select(self, given: Any) -> Any:
        people = self.types.Person.objects
        with self.atomic():
            return [people.filter(name=name).first() for name in given]

    i_query = i_select

    def s_plan_hit(self, given: Any) -> Any:
        people = self.types.Person.objects
        with self.atomic():
            return [people.values_list("name", flat=True).get(pk=key) for key in given]

    def j_request(self, given: Any) -> Any:
        for key in given:
            with self.atomic():
                member = self.types.Member.objects.get(pk=key)
                member.age += 1
                member.save(update_fields=["age"])

    def k_update(self, given: Any) -> Any:
        members = self.types.Member.objects
        with self.atomic():
            loaded = list(members.all())
            for member in loaded:
                member.age += 1
            members.bulk_update(loaded, ["age"], batch_size=200)

    def before_l_delete(self, given: Any) -> Any:
        return list(self.types.Guest.objects.all())

    def l_delete(self, given: Any) -> Any:
        guests = self.types.Guest.objects
        with self.atomic():
            for start in range(0, len(given), 500):
                guests.filter(pk__in=[guest.pk for guest in given[start : start + 500]]).delete()

    def p_savepoint(self, given: Any) -> Any:
        with self.atomic():
            for row in given:
                with self.atomic():
                    self.types.Guest.objects.create(**row)

    def before_q_get(self, given: Any) -> Any:
        return self.types.Person.objects.get(pk=1), given

    before_q_set = before_q_get

    def q_get(self, given: Any) -> Any:
        return read_ten(*given)

    def q_set(self, given: Any) -> Any:
        return set_ten(*given)

    def r_memory5(self, given: Any) -> Any:
        return list(self.types.Person.objects.all()[:given])

    def r_memory20(self, given: Any) -> Any:
        return list(self.types.Wide.objects.all()[:given])

    def close(self) -> None:
        self.connection.close()
