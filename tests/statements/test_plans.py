"""Plans: found by shape, never stale, bounded, safe under threads, right for every parameter style."""

from __future__ import annotations

import datetime as dt
import threading
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite

from sojourn.errors import BindMissing, ParameterRefused, TooManyParameters
from sojourn.kernel import record as kernel
from sojourn.plans import PlanCache, compile_plan, plan_for_core, plan_for_recording, text_plan
from sojourn.statements import and_, func, or_, select
from sojourn.statements.shapes import leaf
from tests.statements.world import Color, Part, Thing, make_engine, plan_of, run


@pytest.fixture
def engine() -> Any:
    made = make_engine()
    yield made
    made.dispose()


def by_dialect(dialect: Any, capacity: int = 100) -> Any:
    """Make what a plan needs of an engine, for a dialect whose database need not be there."""
    return SimpleNamespace(
        plan_dialect=dialect, plan_cache=PlanCache(capacity), traits=SimpleNamespace(max_parameters=1000)
    )


def test_one_row_is_asked_for_by_a_constant(engine: Any) -> None:
    """LIMIT 1 is part of the text, which servers then plan once; other numbers are parameters."""
    texts = []
    for n in (1, 2):
        plan = plan_for_recording(select(Thing).where(Thing.n == 3).limit(n), engine)
        texts.append(plan.text)

    assert texts[0].endswith("LIMIT 1 OFFSET 0")
    assert "LIMIT ?" in texts[1]
    one, two = (run(engine, select(Thing.id).order_by(Thing.id).limit(n)) for n in (1, 2))
    assert (len(one), len(two), one) == (1, 2, two[:1])


# -- hits ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda n: select(Thing).where(Thing.id == n),
        lambda n: (
            select(Thing)
            .where(Thing.n > n, Thing.s == str(n))
            .order_by(Thing.id.desc())
            .limit(n + 2)
            .offset(n)
        ),
        lambda n: select(Thing.id, Thing.n).where(or_(Thing.n.is_(None), Thing.n == n)),
        lambda n: select(Thing).where(Thing.id.in_(range(n + 1))),
        lambda n: select(Thing).where(Thing.price > n),
        lambda n: select(Thing).where(Thing.s.like(f"{n}%"), ~(Thing.weight < n)),
        lambda n: select(func.count(Thing.id)).where(Thing.id.between(n, n + 2)),
        lambda n: select(Thing).filter_by(n=n, s=str(n)),
        lambda n: select(Thing).where(Thing.id == sa.func.abs(n)),
        lambda n: select(Thing).where(Thing.id.in_(select(Part.thing_id).where(Part.id == n))),
        lambda n: select(Thing).where(func.coalesce(Thing.n, n) == n),
        lambda n: sa.select(Thing).where(Thing.id == n),
    ],
)
def test_other_literals_hit(engine: Any, make: Any) -> None:
    """The same statement with other literals compiles nothing."""
    run(engine, make(1))
    before = engine.plan_cache.misses
    for n in (2, 3, 0):
        run(engine, make(n))
    assert engine.plan_cache.misses == before


def test_plain_parameters_go_to_the_driver_as_they_are(engine: Any) -> None:
    """Where nothing needs to be moved or converted, the literals' own tuple is what the driver gets."""
    statement = select(Thing).where(Thing.id == 1, Thing.s == "x")
    plan, params = plan_of(engine, statement)
    assert plan.direct
    assert plan.bind(params)[1] is statement.params


def test_bind_processors_are_the_types_own(engine: Any) -> None:
    """A literal is converted as its column's type converts it."""
    plan, params = plan_of(
        engine, select(Thing).where(Thing.d == dt.date(2020, 1, 1), Thing.color == Color.red)
    )
    assert plan.bind(params)[1] == ("2020-01-01", "red")


# -- values that decide about the plan -----------------------------------------------------------------


def types_of(engine: Any, statement: Any) -> list[str]:
    plan, _ = plan_of(engine, statement)
    return [repr(bind.type) for bind in plan.compiled.bind_names]


