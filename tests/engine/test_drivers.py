"""The driver table: every tested driver has a row, and the traits are what the server shows."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from sojourn import create_engine
from sojourn.engine.drivers import DRIVERS, find_driver


def test_every_blocking_driver_of_the_tests_is_in_the_table(db):
    """Found by dialect and driver name."""
    engine = db.create_engine()

    assert engine.backend is DRIVERS[f"{engine.dialect.name}+{engine.dialect.driver}"]


def test_a_third_party_dialect_of_the_same_name_is_not_taken_for_a_tested_one():
    """What a subclass changed, nobody tested here."""
    core = create_engine("sqlite://").dialect

    class Elsewhere(type(core)):
        supports_statement_cache = True

    assert find_driver(core) is DRIVERS["sqlite+pysqlite"]
    assert find_driver(Elsewhere()) is None


def test_traits_say_what_the_database_does(db):
    """The dialect is the server's own: MariaDB behind a mysql:// URL is MariaDB."""
    traits = db.create_engine().traits
    expected = {
        "sqlite": ("sqlite", "?", True),
        "postgresql": ("postgresql", "$n" if db.name == "psycopg" else "%s", True),
        "mysql": ("mariadb", "%s", True),
    }[db.dialect]

    assert (traits.dialect, traits.mark, traits.returning) == expected
    assert traits.lastrowid_loop == (db.dialect == "sqlite")
    assert traits.unnest == (db.name == "psycopg")
    assert not traits.is_async


def test_plans_are_written_in_the_style_of_the_traits(db):
    """Binds are positional, so that arguments are tuples."""
    engine = db.create_engine()
    table = sa.Table("t", sa.MetaData(), sa.Column("id", sa.Integer))
    compiled = sa.select(table.c.id).where(table.c.id == 5).compile(dialect=engine.plan_dialect)
    mark = engine.traits.mark.replace("$n", "$1")

    assert mark in str(compiled)
    assert compiled.positiontup == ["id_1"]
    assert engine.dialect.paramstyle == create_engine(db.url).dialect.paramstyle


def test_the_most_parameters_a_statement_may_have_are_accepted(db):
    """`max_parameters` is no guess: one statement with that many works."""
    engine = db.create_engine()
    traits = engine.traits
    if traits.dialect == "mariadb":
        pytest.skip("not applicable: these drivers write values into the text")
    count = min(traits.max_parameters, 65_535)
    marks = ", ".join(f"${n + 1}::int" if traits.mark == "$n" else traits.mark for n in range(count))
    lane = engine.acquire()
    cursor = lane._new_cursor()
    cursor.execute(f"SELECT 1 WHERE 1 IN ({marks})", tuple(range(count)))

    assert cursor.fetchone()[0] == 1
    cursor.close()
    lane.release(discard=True)


def test_foreign_keys_are_enforced_on_request(sqlite_db):
    """sqlite_foreign_keys=True holds for Core's connections too; the default is SQLite's own."""
    for wanted in (True, False):
        engine = sqlite_db.create_engine(sqlite_foreign_keys=wanted)
        with engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == wanted
        lane = engine.acquire()
        assert lane.dbapi.execute("PRAGMA foreign_keys").fetchone() == (int(wanted),)
        lane.release()


@pytest.mark.parametrize("level", ["IMMEDIATE", "EXCLUSIVE"])
def test_sqlites_kind_of_begin_is_honoured(sqlite_db, level):
    """connect_args={'isolation_level': ...} has the driver's meaning."""
    engine = sqlite_db.create_engine(connect_args={"isolation_level": level})
    sent = []
    lane = engine.acquire()
    lane.dbapi.set_trace_callback(sent.append)
    from sojourn.flow import Begin

    lane.perform(Begin(lane))
    lane.dbapi.set_trace_callback(None)
    lane.release()

    assert sent == [f"BEGIN {level}"]


def test_autocommit_begins_nothing(db):
    """isolation_level='AUTOCOMMIT': each statement stands for itself, on both sides."""
    from tests.engine.helpers import begin, make_table, names_in, run

    engine = db.create_engine(isolation_level="AUTOCOMMIT")
    table = make_table(engine)
    lane = begin(engine)
    run(lane, sa.update(table).values(name="stays"))
    lane.release()
    assert names_in(engine) == ["stays"] * 3

    plain = db.create_engine()
    with plain.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.update(table).values(name="too"))
        connection.rollback()
    assert names_in(plain) == ["too"] * 3
