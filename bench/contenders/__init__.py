"""The contenders, one file each: the raw drivers, SQLAlchemy and sojourn, and the other mappers."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.contenders.base import Contender


@dataclass(frozen=True)
class Spec:
    """Where a contender is found and what its process needs."""

    modules: dict[str, str]  # database -> "module:function"
    packages: dict[str, str]  # what must be installed -> as which distribution
    environment: dict[str, str] = field(default_factory=dict)
    extra: bool = False  # only with sojourn[bench]


def _everywhere(module: str, sync: str, asynchronous: str) -> dict[str, str]:
    places = dict.fromkeys(("sqlite", "postgresql", "mariadb"), f"{module}:{sync}")
    return places | dict.fromkeys(("aiosqlite", "asyncpg"), f"{module}:{asynchronous}")


SPECS: dict[str, Spec] = {
    "raw": Spec(
        {
            "sqlite": "raw_sqlite:RawSqlite",
            "postgresql": "raw_postgresql:RawPostgresql",
            "mariadb": "raw_mariadb:RawMariadb",
            "aiosqlite": "raw_async:RawAiosqlite",
            "asyncpg": "raw_async:RawAsyncpg",
        },
        {},
    ),
    "sqlalchemy": Spec(_everywhere("through_sqlalchemy", "make", "make_async"), {"sqlalchemy": "sqlalchemy"}),
    "sojourn": Spec(
        _everywhere("through_sojourn", "make", "make_async"),
        {"sojourn": "sojourn"},
        {"SOJOURN_KERNEL": "compiled"},
    ),
    "sojourn-python": Spec(
        _everywhere("through_sojourn", "make", "make_async"),
        {"sojourn": "sojourn"},
        {"SOJOURN_KERNEL": "python"},
    ),
    "django": Spec(
        dict.fromkeys(("sqlite", "postgresql", "mariadb"), "through_django:Django"),
        {"django": "django"},
        extra=True,
    ),
    "peewee": Spec(
        dict.fromkeys(("sqlite", "postgresql", "mariadb"), "through_peewee:Peewee"),
        {"peewee": "peewee"},
        extra=True,
    ),
    "pony": Spec(dict.fromkeys(("sqlite", "postgresql"), "through_pony:Pony"), {"pony": "pony"}, extra=True),
    "tortoise": Spec(
        dict.fromkeys(("aiosqlite", "asyncpg"), "through_tortoise:Tortoise"),
        {"tortoise": "tortoise-orm"},
        extra=True,
    ),
}


def missing(name: str, database: str) -> str | None:
    """Say why a contender cannot run, or None when it can."""
    spec = SPECS[name]
    if database not in spec.modules:
        return f"does not serve {database}"
    for package, distribution in spec.packages.items():
        if importlib.util.find_spec(package) is None:
            return f"{distribution} is not installed"
    if (
        name == "sqlalchemy"
        and database in ("aiosqlite", "asyncpg")
        and importlib.util.find_spec("greenlet") is None
    ):
        return "greenlet is not installed"
    return None


def create(name: str, database: str, place: dict[str, Any]) -> Contender:
    """Import a contender's module and make it; only in the process that runs it."""
    module, _, attribute = SPECS[name].modules[database].partition(":")
    factory = getattr(importlib.import_module(f"bench.contenders.{module}"), attribute)
    contender: Contender = factory(database, place)
    return contender
