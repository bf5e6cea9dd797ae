"""Compile each statement once for a driver: text, binds, row shape; keep the plans in a bounded cache.

A recorded statement carries its plan in its shape: a hit is one look at it. A statement built with Core is
found by Core's own cache key. Rendering, IN lists and type processors are always Core's own work; what a plan
keeps is their result, so that the next execution goes straight to the driver.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final
from weakref import WeakSet

from sqlalchemy import literal_column
from sqlalchemy.sql.dml import Delete, Insert, Update
from sqlalchemy.sql.elements import TextClause

from sojourn import corelink
from sojourn.errors import ParameterRefused, SojournError
from sojourn.kernel.binding import Binder
from sojourn.kernel.record import Recording, Shape
from sojourn.kernel.rows import ColumnSlot, EntitySlot, RowLoader
from sojourn.statements.jsontext import read_json, reads_text
from sojourn.statements.recognition import recorded_form
from sojourn.statements.replay import replay
from sojourn.statements.rowshapes import ColumnShape, EntityShape, RowShape, describe, entity_shape, row_keys
from sojourn.statements.shapes import literal_of
from sojourn.statements.tracing import Tracing

Processor = Callable[[Any], Any]


class StatementPlan(Binder):
    """Be one compiled statement: `bind` gives text and arguments, `loader` makes its rows."""

    def __init__(self, text: str, **binding: Any) -> None:
        super().__init__(text, **binding)
        self.statement: Any = None
        self.compiled: Any = None
        self.dialect: Any = None
        self.returns_rows = False
        self.shape: RowShape | None = None  # None: the columns are known by name, at the first execution
        self.by_name = False
        self.single = False  # one value or entity per row
        self.is_entity = False
        self.keys: tuple[str, ...] = ()
        self.loader: RowLoader | None = None
        self.row_processors: tuple[Processor | None, ...] | None = None
        self.names: dict[str, tuple[int, ...]] = {}  # of named binds: the literals they stand for
        self.reusable = True
        self.taints: bool | None = None  # may it change the server session? None: not looked at yet
        self.find_refused: Callable[[tuple[Any, ...]], tuple[Any, Any] | None] | None = None

    @property
    def binder(self) -> Binder:
        """The part that binds; a plan is its own binder."""
        return self

    def refusal(self, error: Exception, params: tuple[Any, ...]) -> Exception:
        """Tell which parameter's type refused its value, and leave other errors as they are."""
        if isinstance(error, SojournError) or self.find_refused is None:
            return error
        found = self.find_refused(params)
        return error if found is None else ParameterRefused(self.text, *found, error)

    def resolve(self, description: Any) -> RowLoader:
        """Make the loader when the driver has described the columns; several threads may do it at once.

        Not earlier, because some processors depend on the driver's type codes (psycopg's numerics).
        """
        if self.loader is not None:
            return self.loader
        names, processors = self._columns(description)
        slots, keys = self._slots(names, processors)
        if not self.keys:
            self.keys = keys
        make_row = None if self.is_entity else corelink.row_maker(self.keys, self._extra(len(slots)))
        loader = RowLoader(slots, make_row)
        self.loader = loader
        return loader

    def process_rows(self, rows: Iterable[Any], description: Any = None) -> list[tuple[Any, ...]]:
        """Return rows as tuples of Python values, not made into entities."""
        processors = self.row_processors
        if processors is None:
            processors = self._columns(description)[1] if self.compiled is not None else ()
            self.row_processors = processors
        if not any(processors):
            return [row if type(row) is tuple else tuple(row) for row in rows]
        return [
            tuple([
                value if processor is None else processor(value)
                for value, processor in zip(row, processors, strict=True)
            ])
            for row in rows
        ]  # fmt: skip

    def fill(self, params: tuple[Any, ...], values: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the literals with those of named binds replaced by the values given at execution."""
        filled = list(params)
        for name, places in self.names.items():
            if name in values:
                value = values[name]
                for place in places:
                    filled[place] = tuple(value) if place in self.expanding else value
        return tuple(filled)

    def _columns(self, description: Any) -> tuple[tuple[str, ...], tuple[Processor | None, ...]]:
        """Return name and result processor of each column the driver describes."""
        described = [(str(entry[0]), entry[1]) for entry in description or ()]
        known = None if self.compiled is None else corelink.result_columns(self.compiled)
        if known is not None and len(known) == len(described):
            pairs = [(name, kind) for name, kind in known]
        else:
            kinds = self._types_asked() if self.by_name else {}
            kinds.update({} if self.compiled is None else corelink.textual_columns(self.compiled))
            pairs = [(name, kinds.get(name)) for name, _ in described]
        processors = tuple([
            None if kind is None else _result_processor(kind, self.dialect, code)
            for (_, kind), (_, code) in zip(pairs, described, strict=True)
        ])  # fmt: skip
        return tuple([name for name, _ in pairs]), processors

    def _types_asked(self) -> dict[str, Any]:
        """Return the types of the columns asked for, by the names a text may give them."""
        kinds: dict[str, Any] = {}
        for part in self.shape or ():
            for column in part.columns if isinstance(part, EntityShape) else (part.element,):
                kinds[str(column.key)] = column.type
        return kinds

    def _slots(
        self, names: tuple[str, ...], processors: tuple[Processor | None, ...]
    ) -> tuple[list[EntitySlot | ColumnSlot], tuple[str, ...]]:
        if self.shape is None:
            return [ColumnSlot(n, p) for n, p in enumerate(processors)], names
        slots: list[EntitySlot | ColumnSlot] = []
        keys: list[str] = []
        at = 0
        for part in self.shape:
            if isinstance(part, ColumnShape):
                place = self._place(part.name, names, at)
                slots.append(ColumnSlot(place, processors[place]))
                keys.append(part.key or names[place])
                at += 1
                continue
            places = [self._place(str(column.key), names, at + n) for n, column in enumerate(part.columns)]
            slots.append(self._entity_slot(part, places, at, processors))
            keys.append(part.key)
            at += len(places)
        return slots, tuple(keys)

    def _place(self, name: str | None, names: tuple[str, ...], place: int) -> int:
        if self.by_name and name in names:
            return names.index(name)
        return place

    def _entity_slot(
        self, part: EntityShape, places: list[int], offset: int, processors: tuple[Processor | None, ...]
    ) -> EntitySlot:
        mapper = part.mapper
        at = dict(zip(part.names, places, strict=True))
        own = tuple([processors[place] if place < len(processors) else None for place in places])
        return EntitySlot(
            mapper.layout, offset, part.names, tuple([at[name] for name in mapper.key_names]), tuple(places),
            own if any(own) else None,
        )  # fmt: skip

    def _extra(self, count: int) -> list[tuple[Any, ...]] | None:
        """Return what else than its name a value of a row may be asked by: the column, the class."""
        if self.shape is None or len(self.shape) != count:
            return None
        return [
            (part.mapper.class_ if isinstance(part, EntityShape) else part.element,) for part in self.shape
        ]

    def __repr__(self) -> str:
        return f"<plan {self.text!r}>"


def _result_processor(kind: Any, dialect: Any, code: Any) -> Processor | None:
    processor: Processor | None = corelink.result_processor(kind, dialect, code)
    return read_json if processor is not None and reads_text(kind, dialect) else processor


# -- from Core statements to plans ---------------------------------------------------------------------


def compile_plan(
    statement: Any,
    binds: Sequence[Any],
    dialect: Any,
    row_shape: RowShape | None,
    *,
    max_parameters: int = 0,
    by_name: bool = False,
) -> StatementPlan:
    """Compile a Core statement whose literals are *binds*, in the order in which `bind` will get them."""
    compiled = statement.compile(dialect=dialect)
    tracing = Tracing(statement, compiled, binds, dialect, max_parameters)
    plan = StatementPlan(compiled.string, **tracing.binding())
    plan.names = tracing.names
    plan.reusable = tracing.complete
    plan.find_refused = tracing.find_refused
    plan.statement = statement
    plan.compiled = compiled
    plan.dialect = dialect
    plan.returns_rows = _returns_rows(statement, compiled)
    plan.by_name = by_name
    if row_shape is not None:
        plan.shape = row_shape
        plan.single = len(row_shape) == 1
        plan.is_entity = plan.single and isinstance(row_shape[0], EntityShape)
        plan.keys = row_keys(compiled, row_shape)
        for part in row_shape:
            if isinstance(part, EntityShape):  # a mapper that gets another column makes its plans stale
                part.mapper.memo.setdefault("plans", WeakSet()).add(plan)
    return plan


def _returns_rows(statement: Any, compiled: Any) -> bool:
    if isinstance(statement, (Insert, Update, Delete)):
        return bool(corelink.returning(statement))
    if isinstance(statement, TextClause):
        return (
            statement.text.lstrip(" \t\r\n(")
            .upper()
            .startswith(("SELECT", "WITH", "VALUES", "SHOW", "PRAGMA", "EXPLAIN", "TABLE"))
        )
    return True


def text_plan(
    text: str, row_processors: Sequence[Processor | None] | None = None, returns_rows: bool = False
) -> StatementPlan:
    """Make a plan of ready SQL text whose arguments are handed to the driver as they are."""
    plan = StatementPlan(text)
    plan.returns_rows = returns_rows
    plan.row_processors = tuple(row_processors) if row_processors is not None else ()
    return plan


def plan_for_columns(
    statement: Any, binds: Sequence[Any], engine: Any, mapper: Any, names: Sequence[str]
) -> StatementPlan:
    """Compile a select of some of a mapper's columns, in the order of *names*, whose rows make entities."""
    return compile_plan(
        statement, binds, engine.plan_dialect, [entity_shape(mapper, names)], max_parameters=_limit(engine)
    )


# -- plans by statement --------------------------------------------------------------------------------


def plan_for_recording(recording: Recording, engine: Any) -> StatementPlan:
    """Return the plan of a recorded statement; its literals are `recording.params`."""
    cache: PlanCache = engine.plan_cache
    plan: StatementPlan | None = recording.plan_for(cache.token)
    return _plan_anew(recording, engine, cache) if plan is None else plan


def _plan_anew(recording: Recording, engine: Any, cache: PlanCache) -> StatementPlan:
    shape = recording.shape
    plan = cache.find(shape)
    if plan is None:
        replayed = replay(recording)
        element = replayed.element
        if shape.op == "limit" and not shape.literals and engine.dialect.name in _LIMIT_IS_TEXT:
            element = _write_limit(element, shape.arg, engine.dialect.name)
        statement, row_shape = describe(element)
        plan = compile_plan(
            statement, replayed.binds, engine.plan_dialect, row_shape, max_parameters=_limit(engine)
        )
        plan = cache.store(shape, plan)
    if plan.reusable:
        shape.plan = plan  # two engines may take turns in the slot: readers compare the plan's own token
    return plan


def plan_for_core(
    statement: Any, engine: Any, given: Mapping[str, Any] | None = None
) -> tuple[StatementPlan, tuple[Any, ...]]:
    """Return the plan of a statement built with Core, and its literals, those *given* by name filled in."""
    recorded = recorded_form(statement)
    if recorded is not None:
        return plan_for_recording(recorded, engine), recorded.params  # its literals have no names
    key = corelink.cache_key(statement)
    asked = statement.get_execution_options().get(FROM_STATEMENT)
    if key is None or (asked is not None and corelink.cache_key(asked) is None):
        binds = corelink.all_binds(statement)
        plan = _compile_core(statement, asked, binds, engine)
        params = tuple([literal_of(bind) for bind in binds])
    else:
        whole = key.key if asked is None else (key.key, corelink.cache_key(asked).key)
        cache: PlanCache = engine.plan_cache
        found = cache.find(whole)
        plan = (
            cache.store(whole, _compile_core(statement, asked, key.bindparams, engine))
            if found is None
            else found
        )
        params = tuple([literal_of(bind) for bind in key.bindparams])
    if given and plan.names:
        params = plan.fill(params, given)
    return plan, params


# Execution option of a statement whose rows are entities: the select that says which.
FROM_STATEMENT = corelink.FROM_STATEMENT


def _compile_core(statement: Any, asked: Any, binds: Sequence[Any], engine: Any) -> StatementPlan:
    if asked is None:
        spread, shape = describe(statement)
        return compile_plan(spread, binds, engine.plan_dialect, shape, max_parameters=_limit(engine))
    _, shape = describe(asked)
    return compile_plan(
        statement, binds, engine.plan_dialect, shape, max_parameters=_limit(engine), by_name=True
    )


#: Dialects that write any expression after LIMIT; others give a number a form of its own (TOP, ROWNUM).
_LIMIT_IS_TEXT: Final = frozenset(("sqlite", "postgresql", "mysql", "mariadb"))


def _write_limit(statement: Any, limit: int, dialect: str) -> Any:
    """Return a SELECT whose LIMIT is written into its text."""
    statement = statement.limit(literal_column(str(limit)))
    if dialect == "sqlite" and corelink.limit_binds(statement)[1] is None:
        return statement.offset(literal_column("0"))  # Core writes one in any case, as a parameter
    return statement


def _limit(engine: Any) -> int:
    traits = getattr(engine, "traits", None)
    return 0 if traits is None else int(traits.max_parameters)


class PlanCache:
    """Keep a bounded number of plans; safe under threads without a lock.

    Each operation on the dictionary is atomic, and each race ends well: two threads may compile one
    statement, and the first plan stored is used by both. Eviction passes over plans used since it last looked
    at them, so that a hit need not record when it happened.
    """

    def __init__(self, capacity: int = 500) -> None:
        if capacity < 1:
            msg = f"a plan cache holds at least one plan, not {capacity}"
            raise ValueError(msg)
        self.capacity = capacity
        self.token: object = object()  # plans carry the token under which they were stored
        self.misses = 0
        self.evictions = 0
        self._plans: dict[Any, StatementPlan] = {}
        self.by_key: dict[Any, dict[Any, StatementPlan]] = {}  # mapper -> its plans that load by key

    def find(self, key: Any) -> StatementPlan | None:
        """Return the plan stored under a shape or under Core's cache key, or None."""
        plan = self._plans.get(key)
        if plan is not None and plan.token is None:  # stale
            self._plans.pop(key, None)
            return None
        return plan

    def store(self, key: Any, plan: StatementPlan) -> StatementPlan:
        """Store a plan, return the one that is kept, and evict what has not been used for longest."""
        self.misses += 1
        if not plan.reusable:
            return plan
        plan.token = self.token
        kept = self._plans.setdefault(key, plan)
        looked_at = 0
        while len(self._plans) > self.capacity:
            looked_at += self._evict(spare=looked_at < self.capacity * 2, but=kept)
        return kept

    def _evict(self, *, spare: bool, but: StatementPlan) -> int:
        """Drop the oldest plan, or move it to the end if it was used; the number of plans looked at."""
        plans = self._plans
        try:
            oldest = next(iter(plans))
        except (StopIteration, RuntimeError):  # another thread changed it: look again
            return 1
        plan = plans.pop(oldest, None)
        if plan is None:
            return 1
        if plan is but or (spare and plan.touched > 1):
            plan.touched = 1  # once was for the execution it was made for
            plans.setdefault(oldest, plan)
            return 1
        self.evictions += 1
        _forget(oldest, plan)
        return 1

    def clear(self) -> None:
        """Forget every plan at once, also those that shapes still carry."""
        self.token = object()
        plans, self._plans = self._plans, {}
        self.by_key = {}
        for key, plan in plans.items():
            _forget(key, plan)

    def __len__(self) -> int:
        return len(self._plans)

    def stats(self) -> dict[str, int]:
        """Return how full the cache is, and how often plans were made and dropped."""
        return {
            "size": len(self._plans),
            "capacity": self.capacity,
            "misses": self.misses,
            "evictions": self.evictions,
        }

    def __repr__(self) -> str:
        counts = f"{self.misses} misses, {self.evictions} evicted"
        return f"<PlanCache {len(self._plans)} of {self.capacity}, {counts}>"


def _forget(key: Any, plan: StatementPlan) -> None:
    if isinstance(key, Shape) and key.plan is plan:
        key.plan = None
    plan.token = None
