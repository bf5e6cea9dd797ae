"""Columns that need care: sequences, identity, computed, own SQL around binds, versions the server makes."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from sojourn import Computed, FetchedValue, Identity, Sequence, String, func, insert, select, update
from sojourn.orm import DeclarativeBase, Mapped, Session, mapped_column


@pytest.fixture
def make(db):
    """Return a function that maps a class and creates its table, with an engine."""

    def create(base, *statements):
        engine = db.create_engine()
        base.metadata.create_all(engine)
        with engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)
        return engine

    return create


class Shout(sa.types.UserDefinedType):
    """Text that the database makes upper case on the way in and reads back in brackets."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        """Return the DDL name."""
        return "VARCHAR(30)"

    def bind_expression(self, bindvalue):
        """Wrap the parameter."""
        return func.upper(bindvalue, type_=self)


def counts(*sizes):
    """Parametrize by number of rows."""
    return pytest.mark.parametrize("count", sizes)


@counts(1, 5, 70)
def test_sql_around_binds(make, count):
    """A type with a bind expression is written so by every technique."""

    class Base(DeclarativeBase):
        pass

    class Loud(Base):
        __tablename__ = "loud"
        id: Mapped[int] = mapped_column(primary_key=True)
        word: Mapped[str | None] = mapped_column(Shout)

    with Session(make(Base)) as session:
        entities = [Loud(word=f"w{n}") for n in range(count)]
        session.add_all(entities)
        session.commit()
        assert [e.word for e in entities] == [f"W{n}" for n in range(count)]
        for entity in entities:
            entity.word = f"x{entity.id}"
        session.commit()
        assert [e.word for e in entities] == [f"X{e.id}" for e in entities]


@counts(1, 5, 70)
@pytest.mark.databases("postgresql")
def test_descending_sequence(make, count):
    """Keys of a sequence that counts down go to their entities."""

    class Base(DeclarativeBase):
        pass

    class Down(Base):
        __tablename__ = "down"
        id: Mapped[int] = mapped_column(Sequence("down_ids", start=-1, increment=-2), primary_key=True)
        name: Mapped[str] = mapped_column(String(20))

    with Session(make(Base)) as session:
        entities = [Down(name=f"n{n}") for n in range(count)]
        session.add_all(entities)
        session.flush()
        assert [e.id for e in entities] == [-1 - 2 * n for n in range(count)]
        rows = dict(session.connection().execute(sa.select(Down.__table__.c.id, Down.__table__.c.name)).all())
        assert [rows[e.id] for e in entities] == [e.name for e in entities]


@counts(1, 5, 70)
@pytest.mark.databases("postgresql")
def test_identity_and_random_server_keys(make, count):
    """GENERATED ALWAYS AS IDENTITY counts; a key of gen_random_uuid() comes back row by row."""

    class Base(DeclarativeBase):
        pass

    class Always(Base):
        __tablename__ = "always"
        id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
        name: Mapped[str] = mapped_column(String(20))

    class Random(Base):
        __tablename__ = "random"
        id: Mapped[str] = mapped_column(
            sa.Uuid(as_uuid=False), server_default=func.gen_random_uuid(), primary_key=True
        )
        name: Mapped[str] = mapped_column(String(20))

    with Session(make(Base)) as session:
        for cls in (Always, Random):
            entities = [cls(name=f"n{n}") for n in range(count)]
            session.add_all(entities)
            session.flush()
            rows = dict(
                session.connection().execute(sa.select(cls.__table__.c.id, cls.__table__.c.name)).all()
            )
            assert [rows[e.id] for e in entities] == [e.name for e in entities]


@counts(1, 5, 70)
def test_computed_columns(make, count):
    """A computed column is never written, and known after INSERT and UPDATE."""

    class Base(DeclarativeBase):
        pass

    class Box(Base):
        __tablename__ = "box"
        id: Mapped[int] = mapped_column(primary_key=True)
        side: Mapped[int]
        area: Mapped[int] = mapped_column(Computed("side * side", persisted=True))

    with Session(make(Base)) as session:
        boxes = [Box(side=n) for n in range(count)]
        session.add_all(boxes)
        session.flush()
        assert [b.area for b in boxes] == [n * n for n in range(count)]
        for box in boxes:
            box.side += 1
        session.flush()
        assert [b.area for b in boxes] == [(n + 1) ** 2 for n in range(count)]


@counts(1, 3)
@pytest.mark.databases("postgresql", "sqlite")
def test_eager_defaults_also_after_updates(make, count):
    """`eager_defaults=True` fetches with the UPDATE what the database made."""

    class Base(DeclarativeBase):
        pass

    class Eager(Base):
        __tablename__ = "eager"
        __mapper_args__ = {"eager_defaults": True}
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(20))
        by: Mapped[str | None] = mapped_column(String(20), onupdate=func.lower("HERE"))

    with Session(make(Base)) as session:
        entities = [Eager(name="a") for _ in range(count)]
        session.add_all(entities)
        session.flush()
        for entity in entities:
            entity.name = "b"
        session.flush()
        assert {entity.__dict__["by"] for entity in entities} == {"here"}


@pytest.mark.databases("postgresql")
def test_version_made_by_the_server(make):
    """`version_id_generator=False`: the server counts, RETURNING tells, the next UPDATE checks."""

    class Base(DeclarativeBase):
        pass

    class Served(Base):
        __tablename__ = "served"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(20))
        stamp: Mapped[int] = mapped_column(server_default="1", server_onupdate=FetchedValue())
        __mapper_args__ = {"version_id_col": stamp, "version_id_generator": False}

    engine = make(
        Base,
        "CREATE FUNCTION count_up() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN NEW.stamp := OLD.stamp + 1; RETURN NEW; END $$",
        "CREATE TRIGGER up BEFORE UPDATE ON served FOR EACH ROW EXECUTE FUNCTION count_up()",
    )
    with Session(engine) as session:
        entities = [Served(name="a") for _ in range(3)]
        session.add_all(entities)
        session.flush()
        assert {e.__dict__["stamp"] for e in entities} == {1}
        for expected in (2, 3):
            for entity in entities:
                entity.name += "!"
            session.flush()
            assert {e.__dict__["stamp"] for e in entities} == {expected}


def test_json_null_and_sql_null(make):
    """A None given for JSON is JSON's null; one not given is SQL's NULL."""

    class Base(DeclarativeBase):
        pass

    class Doc(Base):
        __tablename__ = "doc"
        id: Mapped[int] = mapped_column(primary_key=True)
        data: Mapped[Any] = mapped_column(sa.JSON, nullable=True)

    with Session(make(Base)) as session:
        session.add_all([Doc(data=None), Doc(), Doc(data=[1])])
        session.commit()
        column = Doc.__table__.c.data
        nulls = session.connection().execute(sa.select(Doc.__table__.c.id).where(column.is_(sa.null()))).all()
        assert len(nulls) == 1
        assert session.scalars(select(Doc.data).order_by(Doc.id)).all() == [None, None, [1]]


def test_row_of_nothing_but_defaults(make):
    """An entity without any value is a row of defaults; several of them too."""

    class Base(DeclarativeBase):
        pass

    class Empty(Base):
        __tablename__ = "empty"
        id: Mapped[int] = mapped_column(primary_key=True)

    with Session(make(Base)) as session:
        entities = [Empty() for _ in range(4)]
        session.add_all(entities)
        session.commit()
        assert len({e.id for e in entities}) == 4


def test_columns_outside_the_mapping_keep_their_defaults(make):
    """A column that is not mapped gets its default all the same."""
    from sojourn.orm import registry

    mapping = registry()
    table = sa.Table(
        "partly", mapping.metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(20)),
        sa.Column("made", sa.String(20), default=lambda: "made"),
    )  # fmt: skip

    class Partly:
        pass

    mapping.map_imperatively(Partly, table, exclude_properties=["made"])
    with Session(make(mapping)) as session:
        entity = Partly()
        entity.name = "x"
        session.add(entity)
        session.commit()
        assert session.connection().execute(sa.select(table.c.made)).scalar() == "made"


def test_upsert(make, db):
    """ON CONFLICT and its MariaDB twin pass through, with entities back where RETURNING exists."""

    class Base(DeclarativeBase):
        pass

    class Stock(Base):
        __tablename__ = "stock"
        code: Mapped[str] = mapped_column(String(10), primary_key=True)
        count: Mapped[int]

    with Session(make(Base)) as session:
        session.execute(insert(Stock), [{"code": "a", "count": 1}])
        loaded = session.get(Stock, "a")
        if db.dialect == "mysql":
            from sqlalchemy.dialects.mysql import insert as upsert

            statement = upsert(Stock).values(code="a", count=5)
            session.execute(statement.on_duplicate_key_update(count=statement.inserted.count))
            session.expire_all()
        else:
            if db.dialect == "sqlite":
                from sqlalchemy.dialects.sqlite import insert as upsert
            else:
                from sqlalchemy.dialects.postgresql import insert as upsert
            statement = upsert(Stock).values([{"code": "a", "count": 5}, {"code": "b", "count": 6}])
            statement = statement.on_conflict_do_update(
                index_elements=["code"], set_={"count": statement.excluded.count}
            ).returning(Stock)
            found = session.scalars(statement, execution_options={"populate_existing": True}).all()
            assert sorted(e.code for e in found) == ["a", "b"]
            assert loaded in found
        assert loaded.count == 5
        session.execute(update(Stock).where(Stock.code == "a").values(count=Stock.count + 1))
        assert loaded.count == 6


@pytest.mark.databases("postgresql")
def test_translated_schemas(make, db):
    """`schema_translate_map` of an engine holds for what a flush writes."""

    class Base(DeclarativeBase):
        pass

    class Tenant(Base):
        __tablename__ = "tenant"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(20))

    engine = make(
        Base, "CREATE SCHEMA IF NOT EXISTS elsewhere", "CREATE TABLE elsewhere.tenant (LIKE tenant)"
    )
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "ALTER TABLE elsewhere.tenant ALTER id ADD GENERATED BY DEFAULT AS IDENTITY"
        )
    with Session(engine.execution_options(schema_translate_map={None: "elsewhere"})) as session:
        tenants = [Tenant(name=f"t{n}") for n in range(60)]
        session.add_all(tenants)
        session.flush()
        for tenant in tenants:
            tenant.name += "!"
        session.commit()
    with engine.begin() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM tenant").scalar() == 0
        there = connection.exec_driver_sql("SELECT count(*) FROM elsewhere.tenant")
        assert there.scalar() == 60
        connection.exec_driver_sql("DROP SCHEMA elsewhere CASCADE")
