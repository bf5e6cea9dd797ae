"""An engine that is only described, and a lane that answers from a script: a flush without a database."""

from __future__ import annotations

from types import SimpleNamespace

from sqlalchemy.dialects.mysql import mysqldb
from sqlalchemy.dialects.postgresql import asyncpg, psycopg, psycopg2
from sqlalchemy.dialects.sqlite import pysqlite

from sojourn.flow import Core, Execute, ExecuteMany, InsertEach, Rows
from sojourn.kernel.identity import IdentityMap
from sojourn.kernel.state import state_of
from sojourn.symbols import Traits

ALIKE = {"returning": True, "update_returning": True, "values_from": True}
TRAITS = {
    "sqlite": (
        pysqlite.dialect(paramstyle="qmark"),
        Traits("sqlite", "pysqlite", "?", lastrowid_loop=True, **ALIKE),
    ),
    "aiosqlite": (pysqlite.dialect(paramstyle="qmark"), Traits("sqlite", "aiosqlite", "?", **ALIKE)),
    "psycopg": (
        psycopg.dialect(paramstyle="numeric_dollar"),
        Traits("postgresql", "psycopg", "$n", unnest=True, **ALIKE),
    ),
    "asyncpg": (asyncpg.dialect(), Traits("postgresql", "asyncpg", "$n", unnest=True, **ALIKE)),
    "psycopg2": (psycopg2.dialect(paramstyle="format"), Traits("postgresql", "psycopg2", "%s", **ALIKE)),
    "mariadb": (
        mysqldb.dialect(paramstyle="format"),
        Traits("mariadb", "mysqldb", "%s", returning=True, lastrowid_range=True, executemany_batches=False),
    ),
    "mysql": (
        mysqldb.dialect(paramstyle="format"),
        Traits("mysql", "mysqldb", "%s", lastrowid_range=True, executemany_batches=False),
    ),
}  # fmt: skip


def engine_like(name):
    """Return what a flush asks of an engine of that driver."""
    dialect, traits = TRAITS[name]
    return SimpleNamespace(traits=traits, plan_dialect=dialect, dialect=dialect)


def map_of(*entities):
    """Return an identity map with *entities* as new ones."""
    identity = IdentityMap()
    for entity in entities:
        identity.add(state_of(entity), entity)
    return identity


class Lane:
    """Performs requests from what a table would do: counts keys, counts rows."""

    def __init__(self, engine, fail_at=None):
        self.engine = engine
        self.sent = []
        self.fail_at = fail_at
        self.next_key = 1

    def perform(self, request):
        """Answer one request, or fail at the chosen one."""
        if self.fail_at == len(self.sent):
            raise Failed
        self.sent.append(request)
        kind = type(request)
        if kind is InsertEach:
            return self.keys(len(request.rows))
        if kind is Rows:
            count = max(1, request.plan.text.count("), (") + 1 if "VALUES" in request.plan.text else 1)
            if "unnest" in request.plan.text:
                count = len(request.params[0])
            return [(key,) for key in self.keys(count)]
        if kind is ExecuteMany:
            return len(request.rows)
        assert kind in (Execute, Core)
        return self.rows_in(request)

    def keys(self, count):
        """Return the next keys."""
        made = list(range(self.next_key, self.next_key + count))
        self.next_key += count
        return made

    def rows_in(self, request):
        """Return how many rows a statement is for."""
        text = request.plan.text
        if "unnest" in text or "ANY(" in text:
            return len(request.params[0])
        if " IN (" in text:
            return len(request.params)
        return text.count("), (") + 1 + ("UNION ALL" in text)


class Failed(Exception):
    """What a scripted lane raises."""
