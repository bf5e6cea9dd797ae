"""Trace the positions of a compiled statement back to the literals of its recording."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy.exc import CompileError
from sqlalchemy.sql.visitors import replacement_traverse

from sojourn import corelink
from sojourn.errors import BindMissing, TooManyParameters
from sojourn.kernel.binding import Binder
from sojourn.statements.shapes import Required

Processor = Callable[[Any], Any]


class Tracing:
    """Trace the positions of a compiled statement back to literals."""

    def __init__(self, statement: Any, compiled: Any, binds: Sequence[Any], dialect: Any, limit: int) -> None:
        self.statement = statement
        self.compiled = compiled
        self.dialect = dialect
        self.limit = limit
        self.binds = binds
        by_key = {bind.key: index for index, bind in enumerate(binds) if bind is not None}
        self.index_of: dict[str, int] = {}
        for bind, name in compiled.bind_names.items():
            # Core may have copied binds while building or compiling: some copies keep the key, all know
            # the original.
            keys = [bind.key, *[original.key for original in corelink.originals(bind)]]
            index = next((by_key[key] for key in keys if key in by_key), None)
            if index is not None:
                self.index_of[name] = index
        traced = set(self.index_of.values())
        # A literal that can't be found again would be frozen into the plan: such a plan serves once.
        self.complete = all(
            index in traced for index, bind in enumerate(binds) if bind is None or bind.unique
        )
        self.processors = dict(corelink.bind_processors(compiled))
        self.inlined: Binder | None = None
        self.names: dict[str, tuple[int, ...]] = {}
        for index, bind in enumerate(binds):
            if bind is not None and not bind.unique:
                self.names[bind.key] = (*self.names.get(bind.key, ()), index)
        for name in self.names:
            given = self.processors.get(name)
            if not isinstance(given, tuple):
                self.processors[name] = _required(name, given)

    def binding(self) -> dict[str, Any]:
        """Return what a `Binder` needs besides the text."""
        compiled = self.compiled
        lists = [compiled.bind_names[bind] for bind in compiled.post_compile_params]
        plain = (
            not compiled.literal_execute_params
            and not any(corelink.is_tuple_type(compiled.binds[name].type) for name in lists)
            and all(name in self.index_of for name in lists)
        )
        if not plain:
            return {"each": self.bind_each}
        positions = list(compiled.positiontup or ())
        return {
            "slots": tuple([self.index_of.get(name, -1) for name in positions]),
            "processors": self._processors(positions),
            "constants": self._constants(positions),
            "expanding": tuple(dict.fromkeys(self.index_of[name] for name in lists)),
            "expand": self.expand,
            "limit": self.limit,
            "count": len(self.binds),
        }

    def _processors(self, positions: Sequence[str]) -> tuple[Any, ...]:
        return tuple([self.processors.get(name) for name in positions])

    def _constants(self, positions: Sequence[str]) -> tuple[Any, ...]:
        constants: list[Any] = []
        for name in positions:
            if name in self.index_of:
                constants.append(None)
                continue
            bind = self.compiled.binds[name]
            if bind.required and bind.callable is None:
                raise BindMissing(bind.key)
            value, processor = bind.effective_value, self.processors.get(name)
            constants.append(value if processor is None or bind.expanding else processor(value))
        return tuple(constants)

    def _values(self, params: tuple[Any, ...]) -> dict[str, Any]:
        """Return the value of every bind by name, unprocessed."""
        escaped = self.compiled.escaped_bind_names or {}
        values: dict[str, Any] = {}
        for name, bind in self.compiled.binds.items():
            index = self.index_of.get(name)
            value = bind.effective_value if index is None else params[index]
            values[name] = list(value) if bind.expanding and isinstance(value, tuple) else value
            if name in escaped:
                values[escaped[name]] = values[name]
        return values

    def expand(self, params: tuple[Any, ...], lengths: tuple[int, ...] | None) -> Any:
        """Render the lists at their lengths; see `Binder`."""
        if lengths is None:
            return self.bind_inlined(params)
        state = corelink.expanded(self.compiled, self._values(params))
        owner = {
            item: (name, n)
            for name, items in state.parameter_expansion.items()
            for n, item in enumerate(items)
        }
        slots: list[str] = []
        due: list[str] = []
        for name in state.positiontup or ():
            if due and name == due[0]:
                del due[0]
                continue
            if name in owner:
                base, _ = owner[name]
                slots.append(base)
                due = list(state.parameter_expansion[base][1:])
            else:
                slots.append(name)
        return (
            state.statement,
            tuple([self.index_of.get(name, -1) for name in slots]),
            self._processors(slots),
            self._constants(slots),
        )

    def bind_each(self, params: tuple[Any, ...]) -> tuple[str, tuple[Any, ...]]:
        """Let Core render the text for these values; for what no variant can serve."""
        state = corelink.expanded(self.compiled, self._values(params))
        processors = {**self.processors, **state.processors}
        values = state.parameters
        args = []
        for name in state.positiontup or ():
            processor = processors.get(name)
            args.append(values[name] if processor is None else processor(values[name]))
        return state.statement, tuple(args)

    def find_refused(self, params: tuple[Any, ...]) -> tuple[Any, Any] | None:
        """Return the value that its processor refuses, and the SQL type; None if there is no such."""
        for name, index in self.index_of.items():
            processor, value = self.processors.get(name), params[index]
            bind = self.compiled.binds[name]
            if processor is None or isinstance(processor, tuple):
                continue
            for item in value if bind.expanding else (value,):
                try:
                    processor(item)
                except Exception:  # noqa: BLE001 - whatever a type raises, it refused
                    return item, bind.type
        return None

    def bind_inlined(self, params: tuple[Any, ...]) -> tuple[str, tuple[Any, ...]]:
        """Write the lists into the text: they are longer than a statement's parameters may be many."""
        if self.inlined is None:

            def replace(part: Any, **_: Any) -> Any:
                if getattr(part, "expanding", False) and hasattr(part, "render_literal_execute"):
                    return part.render_literal_execute()
                return None

            statement = replacement_traverse(self.statement, {}, replace)  # type: ignore[call-overload]
            compiled = statement.compile(dialect=self.dialect)
            tracing = Tracing(statement, compiled, self.binds, self.dialect, 0)
            self.inlined = Binder(compiled.string, **tracing.binding())
        try:
            return self.inlined.bind(params)
        except (CompileError, NotImplementedError) as error:
            longest = max(len(value) for value in params if type(value) is tuple)
            raise TooManyParameters(longest, self.limit) from error


def _required(name: str, processor: Processor | None) -> Processor:
    """Refuse a named bind that got no value."""

    def check(value: Any) -> Any:
        if isinstance(value, Required):
            raise BindMissing(name)
        return value if processor is None else processor(value)

    return check
