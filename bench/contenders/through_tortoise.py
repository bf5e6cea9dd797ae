"""Tortoise ORM, asyncio only."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import tortoise
from tortoise import fields
from tortoise.models import Model
from tortoise.transactions import in_transaction

from bench import data
from bench.contenders.base import Contender

if TYPE_CHECKING:
    from collections.abc import Mapping


class _People(Model):
    id = fields.IntField(primary_key=True)
    name = fields.CharField(60)
    email = fields.CharField(80)
    age = fields.IntField()
    city = fields.CharField(40)

    class Meta:
        abstract = True


class Person(_People):
    class Meta:
        table = "person"


class Member(_People):
    class Meta:
        table = "member"


class Guest(_People):
    class Meta:
        table = "guest"


_KINDS = {"n": fields.IntField, "t": lambda: fields.CharField(60), "x": fields.FloatField}
Wide = type(
    "Wide",
    (Model,),
    {
        "__module__": __name__,
        "id": fields.IntField(primary_key=True),
        **{name: _KINDS[name[0]]() for name in data.WIDE[1:]},
        "Meta": type("Meta", (), {"table": "wide"}),
    },
)


class Typed(Model):
    id = fields.IntField(primary_key=True)
    born = fields.DateField()
    seen = fields.DatetimeField()
    balance = fields.DecimalField(12, 2)
    active = fields.BooleanField()
    settings: Any = fields.JSONField()

    class Meta:
        table = "typed"


class Tortoise(Contender):
    """Querysets; only saving one by one reads keys back."""

    cannot: Mapping[str, str] = MappingProxyType({"e_typed": "it returns aware datetimes"})
    ready = False

    def versions(self) -> str:
        return f"Tortoise {tortoise.__version__}"

    async def begin(self, given: Any) -> Any:
        """Connect once."""
        if not self.ready:
            at = self.place
            secret = f":{at['password']}" if at.get("password") else ""
            url = f"sqlite://{at.get('file')}?synchronous=OFF"
            if self.database == "asyncpg":
                url = f"asyncpg://{at['user']}{secret}@{at['host']}:{at['port']}/{at['name']}"
            await tortoise.Tortoise.init(
                db_url=url, modules={"models": [__name__]}, _enable_global_fallback=True
            )
            self.ready = True
        return given

    before_b_insert = before_c_insert_keys = before_d_bulk = before_e_load5 = before_e_load20 = (
        before_f_rows
    ) = begin
    before_g_get = before_i_select = before_i_query = before_j_request = before_k_update = begin
    before_p_savepoint = begin

    async def before_l_delete(self, given: Any) -> Any:
        await self.begin(given)
        return await Guest.all()

    async def b_insert(self, given: Any) -> Any:
        async with in_transaction():
            guests = [Guest(**row) for row in given]
            for guest in guests:
                await guest.save()
        return [guest.id for guest in guests]

    async def c_insert_keys(self, given: Any) -> Any:
        await Guest.bulk_create([Guest(**row) for row in given])

    d_bulk = c_insert_keys

    async def e_load5(self, given: Any) -> Any:
        return await Person.all()

    async def e_load20(self, given: Any) -> Any:
        return await Wide.all()  # type: ignore[attr-defined]

    async def f_rows(self, given: Any) -> Any:
        return await Person.all().values_list(*data.PERSON)

    def values(self, row: Any, names: Any, new: bool = False) -> Any:
        if type(row) is tuple:
            return [row[data.PERSON.index(name)] for name in names]
        return super().values(row, names)

    async def g_get(self, given: Any) -> Any:
        return [await Person.get(id=key) for key in given]

    async def i_select(self, given: Any) -> Any:
        return [await Person.filter(name=name).first() for name in given]

    i_query = i_select

    async def j_request(self, given: Any) -> Any:
        for key in given:
            async with in_transaction():
                member = await Member.get(id=key)
                member.age += 1
                await member.save(update_fields=["age"])

    async def k_update(self, given: Any) -> Any:
        async with in_transaction():
            members = await Member.all()
            for member in members:
                member.age += 1
            await Member.bulk_update(members, fields=["age"], batch_size=200)

    async def l_delete(self, given: Any) -> Any:
        async with in_transaction():
            for start in range(0, len(given), 500):
                await Guest.filter(id__in=[guest.id for guest in given[start : start + 500]]).delete()

    async def p_savepoint(self, given: Any) -> Any:
        async with in_transaction():
            for row in given:
                async with in_transaction():
                    await Guest.create(**row)

    async def close(self) -> None:
        await tortoise.Tortoise.close_connections()
