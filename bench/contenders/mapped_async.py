"""The workloads as a user of `sqlalchemy.ext.asyncio` writes them; the modules are parameters."""

from __future__ import annotations

from typing import Any

from bench.auditor import FastConnection
from bench.contenders.base import Contender
from bench.contenders.mapped_classes import declare


class MappedAsync(Contender):
    """Async sessions of the given package."""

    def __init__(
        self, database: str, place: dict[str, Any], sa: Any, orm: Any, asyncio: Any, version: str
    ) -> None:
        super().__init__(database, place)
        self.sa, self.version = sa, version
        self.types = declare(sa, orm)
        options = {"connect_args": {"factory": FastConnection}} if database == "aiosqlite" else {}
        self.engine = asyncio.create_async_engine(place["url"], **options)
        self.Session = asyncio.async_sessionmaker(self.engine)
        self.session: Any = None

    def versions(self) -> str:
        return self.version

    async def begin(self, given: Any) -> Any:
        """Begin a session and its transaction: only the statements are measured."""
        self.session = self.Session()
        (await self.session.scalars(self.sa.select(self.types.Typed).limit(1))).all()
        return given

    before_b_insert = before_e_load5 = before_e_load20 = before_e_typed = before_f_rows = begin
    before_g_get = before_i_select = begin

    async def after(self) -> None:
        if self.session is not None:
            await self.session.close()
            self.session = None

    async def close(self) -> None:
        await self.engine.dispose()

    async def b_insert(self, given: list[dict[str, Any]]) -> Any:
        Guest, session = self.types.Guest, self.session
        guests = [Guest(**row) for row in given]
        session.add_all(guests)
        await session.flush()
        keys = [guest.id for guest in guests]
        await session.commit()
        return keys

    async def e_load5(self, given: None) -> Any:
        return (await self.session.scalars(self.sa.select(self.types.Person))).all()

    async def e_load20(self, given: None) -> Any:
        return (await self.session.scalars(self.sa.select(self.types.Wide))).all()

    async def e_typed(self, given: None) -> Any:
        return (await self.session.scalars(self.sa.select(self.types.Typed))).all()

    async def f_rows(self, given: None) -> Any:
        Person = self.types.Person
        columns = (Person.id, Person.name, Person.email, Person.age, Person.city)
        return (await self.session.execute(self.sa.select(*columns))).all()

    async def g_get(self, given: list[int]) -> Any:
        Person, get = self.types.Person, self.session.get
        return [await get(Person, key) for key in given]

    async def i_select(self, given: list[str]) -> Any:
        Person, select, scalars = self.types.Person, self.sa.select, self.session.scalars
        return [(await scalars(select(Person).where(Person.name == name))).first() for name in given]

    async def j_request(self, given: list[int]) -> Any:
        Member, Session = self.types.Member, self.Session
        for key in given:
            async with Session() as session:
                member = await session.get(Member, key)
                member.age += 1
                await session.commit()
