"""Which statements may change a session beyond their transaction; E7 rests on it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.engine.taint import LONG, changes_session, is_plain_read

ALL = ("postgresql", "mysql", "mariadb", "sqlite")
HARMLESS = (
    "SELECT 1",
    "  \n(SELECT a FROM t) UNION SELECT b FROM u",
    "UPDATE t SET a = 1, b = 2 WHERE id = 3",
    "UPDATE t\nSET a = 1",
    "INSERT INTO t (a) VALUES ('SET x = 1')",
    "INSERT INTO settings (name) VALUES ('x;y')",
    "DELETE FROM t WHERE name = 'LISTEN'",
    "WITH x AS (SELECT 1) SELECT * FROM x",
    "SELECT reset, load, set_at FROM t",
    "SELECT 1; SELECT 2",
    "CREATE TABLE t (id INT PRIMARY KEY)",
    "CREATE TABLE temperature (id INT)",
    "CREATE INDEX i ON t (a)",
    "SAVEPOINT a",
    "COMMIT",
    "-- SET x = 1\nSELECT 1",
    "/* SET x = 1 */ SELECT 1",
    "SELECT 'it''s; SET x = 1'",
    'SELECT "a; SET b" FROM t',
    "",
)
LASTING = {
    "postgresql": (
        "SET search_path TO x",
        "set  session timezone = 'UTC'",
        "SET ROLE admin",
        "SET\nx = 1",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "SET SESSION AUTHORIZATION joe",
        "RESET ALL",
        "DISCARD TEMP",
        "LISTEN news",
        "UNLISTEN *",
        "LOAD 'auto_explain'",
        "PREPARE p AS SELECT 1",
        "DEALLOCATE ALL",
        "EXECUTE p",
        "DO $$ BEGIN END $$",
        "CALL p()",
        "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
        "CREATE TEMP TABLE t (a int)",
        "CREATE LOCAL TEMPORARY TABLE t (a int)",
        "CREATE OR REPLACE TEMP VIEW v AS SELECT 1",
        "CREATE TABLE pg_temp.t (a int)",
        "SELECT 1 INTO TEMP x",
        "SELECT set_config('a.b', 'c', false)",
        "SELECT set_config($1, $2, $3)",
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_try_advisory_lock_shared(1)",
        "SELECT setseed(0.5)",
        "SELECT 1; SET x = 1",
        "SELECT 'a'; SET x = 1",
        "/* hint */ SET x = 1",
        "-- why\n SET x = 1",
        "(SET x = 1",
        "SELECT $$;$$; SET x = 1",
        "/* /* */ */ SET x = 1;",
        "SELECT E'\\'; SET x = 1; --'",
        "EXPLAIN ANALYZE CREATE TEMP TABLE t AS SELECT 1",
        "SELECT 'never closed; SET x = 1",
    ),
    "mysql": (
        "SET x = 1",
        "SET @x = 1",
        "SET LOCAL sql_mode = ''",
        "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SET NAMES utf8",
        "SET@x=1",
        "USE other",
        "LOCK TABLES t WRITE",
        "FLUSH TABLES WITH READ LOCK",
        "SELECT GET_LOCK('a', 1)",
        "SELECT @n := @n + 1",
        "SELECT 1 INTO @x",
        "HANDLER t OPEN",
        "PREPARE p FROM 'SELECT 1'",
        "EXECUTE IMMEDIATE 'SET @x = 1'",
        "CREATE TEMPORARY TABLE t (a INT)",
        "CREATE OR REPLACE TEMPORARY TABLE t (a INT)",
        "CALL p()",
        "DO RELEASE_LOCK('a')",
        "/*!40101 SET x=1 */",
        "XA START 'a'",
        "SELECT 1--2; SET x = 1",
        "# why\nSET x = 1",
        "SELECT 'a\\'; SET x = 1; SELECT '",
        "BEGIN NOT ATOMIC SET @x = 1; END",
        "SELECT 1 AS `a`; USE b",
        "SELECT $$; SET x = 1; SELECT $$",
    ),
    "sqlite": (
        "PRAGMA foreign_keys = ON",
        "PRAGMA foreign_keys(1)",
        "pragma main.cache_size=-1",
        "ATTACH 'x' AS y",
        "DETACH y",
        "CREATE TEMP TABLE t (a)",
        "CREATE TEMPORARY VIEW v AS SELECT 1",
        "CREATE TABLE temp.t (a)",
        "INSERT INTO temp.t VALUES (1)",
        'INSERT INTO "temp".t VALUES (1)',
        "SELECT load_extension('x')",
        "SELECT 1; PRAGMA foreign_keys=1;",
    ),
}
PASSING = {
    "postgresql": (
        "SET LOCAL search_path TO x",
        "set  local x = 1",
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SET CONSTRAINTS ALL DEFERRED",
        "SELECT set_config('a.b', 'c', true)",
        "SELECT set_config($1, $2, TRUE)",
        "SELECT pg_advisory_xact_lock(1)",
        "PREPARE TRANSACTION 'a'",
        "DECLARE c CURSOR FOR SELECT 1",
        "NOTIFY news",
        "SELECT a #> b FROM t",
        "SELECT 1;",
        "BEGIN; UPDATE t SET a = 1; COMMIT",
        "SELECT $$SET x$$",
        "COPY t FROM STDIN",
        "LOCK TABLE t",
        "CREATE FUNCTION f() RETURNS int AS $f$ SET x; $f$",
    ),
    "mysql": (
        "SET TRANSACTION READ ONLY",
        "SELECT @x",
        "LOAD DATA INFILE 'x' INTO TABLE t",
        "UNLOCK TABLES",
        "SELECT * FROM t LOCK IN SHARE MODE",
        "SHOW TABLES",
        "SELECT 'a\\'b'",
        "-- why\nSELECT 1",
        "START TRANSACTION",
        "INSERT INTO t VALUES (1) ON DUPLICATE KEY UPDATE a = VALUES(a)",
    ),
    "sqlite": (
        "PRAGMA foreign_keys",
        'PRAGMA main.table_info("t")',
        "PRAGMA table_xinfo('t')",
        "PRAGMA index_list(t)",
        "PRAGMA wal_checkpoint(TRUNCATE)",
        'PRAGMA temp.table_info("t")',
        "SELECT * FROM temp.t",
        "REPLACE INTO t VALUES (1)",
        "VACUUM",
        "SELECT temp FROM weather",
    ),
}


@pytest.mark.parametrize("dialect", [*ALL, "other"])
def test_e7_ordinary_statements_leave_the_session_as_it_is(dialect):
    """Reads, writes, words inside strings and comments: no clean-up is due."""
    texts = [text for text in HARMLESS if dialect != "other" or not text.startswith("CREATE")]

    assert [text for text in texts if changes_session(text, dialect)] == []


@pytest.mark.parametrize("dialect", ["postgresql", "mysql", "mariadb", "sqlite"])
def test_e7_what_outlives_a_transaction_is_found(dialect):
    """Settings, roles, temporary objects, locks, listening; also behind comments and other statements."""
    texts = LASTING[dialect.replace("mariadb", "mysql")]

    assert [text for text in texts if not changes_session(text, dialect)] == []


@pytest.mark.parametrize("dialect", ["postgresql", "mysql", "mariadb", "sqlite"])
def test_what_ends_with_its_transaction_does_not_count(dialect):
    """A clean-up for SET LOCAL would be a round trip for nothing."""
    texts = PASSING[dialect.replace("mariadb", "mysql")]

    assert [text for text in texts if changes_session(text, dialect)] == []


@pytest.mark.parametrize("text", ["SET x = 1", "ALTER SESSION SET x = 1", "SELECT 1; EXEC x", "USE a"])
def test_of_an_unknown_database_only_plain_statements_are_harmless(text):
    """Nobody knows what its words mean."""
    assert changes_session(text, "other")


def test_long_texts_are_not_remembered():
    """A bulk INSERT of megabytes is read and forgotten."""
    rows = ", ".join(["('SET x = 1;')"] * LONG)

    assert not changes_session(f"INSERT INTO t VALUES {rows}", "postgresql")
    assert changes_session(f"INSERT INTO t VALUES {rows}; SET x = 1", "postgresql")


_harmless_parts = st.sampled_from(
    [
        "SELECT 1",
        "'a;b'",
        "''",
        '"x;y"',
        "/* ; */",
        "-- ;\n",
        "UPDATE t SET a = 1",
        "(",
        ")",
        "\n",
        "$1",
        "a - b",
    ]
)


@given(st.lists(_harmless_parts, max_size=6), st.sampled_from(ALL), st.data())
def test_e7_nothing_before_it_hides_a_statement(parts, dialect, data):
    """Whatever came before the semicolon, a lasting statement after it is seen."""
    lasting = data.draw(
        st.sampled_from([text for text in LASTING[dialect.replace("mariadb", "mysql")] if ";" not in text])
    )

    assert changes_session(f"{' '.join(parts)};{lasting}", dialect)


@given(st.text(max_size=60), st.sampled_from([*ALL, "other"]))
def test_any_text_has_an_answer(text, dialect):
    """What is no SQL is answered too, and a comment or blank before it does not change the answer."""
    answer = changes_session(text, dialect)

    assert answer is changes_session(f" \n{text}", dialect)


PLAIN = (
    "SELECT 1",
    "SELECT a, count(*) FROM t WHERE b IN ($1, $2) GROUP BY a HAVING max(c) > 3",
    "(SELECT a FROM t) UNION (SELECT b FROM u)",
    "WITH x AS (SELECT coalesce(a, 'x') AS a FROM t) SELECT * FROM x LIMIT %s",
    "SELECT CAST(a AS NUMERIC(10, 2)) FROM t JOIN u USING (id)",
    "SELECT EXISTS (SELECT 1 FROM t WHERE NOT (a = 1 OR (b = 2)))",
)
NOT_PLAIN = (
    "UPDATE t SET a = 1",
    "INSERT INTO t VALUES (1) RETURNING id",
    "SELECT * FROM t FOR UPDATE",
    "SELECT * FROM t LOCK IN SHARE MODE",
    "WITH x AS (DELETE FROM t RETURNING a) SELECT * FROM x",
    "SELECT nextval('s')",
    "SELECT my_function(1)",
    'SELECT "Count"(1)',
    "SELECT app.count_and_log(1)",
    "SELECT a INTO b FROM t",
    "SELECT 1; UPDATE t SET a = 1",
    "SELECT pg_advisory_xact_lock(1)",
    "SELECT @x := 1",
    "CALL p()",
    "PRAGMA foreign_keys",
    "",
)


@pytest.mark.parametrize("dialect", [*ALL, "other"])
def test_plain_reads_may_be_sent_twice(dialect):
    """Queries with known functions only; anything that locks, writes or calls the unknown is not one."""
    assert [text for text in PLAIN if not is_plain_read(text, dialect)] == []
    assert [text for text in NOT_PLAIN if is_plain_read(text, dialect)] == []
