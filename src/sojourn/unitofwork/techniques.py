"""How many rows become one statement: the SQL texts of each technique.

A technique is a word. Each has an eligibility rule; where it does not hold the next best is taken:

========================  ======================================================  ============================
word                      statement                                               used when
========================  ======================================================  ============================
``each, lastrowid``       INSERT, executed per row in a compiled loop             a row id is all that returns
``values``                INSERT ... VALUES (...), (...)                          nothing has to return
``values, returning``     the same with RETURNING                                 keys or defaults return
``ordered values``        INSERT ... SELECT FROM (VALUES ...) ORDER BY n          PostgreSQL, keys are made
``unnest``                the same from one array per column                      PostgreSQL, plain types
``range``                 VALUES, then LAST_INSERT_ID()                           MySQL: no RETURNING
``each, returning``       INSERT ... RETURNING per row                            key order means nothing
``one by one``            Core's own statement per row                            SQL expressions as values
``executemany``           UPDATE / DELETE per row, sent as one batch              always possible
``from values``           UPDATE ... FROM (VALUES ...)                            SQLite, psycopg2
``from unnest``           UPDATE ... FROM unnest(...)                             PostgreSQL, array parameters
``join values``           UPDATE ... JOIN (SELECT ... UNION ALL VALUES ...)       MariaDB
``in``, ``any``           DELETE ... WHERE key IN (...) / = ANY(array)            any number of keys
========================  ======================================================  ============================

Keys are matched to entities by rules that hold under concurrency and triggers: a row id per row, own keys
that come back, or keys the database hands out in the order of an ORDER BY (see `matching.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import bindparam
from sqlalchemy.exc import CompileError
from sqlalchemy.sql import sqltypes

from sojourn.plans import text_plan

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sojourn.plans import StatementPlan
    from sojourn.symbols import Traits

#: Rows in one VALUES list. SQLite is fastest around 100-250 rows, the servers gain up to 1000 (bench notes).
PAGE: Final = {"sqlite": 200, "postgresql": 500, "mysql": 1000, "mariadb": 1000}
#: From this many rows on, one VALUES ... RETURNING beats a statement per row on SQLite (measured: 15).
EACH_UP_TO: Final = 15
#: Up to this many rows a VALUES list beats array parameters on PostgreSQL (measured: about 50).
UNNEST_FROM: Final = 50
#: Texts kept per statement shape; page remainders of every size would fill memory otherwise.
TEXTS_KEPT: Final = 64
_PLAIN_TYPES: Final = (
    sqltypes.Integer,
    sqltypes.String,
    sqltypes.Boolean,
    sqltypes.Numeric,
    sqltypes.Float,
    sqltypes.DateTime,
    sqltypes.Date,
    sqltypes.Time,
    sqltypes.Interval,
    sqltypes.LargeBinary,
    sqltypes.Uuid,
)
_SIZED_TYPES: Final = (sqltypes.String, sqltypes.Numeric, sqltypes.Float)


class Bind:
    """How the value of one column is written as a parameter: `head` mark `tail`, as Core writes it."""

    __slots__ = ("cast", "head", "processor", "simple", "tail")

    def __init__(self, type_: Any, dialect: Any, traits: Traits) -> None:
        self.head = self.tail = ""
        self.cast = ""  # the type's name where a cast is safe, for arrays and VALUES lists
        self.simple = False
        impl = type_.dialect_impl(dialect)
        self.processor = impl.bind_processor(dialect)
        first = traits.mark.replace("$n", "$1")
        text = str(bindparam("p", type_=type_).compile(dialect=dialect))
        self.simple = text.count(first) == 1  # else Core has to write the statement
        if not self.simple:
            return
        self.head, _, self.tail = text.partition(first)
        if traits.dialect != "postgresql" or self.head or (self.tail and not self.tail.startswith("::")):
            return
        if self.tail:
            self.cast = self.tail[2:]
        elif isinstance(impl, _PLAIN_TYPES):
            try:
                self.cast = str(dialect.type_compiler_instance.process(impl))
            except CompileError:
                return
        if isinstance(impl, _SIZED_TYPES) and not isinstance(impl, sqltypes.Enum):
            self.cast = self.cast.partition("(")[0]  # a cast to VARCHAR(30) would cut, NUMERIC(10, 2) round

    @property
    def array(self) -> bool:
        """Whether a list of such values can travel as one array parameter."""
        return bool(self.cast) and "[" not in self.cast


class Texts:
    """The texts of one statement shape by number of rows; bounded."""

    __slots__ = ("_plans",)

    def __init__(self) -> None:
        self._plans: dict[Any, StatementPlan] = {}

    def find(self, key: Any) -> StatementPlan | None:
        """Return the plan kept under *key*, or None."""
        return self._plans.get(key)

    def keep(self, key: Any, text: str, processors: Sequence[Any] | None, returns: bool) -> StatementPlan:
        """Make a plan of *text* and keep it under *key*."""
        if len(self._plans) >= TEXTS_KEPT:
            self._plans.clear()
        plan = self._plans[key] = text_plan(
            text, row_processors=None if processors is None else tuple(processors), returns_rows=returns
        )
        return plan


# -- writing parameters -------------------------------------------------------------------------


def params_of(binds: Sequence[Bind], traits: Traits, *, cast: bool = False) -> list[str]:
    """Return the text of each parameter; `%d` stands for the number where marks are numbered."""
    texts = []
    for bind in binds:
        tail = f"::{bind.cast}" if cast and bind.cast else bind.tail
        if traits.mark == "$n":
            texts.append(f"{bind.head.replace('%', '%%')}$%d{tail.replace('%', '%%')}")
        else:
            texts.append(f"{bind.head}{traits.mark}{tail}")
    return texts


def numbered(texts: Sequence[str], traits: Traits) -> list[str]:
    """Return single parameters with their numbers filled in."""
    return [text % (n + 1) for n, text in enumerate(texts)] if traits.mark == "$n" else list(texts)


def row_of(binds: Sequence[Bind], traits: Traits, *, cast: bool = False, extra: Sequence[str] = ()) -> str:
    """Return the text of one row of parameters, *extra* texts at its end."""
    return f"({', '.join([*params_of(binds, traits, cast=cast), *extra])})"


def rows_of(row: str, width: int, count: int, traits: Traits, start: int = 1) -> str:
    """Return *count* rows of parameters, separated by commas."""
    text = row if count == 1 else ", ".join([row] * count)
    return text % tuple(range(start, start + width * count)) if traits.mark == "$n" else text


def numbered_rows(row: str, width: int, count: int, traits: Traits) -> str:
    """Return rows that end in their own number, written as a literal (`@` stands for it in *row*)."""
    head, _, tail = row.rpartition("@")
    text = ", ".join([f"{head}{n}{tail}" for n in range(count)])
    return text % tuple(range(1, 1 + width * count)) if traits.mark == "$n" else text


def page_of(width: int, traits: Traits) -> int:
    """Return how many rows of *width* parameters go into one statement."""
    return max(1, min(PAGE.get(traits.dialect, 500), traits.max_parameters // max(1, width)))


# -- INSERT -------------------------------------------------------------------------------------


def insert_values(
    table: str,
    columns: Sequence[str],
    binds: Sequence[Bind],
    inline: Sequence[str],
    returning: str,
    count: int,
    traits: Traits,
) -> str:
    """Write INSERT ... VALUES for *count* rows; *inline* are the SQL texts of the last columns."""
    if not columns:
        body = "() VALUES ()" if traits.dialect in ("mysql", "mariadb") else "DEFAULT VALUES"
        return f"INSERT INTO {table} {body}{returning}"
    row = row_of(binds, traits, extra=_quoted(inline, traits))
    rows = rows_of(row, len(binds), count, traits)
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES {rows}{returning}"


def insert_ordered(
    table: str,
    columns: Sequence[str],
    binds: Sequence[Bind],
    inline: Sequence[str],
    returning: str,
    count: int,
    traits: Traits,
) -> str:
    """Write INSERT ... SELECT FROM (VALUES ...) ORDER BY n: the order in which keys are made is promised."""
    names = [f"c{n}" for n in range(len(binds))]
    row = row_of(binds, traits, cast=True, extra=("@",))
    values = numbered_rows(row, len(binds), count, traits)
    picked = ", ".join([*(f"v.{name}" for name in names), *inline])
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT {picked} "
        f"FROM (VALUES {values}) AS v ({', '.join([*names, 'n'])}) ORDER BY v.n{returning}"
    )


def insert_unnest(
    table: str, columns: Sequence[str], binds: Sequence[Bind], inline: Sequence[str], returning: str
) -> str:
    """Write INSERT ... SELECT FROM unnest(arrays) WITH ORDINALITY ORDER BY n: one text for any number."""
    names = [f"c{n}" for n in range(len(binds))]
    arrays = ", ".join(f"${n + 1}::{bind.cast}[]" for n, bind in enumerate(binds))
    picked = ", ".join([*(f"v.{name}" for name in names), *inline])
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT {picked} FROM unnest({arrays}) "
        f"WITH ORDINALITY AS v ({', '.join([*names, 'n'])}) ORDER BY v.n{returning}"
    )


def _quoted(inline: Iterable[str], traits: Traits) -> list[str]:
    """Double the percent signs of SQL that goes through `%` formatting of numbers."""
    return [text.replace("%", "%%") if traits.mark == "$n" else text for text in inline]


# -- UPDATE: rows are (new values..., key values..., version) ------------------------------------


def update_each(
    table: str, sets: Sequence[str], keys: Sequence[str], binds: Sequence[Bind], inline: str, returning: str,
    traits: Traits,
) -> str:  # fmt: skip
    """Write UPDATE ... WHERE key = ? for one row."""
    texts = numbered(params_of(binds, traits), traits)
    parts = [f"{name} = {text}" for name, text in zip(sets, texts, strict=False)]
    where = [f"{name} = {text}" for name, text in zip(keys, texts[len(sets) :], strict=True)]
    return (
        f"UPDATE {table} SET {', '.join([*parts, *([inline] if inline else [])])} "
        f"WHERE {' AND '.join(where)}{returning}"
    )


def update_values(
    table: str, sets: Sequence[str], keys: Sequence[str], binds: Sequence[Bind], inline: str, count: int,
    traits: Traits,
) -> str:  # fmt: skip
    """Write UPDATE ... FROM (VALUES ...); SQLite names such columns column1, column2, ... by itself."""
    sqlite = traits.dialect == "sqlite"
    names = [f"column{n + 1}" if sqlite else f"c{n}" for n in range(len(binds))]
    values = rows_of(row_of(binds, traits, cast=not sqlite), len(binds), count, traits)
    alias = "v" if sqlite else f"v ({', '.join(names)})"
    return _update_from(table, sets, keys, names, inline, f"(VALUES {values}) AS {alias}")


def update_unnest(
    table: str, sets: Sequence[str], keys: Sequence[str], binds: Sequence[Bind], inline: str
) -> str:
    """Write UPDATE ... FROM unnest(arrays)."""
    names = [f"c{n}" for n in range(len(binds))]
    arrays = ", ".join(f"${n + 1}::{bind.cast}[]" for n, bind in enumerate(binds))
    return _update_from(table, sets, keys, names, inline, f"unnest({arrays}) AS v ({', '.join(names)})")


def _update_from(
    table: str, sets: Sequence[str], keys: Sequence[str], names: Sequence[str], inline: str, source: str
) -> str:
    parts = [f"{name} = v.{new}" for name, new in zip(sets, names, strict=False)]
    where = [f"{table}.{name} = v.{new}" for name, new in zip(keys, names[len(sets) :], strict=True)]
    return (
        f"UPDATE {table} SET {', '.join([*parts, *([inline] if inline else [])])} "
        f"FROM {source} WHERE {' AND '.join(where)}"
    )


def update_join(
    table: str, sets: Sequence[str], keys: Sequence[str], width: int, inline: str, count: int, traits: Traits
) -> str:
    """Write MariaDB's UPDATE ... JOIN over a table of values."""
    names = [f"c{n}" for n in range(width)]
    first = ", ".join(f"{traits.mark} AS {name}" for name in names)
    row = f"({', '.join([traits.mark] * width)})"
    more = f" UNION ALL VALUES {', '.join([row] * (count - 1))}" if count > 1 else ""
    parts = [f"{table}.{name} = v.{new}" for name, new in zip(sets, names, strict=False)]
    where = [f"{table}.{name} = v.{new}" for name, new in zip(keys, names[len(sets) :], strict=True)]
    return (
        f"UPDATE {table} JOIN (SELECT {first}{more}) AS v ON {' AND '.join(where)} "
        f"SET {', '.join([*parts, *([inline] if inline else [])])}"
    )


# -- DELETE and SELECT by key: rows are (key values..., version) ----------------------------------


def where_in(keys: Sequence[str], binds: Sequence[Bind], count: int, traits: Traits) -> str:
    """Write `key IN (...)` or `(a, b) IN (...)` for *count* rows."""
    row = row_of(binds, traits)
    if len(keys) == 1:
        return f"{keys[0]} IN ({rows_of(row[1:-1], 1, count, traits)})"
    values = rows_of(row, len(binds), count, traits)
    body = f"VALUES {values}" if traits.dialect == "sqlite" else values
    return f"({', '.join(keys)}) IN ({body})"


def where_any(keys: Sequence[str], binds: Sequence[Bind]) -> str:
    """Write `key = ANY(array)`, or `(a, b) IN (SELECT ... FROM unnest(arrays))`."""
    if len(keys) == 1:
        return f"{keys[0]} = ANY($1::{binds[0].cast}[])"
    arrays = ", ".join(f"${n + 1}::{bind.cast}[]" for n, bind in enumerate(binds))
    return f"({', '.join(keys)}) IN (SELECT * FROM unnest({arrays}))"
