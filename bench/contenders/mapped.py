"""The workloads as a user of `sqlalchemy.orm` writes them; the modules are parameters."""

from __future__ import annotations

from typing import Any

from bench.auditor import FastConnection
from bench.contenders.base import Contender, construct
from bench.contenders.mapped_classes import declare
from bench.contenders.raw_python import read_ten, set_ten


class Mapped(Contender):
    """Sessions of the given package."""

    def __init__(self, database: str, place: dict[str, Any], sa: Any, orm: Any, version: str) -> None:
        super().__init__(database, place)
        self.sa, self.version = sa, version
        self.types = declare(sa, orm)
        options = {"connect_args": {"factory": FastConnection}} if database == "sqlite" else {}
        self.engine = sa.create_engine(place["url"], **options)
        self.Session = orm.sessionmaker(self.engine)
        self.session: Any = None

    def versions(self) -> str:
        return self.version

    def begin(self, *_: Any) -> Any:
        """Begin a session for this repetition."""
        self.session = self.Session()
        return self.session

    def after(self) -> None:
        if self.session is not None:
            self.session.close()
            self.session = None

    def close(self) -> None:
        self.engine.dispose()

    def a_construct(self, given: list[tuple[Any, ...]]) -> Any:
        return construct(self.types.Guest, given)

    def b_insert(self, given: list[dict[str, Any]]) -> Any:
        Guest, session = self.types.Guest, self.begin()
        guests = [Guest(**row) for row in given]
        session.add_all(guests)
        session.flush()
        keys = [guest.id for guest in guests]
        session.commit()
        return keys

    def c_insert_keys(self, given: list[dict[str, Any]]) -> Any:
        Guest, session = self.types.Guest, self.begin()
        session.add_all([Guest(**row) for row in given])
        session.commit()

    def d_bulk(self, given: list[dict[str, Any]]) -> Any:
        session = self.begin()
        session.execute(self.sa.insert(self.types.Guest), given)
        session.commit()

    def e_load5(self, given: None) -> Any:
        return self.begin().scalars(self.sa.select(self.types.Person)).all()

    def e_load20(self, given: None) -> Any:
        return self.begin().scalars(self.sa.select(self.types.Wide)).all()

    def e_typed(self, given: None) -> Any:
        return self.begin().scalars(self.sa.select(self.types.Typed)).all()

    def f_rows(self, given: None) -> Any:
        Person = self.types.Person
        columns = (Person.id, Person.name, Person.email, Person.age, Person.city)
        return self.begin().execute(self.sa.select(*columns)).all()

    def before_g_get(self, given: Any) -> Any:
        # The transaction has begun: only the statements are measured.
        self.begin().scalars(self.sa.select(self.types.Typed).limit(1)).all()
        return given

    before_i_select = before_i_query = before_i_core = before_s_plan_hit = before_g_get

    def g_get(self, given: list[int]) -> Any:
        Person, get = self.types.Person, self.session.get
        return [get(Person, key) for key in given]

    def before_h_get_hot(self, given: list[int]) -> Any:
        session = self.begin()
        return [session.get(self.types.Person, key) for key in given], given

    def h_get_hot(self, given: Any) -> Any:
        Person, get, (_, keys) = self.types.Person, self.session.get, given
        for _ in range(9):
            for key in keys:
                get(Person, key)
        return [get(Person, key) for key in keys]

    def i_select(self, given: list[str]) -> Any:
        Person, select, scalars = self.types.Person, self.sa.select, self.session.scalars
        return [scalars(select(Person).where(Person.name == name)).first() for name in given]

    def i_query(self, given: list[str]) -> Any:
        Person, query = self.types.Person, self.session.query
        return [query(Person).filter_by(name=name).first() for name in given]

    def i_core(self, given: list[str]) -> Any:
        from sqlalchemy import select

        Person, scalars = self.types.Person, self.session.scalars
        return [scalars(select(Person).where(Person.name == name)).first() for name in given]

    def s_plan_hit(self, given: list[int]) -> Any:
        Person, select, scalar = self.types.Person, self.sa.select, self.session.scalar
        return [scalar(select(Person.name).where(Person.id == key)) for key in given]

    def j_request(self, given: list[int]) -> Any:
        Member, Session = self.types.Member, self.Session
        for key in given:
            session = Session()
            member = session.get(Member, key)
            member.age += 1
            session.commit()
            session.close()

    def k_update(self, given: None) -> Any:
        session = self.begin()
        for member in session.scalars(self.sa.select(self.types.Member)).all():
            member.age += 1
        session.commit()

    def before_l_delete(self, given: int) -> Any:
        return self.begin().scalars(self.sa.select(self.types.Guest)).all()

    def l_delete(self, given: Any) -> Any:
        session = self.session
        for guest in given:
            session.delete(guest)
        session.commit()

    def p_savepoint(self, given: list[dict[str, Any]]) -> Any:
        Guest, session = self.types.Guest, self.begin()
        # Without this, sqlite3 as SQLAlchemy uses it would make each savepoint a transaction of its own.
        session.execute(self.sa.text("UPDATE guest SET age = 0 WHERE id = 0"))
        for row in given:
            with session.begin_nested():
                session.add(Guest(**row))
        session.commit()

    def before_q_get(self, given: int) -> Any:
        return self.begin().get(self.types.Person, 1), given

    def q_get(self, given: Any) -> int:
        return read_ten(*given)

    before_q_set = before_q_get

    def q_set(self, given: Any) -> int:
        return set_ten(*given)

    def r_memory5(self, given: int) -> Any:
        return self.begin().scalars(self.sa.select(self.types.Person).limit(given)).all()

    def r_memory20(self, given: int) -> Any:
        return self.begin().scalars(self.sa.select(self.types.Wide).limit(given)).all()