def test_the_sql_type_follows_the_value() -> None:
    """Where Core picks a literal's type by its value, small and large have their own plans."""
    engine = by_dialect(sqlite.dialect())
    assert types_of(engine, select(Thing).where(Thing.price == 5)) == ["Integer()"]
    assert types_of(engine, select(Thing).where(Thing.price == 2**40)) == ["BigInteger()"]
    assert types_of(engine, select(Thing).where(Thing.price == 6)) == ["Integer()"]
    assert types_of(engine, select(Thing).where(Thing.n == 2**40)) == ["Integer()"]
    utc = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    assert types_of(engine, select(Thing).where(Thing.n == utc)) == ["DateTime(timezone=True)"]
    assert types_of(engine, select(Thing).where(Thing.n == utc.replace(tzinfo=None))) == ["DateTime()"]
    assert types_of(engine, select(Thing).where(Thing.n.in_([2**40]))) == ["Integer()"]
    assert types_of(engine, select(Thing).where(Thing.weight.in_([1]))) == ["Integer()"]
    assert types_of(engine, select(Thing).where(Thing.weight.in_([2**40]))) == ["BigInteger()"]
    assert types_of(engine, select(func.coalesce(Thing.n, 1))) == ["Integer()"]
    assert types_of(engine, select(func.coalesce(Thing.n, 2**40))) == ["BigInteger()"]


def test_none_true_and_false_are_part_of_the_shape(engine: Any) -> None:
    """IS NULL is never a bind, whatever ran before."""
    for value in (1, None, 2, None):
        plan, params = plan_of(engine, select(Thing).where(Thing.n == value))
        assert ("IS NULL" in plan.text) is (value is None)
        assert params == (() if value is None else (value,))
    assert "IS NOT NULL" in plan_of(engine, select(Thing).where(Thing.n != None))[0].text  # noqa: E711


class Upper(sa.types.TypeDecorator[str]):
    """Text stored in capitals, compared to integers as integers."""

    impl = sa.String
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return str(value).upper() if value is not None else None

    def coerce_compared_value(self, op: Any, value: Any) -> Any:
        return sa.Integer() if isinstance(value, int) and value > 10 else self


class Uncached(sa.types.TypeDecorator[str]):
    """A type that does not say whether it may be cached."""

    impl = sa.String

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return f"<{value}>"


class Folding(sa.String):
    """A type with a comparator of its own."""

    class comparator_factory(sa.String.Comparator):
        def __eq__(self, other: Any) -> Any:
            return sa.func.lower(self.expr) == sa.func.lower(other)


from sojourn.mapping import Mapped, mapped_column  # noqa: E402
from tests.statements.world import Base  # noqa: E402


class Odd(Base):
    """A row of types with their own minds."""

    __tablename__ = "odd"

    id: Mapped[int] = mapped_column(primary_key=True)
    upper: Mapped[str] = mapped_column(Upper)
    uncached: Mapped[str] = mapped_column(Uncached)
    folding: Mapped[str] = mapped_column(Folding)
    data: Mapped[Any] = mapped_column(sa.JSON)
    uid: Mapped[Any] = mapped_column(sa.Uuid)


def same_as_core(statement: Any, dialect: Any = None) -> None:
    """Check text and arguments against what Core itself makes of the same statement."""
    engine = by_dialect(dialect or sqlite.dialect())
    for _ in range(2):
        plan, params = plan_of(engine, statement)
        core = statement.core() if hasattr(statement, "core") else statement
        compiled = core.compile(dialect=engine.plan_dialect)
        state = compiled.construct_expanded_state()
        processors = {**compiled._bind_processors, **state.processors}
        escaped = compiled.escaped_bind_names or {}
        args = [state.parameters[escaped.get(name, name)] for name in state.positiontup]
        wanted = tuple(
            value if processors.get(name) is None else processors[name](value)
            for name, value in zip(state.positiontup, args, strict=True)
        )
        assert plan.bind(params) == (state.statement, wanted)


