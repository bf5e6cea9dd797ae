"""How a session reads: by key, by statement, in streams, and what it loads again."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy.sql.base import Executable

from sojourn import corelink
from sojourn.errors import (
    KeyArity,
    KeyIsNone,
    NotPersistent,
    ObjectDeleted,
    SojournError,
    UnflushedRows,
    WrongStatement,
)
from sojourn.flow import Close, Core, Fetch, Flow, More, Open, ask
from sojourn.kernel.state import PERSISTENT, dict_of
from sojourn.loading.fetch import key_params, names_to_load, names_to_refresh, plan_by_key, plan_by_keys
from sojourn.loading.result import Result, ScalarResult
from sojourn.loading.subjects import find_mapper, find_tables
from sojourn.plans import plan_for_core, plan_for_recording
from sojourn.session.binds import NOTHING, class_of
from sojourn.session.lifecycle import WORDS
from sojourn.session.transaction import Stage
from sojourn.session.work import WorkCore
from sojourn.statements.builders import Select
from sojourn.symbols import REFRESH
from sojourn.unitofwork.bulk import change_flow, is_entity_change
from sojourn.unitofwork.record import FlushRecord

if TYPE_CHECKING:
    from sojourn.kernel.layout import Layout
    from sojourn.kernel.state import InstanceState
    from sojourn.mapping.mapper import Mapper

#: Keys asked for in one statement by get_many; more are asked for in several (SQLite's oldest limit is 999).
KEYS_AT_ONCE: Final = 500


class ReadsCore(WorkCore):
    """The reading half of a session; no I/O."""

    # -- by key -----------------------------------------------------------------------------

    def key_of(self, mapper: Mapper[Any], ident: Any) -> Any:
        """Return *ident* as identity maps keep it: the bare value, or a tuple for composite keys."""
        layout = mapper.layout
        if layout.scalar_key:
            kind = type(ident)
            if kind is int or kind is str:
                return ident
            if kind is tuple or kind is list or kind is dict or isinstance(ident, (tuple, list, Mapping)):
                return self._tuple_key(mapper, ident)[0]
            if ident is None:
                raise KeyIsNone(mapper.class_.__name__, ident, layout.keys)
            return ident
        return self._tuple_key(mapper, ident)

    def _tuple_key(self, mapper: Mapper[Any], ident: Any) -> tuple[Any, ...]:
        names, entity = mapper.layout.keys, mapper.class_.__name__
        if isinstance(ident, Mapping):
            if set(ident) != set(names):
                raise KeyArity(entity, ident, names)
            ident = tuple(ident[name] for name in names)
        if not isinstance(ident, (tuple, list)) or len(ident) != len(names):
            raise KeyArity(entity, ident, names)
        if all(part is None for part in ident) or (len(names) == 1 and ident[0] is None):
            raise KeyIsNone(entity, ident, names)
        return tuple(ident)

    def get_request(self, layout: Layout, key: Any) -> Fetch | None:
        """Return the one request that answers get(), None when more than that must happen first.

        The two hottest operations, this and `select_request`, are two-phase: a front that gets a request
        performs it without a flow, which saves 0.5 us of 1.5.
        """
        lane = self.lanes.get(self.bind)
        if lane is None or self.transaction.stage is not Stage.ACTIVE or self.binds:  # type: ignore[union-attr]
            return None
        identity = self.identity
        if identity.new or identity.dirty or identity.deleted:
            return None
        plans = lane.engine.plan_cache.by_key.get(layout.mapper)
        plan = None if plans is None else plans.get(key.__class__)
        return None if plan is None else Fetch(lane, plan, (key,), identity, 0, True)

    def select_request(
        self, statement: Any, scalars: bool, params: Any, options: Mapping[str, Any], binds: Any
    ) -> Fetch | None:
        """Return the one request that answers a recorded select, None when it takes more than that."""
        if statement.__class__ is not Select or params is not None or options or binds is not None:
            return None
        lane = self.lanes.get(self.bind)
        if lane is None or self.transaction.stage is not Stage.ACTIVE or self.binds:  # type: ignore[union-attr]
            return None
        identity = self.identity
        if identity.new or identity.dirty or identity.deleted:
            return None
        plan = plan_for_recording(statement, lane.engine)
        return Fetch(lane, plan, statement.params, identity, 0, plan.single or scalars)

    def get_flow(
        self,
        entity: Any,
        ident: Any,
        *,
        populate_existing: bool = False,
        with_for_update: Any = None,
        execution_options: Mapping[str, Any] = NOTHING,
        bind: Any = None,
    ) -> Flow[Any]:
        """Return the entity with this key or None; no statement while it is in the identity map (G1)."""
        mapper = class_of(entity)
        key = self.key_of(mapper, ident)
        populate = populate_existing or execution_options.get("populate_existing", False)
        if not populate and with_for_update is None:
            found = self.identity.find_loaded(mapper.layout, key)
            if found is not None:
                return found if isinstance(found, mapper.class_) else None
        flags = REFRESH if populate else 0
        return (yield from self.load_one_flow(mapper, key, flags, with_for_update, bind))

    def load_one_flow(
        self, mapper: Mapper[Any], key: Any, flags: int = 0, for_update: Any = None, bind: Any = None
    ) -> Flow[Any]:
        """Load the entity with this key, as `key_of` gives it, or return None."""
        identity = self.identity
        if (identity.new or identity.dirty or identity.deleted) and self.autoflush:
            yield from self._autoflush_flow()
        engine = bind or self.bind
        if engine is None or (self.binds and bind is None):
            engine = self.find_bind(mapper)
        lane = yield from self.lane_flow(engine)
        plan = plan_by_key(mapper, engine, key.__class__, for_update=for_update)
        params = (key,) if mapper.layout.scalar_key else key
        found = yield from ask(Fetch(lane, plan, params, identity, flags, True))
        return found[0] if found else None

    def get_many_flow(self, entity: Any, idents: Iterable[Any]) -> Flow[list[Any]]:
        """Return the entities with these keys in that order, None for the missing (G2)."""
        mapper = class_of(entity)
        keys = [self.key_of(mapper, ident) for ident in idents]
        find, layout = self.identity.find_loaded, mapper.layout
        missing = list(dict.fromkeys(key for key in keys if find(layout, key) is None))
        held: list[Any] = []
        if missing:
            if self.autoflush and self._has_work():
                yield from self._autoflush_flow()
            lane = yield from self.lane_flow(self.find_bind(mapper))
            for start in range(0, len(missing), KEYS_AT_ONCE):
                plan, params = plan_by_keys(mapper, lane.engine, missing[start : start + KEYS_AT_ONCE])
                held += yield from ask(Fetch(lane, plan, params, self.identity, 0, True))
        return [find(layout, key) for key in keys]

    def _autoflush_flow(self) -> Flow[None]:
        if self._flushing:
            return
        try:
            yield from self.flush_flow()
        except SojournError as error:
            error.add_note(
                "This flush was sent by a query (autoflush); with session.no_autoflush: ... postpones it."
            )
            raise

    def _flag_unflushed(self, statement: Any) -> None:
        """Warn when a query in a no_autoflush block cannot see new rows of a table it reads (G5)."""
        waiting = Counter(state.layout.mapper.local_table for state in self.identity.new)
        for table in find_tables(statement):
            if table in waiting:
                warnings.warn(UnflushedRows(table.name, waiting[table]), stacklevel=2)
                return

    # -- by statement -----------------------------------------------------------------------

    def execute_flow(
        self,
        statement: Any,
        params: Any = None,
        execution_options: Mapping[str, Any] = NOTHING,
        bind_arguments: Mapping[str, Any] | None = None,
        *,
        scalars: bool = False,
    ) -> Flow[Any]:
        """Run any statement and return its result (a ScalarResult when *scalars*)."""
        if isinstance(statement, Select):
            if params is None and not execution_options and bind_arguments is None:
                return (yield from self._recorded_flow(statement, scalars))
            statement = statement.core()
        elif not isinstance(statement, Executable):
            core = getattr(statement, "__clause_element__", None)
            if core is None or isinstance(statement, type):
                raise WrongStatement(statement)
            statement = core()
            if not isinstance(statement, Executable):
                raise WrongStatement(statement)
        options = {**statement.get_execution_options(), **execution_options}
        if self._has_work():
            if options.get("autoflush", self.autoflush):
                yield from self._autoflush_flow()
            elif self._quiet:
                self._flag_unflushed(statement)
        engine = self._engine_for(statement, bind_arguments or NOTHING)
        lane = yield from self.lane_flow(engine)
        if is_entity_change(statement):
            record = FlushRecord()
            self.transaction.remember(record)  # type: ignore[union-attr]
            result = yield from change_flow(lane, self.identity, statement, params, options, record)
        elif statement.is_select or corelink.FROM_STATEMENT in options:
            return (yield from self._select_flow(lane, statement, params, options, scalars))
        else:
            result = yield from ask(Core(lane, statement, params, options))
        return result.scalars() if scalars else result

    def _engine_for(self, statement: Any, arguments: Mapping[str, Any]) -> Any:
        engine = arguments.get("bind")
        if engine is not None:
            return engine
        if self.bind is not None and not self.binds:
            return self.bind
        if "mapper" in arguments:
            return self.find_bind(class_of(arguments["mapper"]))
        return self.find_bind(find_mapper(statement), find_tables(statement))

    def _recorded_flow(self, statement: Any, scalars: bool) -> Flow[Any]:
        """The hot way: a recorded select, its plan found at the shape itself."""
        identity = self.identity
        if identity.new or identity.dirty or identity.deleted:
            if self.autoflush:
                yield from self._autoflush_flow()
            elif self._quiet:
                self._flag_unflushed(statement.core())
        engine = self.bind
        if engine is None or self.binds:
            engine = self._engine_for(statement.core(), NOTHING)
        lane = self.lanes.get(engine)
        if lane is None or not self.transaction.is_active:  # type: ignore[union-attr]
            lane = yield from self.lane_flow(engine)
        plan = plan_for_recording(statement, engine)
        single = plan.single
        values = yield from ask(Fetch(lane, plan, statement.params, identity, 0, single or scalars))
        return ScalarResult(values) if scalars else Result(values, plan.keys, single=single)

    def _select_flow(
        self, lane: Any, statement: Any, params: Any, options: Mapping[str, Any], scalars: bool
    ) -> Flow[Any]:
        if "schema_translate_map" in options and find_mapper(statement) is None:
            result = yield from ask(Core(lane, statement, params, dict(options)))
            return result.scalars() if scalars else result
        plan, values = plan_for_core(statement, lane.engine, params)
        flags = REFRESH if options.get("populate_existing") else 0
        single = plan.single
        size = options.get("yield_per") or (1000 if options.get("stream_results") else 0)
        if size:
            return (yield from self._stream_flow(lane, plan, values, flags, size, scalars))
        rows = yield from ask(Fetch(lane, plan, values, self.identity, flags, single or scalars))
        return ScalarResult(rows) if scalars else Result(rows, plan.keys, single=single)

    # -- streams ----------------------------------------------------------------------------

    def _stream_flow(
        self, lane: Any, plan: Any, values: tuple[Any, ...], flags: int, size: int, scalars: bool
    ) -> Flow[Any]:
        handle = yield from ask(Open(lane, plan, values, size))
        stream = Stream(self, lane, handle, plan, flags, scalars=plan.single or scalars)
        source = self.pull_from(stream)
        if scalars:
            return ScalarResult([], source, size)
        return Result([], plan.keys, single=plan.single, source=source, yield_per=size)

    def pull_from(self, stream: Stream) -> Any:
        """Return what a streamed result calls for its next batch; each front has its own way to wait."""
        raise NotImplementedError

    # -- loading again ----------------------------------------------------------------------

    def load_flow(self, state: InstanceState, instance: Any, name: str) -> Flow[Any]:
        """Load one missing attribute: with every other expired one, or with its deferred group."""
        mapper: Mapper[Any] = state.layout.mapper
        names = names_to_load(mapper, dict_of(instance), name)
        yield from self._load_names_flow(state, instance, names, 0)
        values = dict_of(instance)
        return values.get(name)

    def _load_names_flow(
        self, state: InstanceState, instance: Any, names: tuple[str, ...], flags: int, lock: Any = None
    ) -> Flow[None]:
        mapper: Mapper[Any] = state.layout.mapper
        lane = yield from self.lane_flow(self.find_bind(mapper))
        plan = plan_by_key(mapper, lane.engine, type(state.key), names=names, for_update=lock)
        found = yield from ask(Fetch(lane, plan, key_params(state), self.identity, flags, True))
        if not found:
            raise ObjectDeleted(type(instance).__name__, state.key)

    def refresh_flow(
        self, instance: Any, attribute_names: Iterable[Any] | None = None, with_for_update: Any = None
    ) -> Flow[None]:
        """Load an entity anew, overwriting what is loaded."""
        state = self.state_for(instance)
        if state.life != PERSISTENT or state.owner is not self.identity:
            raise NotPersistent(type(instance).__name__, WORDS[state.life], "refresh")
        if self.autoflush and self._has_work():
            yield from self._autoflush_flow()
        mapper: Mapper[Any] = state.layout.mapper
        names = names_to_refresh(mapper, attribute_names)
        self.identity.expire(state, instance, names)
        yield from self._load_names_flow(state, instance, names, REFRESH, with_for_update)

    def refresh_all_flow(self, instances: Sequence[Any]) -> Flow[None]:
        """Load several entities anew: one statement per class and batch."""
        groups: dict[Any, list[Any]] = {}
        for instance in instances:
            state = self.state_for(instance)
            if state.life != PERSISTENT or state.owner is not self.identity:
                raise NotPersistent(type(instance).__name__, WORDS[state.life], "refresh_all")
            groups.setdefault(state.layout, []).append(state)
        if self.autoflush and self._has_work():
            yield from self._autoflush_flow()
        for layout, states in groups.items():
            lane = yield from self.lane_flow(self.find_bind(layout.mapper))
            for start in range(0, len(states), KEYS_AT_ONCE):
                keys = [state.key for state in states[start : start + KEYS_AT_ONCE]]
                plan, params = plan_by_keys(layout.mapper, lane.engine, keys)
                found = yield from ask(Fetch(lane, plan, params, self.identity, REFRESH, True))
                if len(found) < len(set(keys)):
                    gone = set(keys) - {self.state_for(each).key for each in found}
                    raise ObjectDeleted(layout.cls.__name__, sorted(gone, key=repr))


class Stream:
    """An open stream of rows: the server's cursor, and how its rows become values."""

    __slots__ = ("core", "flags", "handle", "lane", "plan", "scalars")

    def __init__(
        self, core: ReadsCore, lane: Any, handle: Any, plan: Any, flags: int, *, scalars: bool
    ) -> None:
        self.core = core
        self.lane = lane
        self.handle = handle
        self.plan = plan
        self.flags = flags
        self.scalars = scalars

    def more_flow(self, size: int) -> Flow[list[Any]]:
        """Return the next *size* values, none at the end; a size of 0 ends the stream."""
        if not size:
            yield from ask(Close(self.lane, self.handle))
            return []
        rows = yield from ask(More(self.lane, self.handle, size))
        if not rows:
            yield from ask(Close(self.lane, self.handle))
            return []
        loader = self.plan.loader
        load = loader.scalars if self.scalars else loader.load
        values: list[Any] = load(rows, self.core.identity, self.flags)
        return values
