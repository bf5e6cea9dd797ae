"""The mapped classes, declared with the names both SQLAlchemy and sojourn export."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from bench import data


def declare(sa: Any, orm: Any) -> Any:
    """Declare the five entities with the names of the modules given."""

    class Base(orm.DeclarativeBase):
        pass

    def people(title: str, table: str) -> Any:
        return type(
            title,
            (Base,),
            {
                "__module__": __name__,
                "__tablename__": table,
                "id": orm.mapped_column(sa.Integer, primary_key=True),
                "name": orm.mapped_column(sa.String(60), nullable=False),
                "email": orm.mapped_column(sa.String(80), nullable=False),
                "age": orm.mapped_column(sa.Integer, nullable=False),
                "city": orm.mapped_column(sa.String(40), nullable=False),
            },
        )

    kinds = {"n": sa.Integer, "t": sa.String(60), "x": sa.Float}
    wide = {name: orm.mapped_column(kinds[name[0]], nullable=False) for name in data.WIDE[1:]}

    class Typed(Base):
        __tablename__ = "typed"

        id = orm.mapped_column(sa.Integer, primary_key=True)
        born = orm.mapped_column(sa.Date, nullable=False)
        seen = orm.mapped_column(sa.DateTime, nullable=False)
        balance = orm.mapped_column(sa.Numeric(12, 2), nullable=False)
        active = orm.mapped_column(sa.Boolean, nullable=False)
        settings = orm.mapped_column(sa.JSON, nullable=False)

    return SimpleNamespace(
        Person=people("Person", "person"),
        Member=people("Member", "member"),
        Guest=people("Guest", "guest"),
        Wide=type(
            "Wide",
            (Base,),
            {
                "__module__": __name__,
                "__tablename__": "wide",
                "id": orm.mapped_column(sa.Integer, primary_key=True),
                **wide,
            },
        ),
        Typed=Typed,
    )