@pytest.mark.parametrize(
    "criterion",
    [
        lambda: Odd.upper == "abc",
        lambda: Odd.upper == 5,
        lambda: Odd.upper == 50,
        lambda: Odd.upper.in_(["a", "b"]),
        lambda: Odd.folding == "AbC",
        lambda: Odd.folding == Odd.upper,
        lambda: Odd.folding != "x",
        lambda: Odd.data["a"]["b"].as_integer() == 5,
        lambda: Odd.data == {"a": 1},
        lambda: Odd.data["k"].as_string().in_(["a"]),
        lambda: Thing.s.startswith("a%", autoescape=True),
        lambda: Thing.s.contains("a/b", escape="/"),
        lambda: Thing.s.regexp_match("a.*", flags=None),
        lambda: Thing.s.op("GLOB")("a*"),
        lambda: Thing.s.collate("NOCASE") == "abc",
        lambda: Thing.s.concat("x") == "abcx",
        lambda: "x" + Thing.s == "xabc",
        lambda: Thing.n.bitwise_and(3) == 1,
        lambda: -Thing.n + 5 > Thing.id % 3,
        lambda: Thing.n // 2 == 1,
        lambda: Thing.weight / 2 == 1.5,
        lambda: 10 - Thing.n == 5,
        lambda: Thing.d > dt.date(2000, 1, 1),
        lambda: Thing.s.cast(sa.Integer) == 5,
        lambda: sa.type_coerce(Thing.s, sa.Integer) == 5,
        lambda: Thing.on == True,  # noqa: E712
        lambda: Thing.on.is_(True),
        lambda: Thing.on,
        lambda: ~Thing.on,
        lambda: Thing.id.in_([sa.literal(1), 2]),
        lambda: Thing.id.in_([1, None]),
        lambda: sa.tuple_(Thing.id, Thing.n).in_([(1, 2), (3, 4)]),
        lambda: sa.tuple_(Thing.id, Thing.s).in_([]),
        lambda: and_(Thing.id == 1, sa.text("1 = 1")),
        lambda: Thing.id == sa.literal(5, literal_execute=True),
        lambda: Thing.id.in_(sa.bindparam("x", [1, 2], expanding=True, literal_execute=True)),
        lambda: Thing.id == sa.bindparam("a b%c", 3),
    ],
)
def test_text_and_arguments_are_core_s(criterion: Any) -> None:
    """Whatever needs Core's own mind gets it: text and arguments are the same, first time and again."""
    for dialect in (sqlite.dialect(), mysql.dialect(paramstyle="format"), postgresql.asyncpg.dialect()):
        try:
            same_as_core(select(Thing.id, Odd.id).where(criterion()), dialect)
        except sa.exc.UnsupportedCompilationError:
            continue


def test_uncacheable_types_are_served() -> None:
    """A TypeDecorator without cache_ok is converted right, recorded or not."""
    engine = by_dialect(sqlite.dialect())
    for value in ("a", "b"):
        plan, params = plan_of(engine, select(Odd.id).where(Odd.uncached == value))
        assert plan.bind(params)[1] == (f"<{value}>",)
        with pytest.warns(sa.exc.SAWarning):
            plan, params = plan_for_core(sa.select(Odd.id).where(Odd.__table__.c.uncached == value), engine)
        assert plan.bind(params)[1] == (f"<{value}>",)


@pytest.mark.parametrize("paramstyle", ["qmark", "format", "numeric_dollar"])
def test_parameter_styles(paramstyle: str) -> None:
    """Positions are right for `?`, `%s` and `$n`, also with lists before and after, and a bind used twice."""
    dialect = {
        "qmark": sqlite.dialect(),
        "format": mysql.dialect(paramstyle="format"),
        "numeric_dollar": postgresql.asyncpg.dialect(),
    }[paramstyle]
    twice = sa.bindparam("twice", 9)
    for items in ([1, 2, 3], [4], [], [5, 6]):
        same_as_core(
            select(Thing.id).where(Thing.n == 1, Thing.id.in_(items), Thing.s == "x", Thing.big.not_in([7])),
            dialect,
        )
        same_as_core(
            sa.select(Thing.id).where(Thing.n == twice, Thing.id.in_(items), Thing.big == twice).limit(3),
            dialect,
        )
        same_as_core(
            select(Thing.id).where(Thing.s.like("50%")).order_by(Thing.id % 2).limit(3).offset(1), dialect
        )


