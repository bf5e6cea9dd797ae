"""Tools that expect a Core engine: create_all, inspect, Alembic, pandas."""

from __future__ import annotations

import sqlalchemy as sa

from sojourn.flow import Commit, Return
from tests.engine.helpers import begin, fetch, run

metadata = sa.MetaData()
goods = sa.Table(
    "goods",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(30), nullable=False, index=True),
    sa.Column("price", sa.Integer, server_default="0"),
)


def test_create_all_and_inspect(db):
    """Tables are made and seen, then used by a session's connection."""
    engine = db.create_engine()
    metadata.create_all(engine)
    inspector = sa.inspect(engine)

    assert inspector.has_table("goods")
    assert [column["name"] for column in inspector.get_columns("goods")] == ["id", "name", "price"]
    assert [index["column_names"] for index in inspector.get_indexes("goods")] == [["name"]]
    lane = begin(engine)
    assert run(lane, sa.insert(goods).values(name="tea")) == 1
    lane.perform(Commit(lane))
    lane.perform(Return(lane))
    metadata.drop_all(engine)
    assert not sa.inspect(engine).has_table("goods")


def test_alembic_writes_a_migration_and_runs_it(sqlite_db, tmp_path):
    """`revision --autogenerate` sees what is missing, `upgrade head` makes it."""
    from alembic import command
    from alembic.config import Config

    folder = tmp_path / "migrations"
    config = Config(str(tmp_path / "alembic.ini"))
    config.set_main_option("script_location", str(folder))
    command.init(config, str(folder))
    (folder / "env.py").write_text(
        "from alembic import context\n"
        "engine, metadata = context.config.attributes['sojourn']\n"
        "with engine.connect() as connection:\n"
        "    context.configure(connection=connection, target_metadata=metadata)\n"
        "    with context.begin_transaction():\n"
        "        context.run_migrations()\n"
    )
    engine = sqlite_db.create_engine()
    config.attributes["sojourn"] = (engine, metadata)

    script = command.revision(config, "goods", autogenerate=True)
    assert "op.create_table('goods'" in folder.joinpath("versions", script.path.split("/")[-1]).read_text()
    command.upgrade(config, "head")

    assert sa.inspect(engine).has_table("goods")
    command.check(config)  # nothing is left to do
    command.downgrade(config, "base")
    assert not sa.inspect(engine).has_table("goods")


def test_alembic_compares_on_every_database(db):
    """compare_metadata finds nothing where create_all was run, and a dropped table afterwards."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    engine = db.create_engine()
    metadata.create_all(engine)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    metadata.drop_all(engine)
    with engine.connect() as connection:
        found = compare_metadata(MigrationContext.configure(connection), metadata)
    assert [entry[0] for entry in found] == ["add_table", "add_index"]


def test_pandas_reads_and_writes(db):
    """to_sql makes a table that a session's connection reads; read_sql reads statements of ours."""
    import pandas as pd

    engine = db.create_engine()
    frame = pd.DataFrame({"id": [1, 2, 3], "name": ["a", "b", "c"]})
    frame.to_sql("frames", engine, index=False)
    table = sa.Table("frames", sa.MetaData(), sa.Column("id", sa.Integer), sa.Column("name", sa.String))
    lane = begin(engine)
    assert fetch(lane, sa.select(table.c.name).order_by(table.c.id), scalars=True) == ["a", "b", "c"]
    lane.perform(Return(lane))

    read = pd.read_sql(sa.select(table).where(table.c.id > 1).order_by(table.c.id), engine)
    assert read["name"].tolist() == ["b", "c"]
    with engine.begin() as connection:
        assert pd.read_sql("SELECT count(*) AS n FROM frames", connection)["n"].tolist() == [3]
        connection.exec_driver_sql("DROP TABLE frames")