def test_bind_missing(engine: Any) -> None:
    """A bindparam without a value is told by name, also where an equal statement had one before."""
    engine.plan_cache.clear()
    given = sa.select(Thing).where(Thing.id == sa.bindparam("x", 1))
    assert len(run(engine, given)) == 1
    with pytest.raises(BindMissing, match="'x'"):
        run(engine, sa.select(Thing).where(Thing.id == sa.bindparam("x", type_=sa.Integer)))
    with pytest.raises(BindMissing, match="'x'"):
        run(engine, select(Thing).where(Thing.id == sa.bindparam("x", type_=sa.Integer)))


def test_a_value_the_type_refuses(engine: Any) -> None:
    """A literal that the type cannot convert is told with the type before anything is sent."""
    for statement in (
        select(Thing).where(Thing.d == object()),
        select(Thing).where(Thing.at == object(), Thing.id.in_([1])),
        select(Thing).where(Thing.d.in_([object()])),
    ):
        with pytest.raises(sa.exc.StatementError, match="type object") as caught:
            run(engine, statement)
        assert isinstance(caught.value, ParameterRefused)
        assert isinstance(caught.value.orig, TypeError)


def test_too_many_parameters_of_a_type_without_literals() -> None:
    """Values that can't be written into a text are refused with the numbers that explain it."""
    engine = by_dialect(sqlite.dialect())
    plan, params = plan_of(engine, select(Odd.id).where(Odd.data.in_([{"n": n} for n in range(2000)])))
    with pytest.raises(TooManyParameters) as caught:
        plan.bind(params)
    assert (caught.value.length, caught.value.limit) == (2000, 1000)


# -- the cache -----------------------------------------------------------------------------------------


def test_clear_makes_every_plan_stale(engine: Any) -> None:
    """After `engine.dispose()` or `clear()` nothing compiled before is used again."""
    statement = select(Thing).where(Thing.id == 1)
    old, _ = plan_of(engine, statement)
    assert plan_of(engine, statement)[0] is old
    engine.plan_cache.clear()
    assert len(engine.plan_cache) == 0
    assert statement.plan_for(engine.plan_cache.token) is None
    assert plan_of(engine, statement)[0] is not old


def test_engines_do_not_share_plans(engine: Any) -> None:
    """One statement on two engines has two plans, however they take turns."""
    other = by_dialect(postgresql.asyncpg.dialect())
    statement = select(Thing).where(Thing.id == 1)
    for _ in range(3):
        assert "?" in plan_of(engine, statement)[0].text
        assert "$1" in plan_of(other, statement)[0].text
    assert other.plan_cache.misses == 1


def test_the_cache_is_bounded() -> None:
    """The cache keeps its capacity; what was used since is kept before what was not."""
    engine = by_dialect(sqlite.dialect(), capacity=10)
    statements = [select(Thing).where(*[Thing.id == 1] * (n + 1)) for n in range(40)]
    favourite = select(Thing).where(Thing.s == "favourite")
    for statement in statements:
        for each in (favourite, statement):
            plan, params = plan_of(engine, each)
            plan.bind(params)
    assert len(engine.plan_cache) == 10
    assert engine.plan_cache.misses == 41
    assert engine.plan_cache.evictions == 31
    assert statements[0].shape.plan is None
    with pytest.raises(ValueError, match="at least one"):
        PlanCache(0)


def test_core_statements_share_the_bound() -> None:
    """Statements built with Core count as well."""
    engine = by_dialect(sqlite.dialect(), capacity=5)
    for n in range(20):
        plan_for_core(sa.select(Thing).where(*[Thing.id == 1] * (n + 1)), engine)
    assert len(engine.plan_cache) == 5


def test_threads(engine: Any) -> None:
    """Threads that build, find and evict the same statements get right plans."""
    small = [by_dialect(sqlite.dialect(), capacity=3), by_dialect(postgresql.asyncpg.dialect(), capacity=3)]
    wrong: list[Any] = []

    def work(seed: int) -> None:
        for n in range(300):
            target = small[(n + seed) % 2]
            width = (n * 7 + seed) % 6
            statement = select(Thing).where(Thing.id == n, *[Thing.n == k for k in range(width)])
            plan = plan_for_recording(statement, target)
            text, args = plan.bind(statement.params)
            sign = "?" if target is small[0] else "$"
            if text.count(sign) != width + 1 or args != (n, *range(width)):
                wrong.append((text, args))
            if n % 97 == 0:
                target.plan_cache.clear()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert all(len(each.plan_cache) <= 3 + 6 for each in small)


def test_shapes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a limit the roots forget their transitions; statements made before stay valid."""
    engine = by_dialect(sqlite.dialect())
    statement = select(Thing).where(Thing.id == 1)
    kernel.forget()
    assert kernel.shape_count() == 0
    assert plan_for_recording(statement, engine).text.endswith("WHERE thing.id = ?")
    again = select(Thing).where(Thing.id == 2)
    assert again.shape is not statement.shape
    assert plan_for_recording(again, engine).bind(again.params)[1] == (2,)


def test_shape_growth_has_a_limit() -> None:
    """A program that makes ever new shapes keeps a bounded number of them."""
    for n in range(kernel.MAX_SHAPES // 4):
        Thing.id.label(f"name_{n}").desc().nulls_last().asc()
    assert kernel.shape_count() <= kernel.MAX_SHAPES + 10


def test_leaves_of_aliases_are_not_recorded() -> None:
    """An alias is an object: a leaf found by an equal key would bring another one."""
    assert leaf(sa.func.abs(1)) is not None
    assert leaf(sa.alias(Thing.__table__).c.id) is None
    assert leaf(sa.select(Thing.__table__).subquery()) is None
    assert leaf("text") is None


def test_text_plans() -> None:
    """A plan of ready text hands arguments and rows on as they are, or through the given processors."""
    plan = text_plan("SELECT ?", returns_rows=True)
    assert plan.bind((1,)) == ("SELECT ?", (1,))
    assert plan.process_rows([[1]], [("x", None)]) == [(1,)]
    converting = text_plan("SELECT ?, ?", (None, str), returns_rows=True)
    assert converting.process_rows([(1, 2)]) == [(1, "2")]


def test_compile_plan_takes_binds_in_order() -> None:
    """`bind` gets its values in the order of the binds given, wherever the text has them."""
    table = Thing.__table__
    first, second = sa.bindparam("first", type_=sa.Integer), sa.bindparam("second", type_=sa.Integer)
    statement = sa.update(table).where(table.c.id == first).values(n=second)
    plan = compile_plan(statement, [first, second], sqlite.dialect(), None)
    assert plan.bind((1, 2)) == ("UPDATE thing SET n=? WHERE thing.id = ?", (2, 1))
    assert not plan.returns_rows


def test_returning_entities(engine: Any) -> None:
    """RETURNING a class gives entities."""
    statement = sa.update(Part).where(Part.id == 1).values(name="new").returning(Part, Part.id)
    row = run(engine, statement)[0]
    assert (row.Part.name, row.id) == ("new", 1)
    assert "notes" not in vars(row.Part)


def test_a_column_added_later_is_selected() -> None:
    """An attribute given to a mapped class after its first select is in the next one, however it is built."""

    class Late(Base):
        __tablename__ = "late"

        id: Mapped[int] = mapped_column(primary_key=True)

    engine = by_dialect(sqlite.dialect())
    kept = select(Late)
    before = [plan_of(engine, each)[0].text for each in (kept, select(Late), sa.select(Late))]
    assert not any("extra" in text for text in before)
    Late.extra = mapped_column(sa.Integer)
    after = [
        plan_of(engine, each)[0].text for each in (kept, select(Late), sa.select(Late), select(Late.extra))
    ]
    assert all("extra" in text for text in after)
