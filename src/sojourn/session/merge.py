"""Copying an entity's state into a session: `merge`, one or many."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sojourn.errors import StaleData
from sojourn.kernel.state import TRANSIENT, dict_of
from sojourn.session.reads import ReadsCore

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sojourn.flow import Flow
    from sojourn.kernel.state import InstanceState


class MergeCore(ReadsCore):
    """The copying half of a session; no I/O."""

    def merge_flow(
        self, instance: Any, *, load: bool = True, options: Mapping[str, Any] | None = None
    ) -> Flow[Any]:
        """Copy the loaded state of *instance* onto the entity of the same key, and return that one.

        The target is found in the identity map, else loaded, else made new. Attributes that are not set
        on the given side are left alone (H2). With load=False nothing is asked of the database: the copy
        is taken as clean, which suits caches only.
        """
        if self.autoflush and load and self._has_work():
            yield from self._autoflush_flow()
        return (yield from self._merge_one_flow(instance, load, options or {}))

    def merge_all_flow(
        self, instances: Iterable[Any], *, load: bool = True, options: Mapping[str, Any] | None = None
    ) -> Flow[list[Any]]:
        """Merge several: their targets are loaded with one statement per class and batch."""
        if self.autoflush and load and self._has_work():
            yield from self._autoflush_flow()
        given = list(instances)
        held: list[Any] = []
        if load:
            keys: dict[type, list[Any]] = {}
            for instance in given:
                state = self.state_for(instance)
                key = self._merge_key(state, instance)
                if key is not None and state.owner is not self.identity:
                    keys.setdefault(state.layout.cls, []).append(key)
            for cls, wanted in keys.items():
                held += yield from self.get_many_flow(cls, wanted)
        merged: list[Any] = []
        for instance in given:
            copy = yield from self._merge_one_flow(instance, load, options or {})
            merged.append(copy)
        return merged

    def _merge_key(self, state: InstanceState, instance: Any) -> Any:
        """Return the key an entity has or would have, None while a part of it is missing."""
        return state.layout.key_of(dict_of(instance)) if state.key is None else state.key

    def _merge_one_flow(self, instance: Any, load: bool, options: Mapping[str, Any]) -> Flow[Any]:
        state = self.state_for(instance)
        if state.owner is self.identity:
            return instance
        layout = state.layout
        key = self._merge_key(state, instance)
        target = None if key is None else self.identity.find(layout, key)
        if target is None and key is not None and load:
            target = yield from self.get_flow(layout.cls, key, execution_options=options)
        values = dict_of(instance)
        if target is None and not load:
            return self._take_clean(state, values, key)
        if target is None:
            target = layout.allocate()
            self.add(target)
        elif state.life != TRANSIENT:
            self._check_version(state, values, target)
        attributes = layout.attributes
        for name in layout.names:
            if name in values and name in attributes:
                setattr(target, name, values[name])
        return target

    def _take_clean(self, state: InstanceState, values: dict[str, Any], key: Any) -> Any:
        """Make a clean persistent copy without asking the database."""
        if key is None:
            from_ = state.layout.cls.__name__
            raise StaleData(
                f"merge(load=False) got a {from_} without a primary key.",
                "Merge it with load=True, or add it: session.add(obj).",
            )
        layout = state.layout
        target = layout.allocate()
        copied = dict_of(target)
        for name in layout.names:
            if name in values:
                copied[name] = values[name]
        own = self.state_for(target)
        own.key = key
        self.identity.add(own, target)
        return target

    def _check_version(self, state: InstanceState, values: dict[str, Any], target: Any) -> None:
        mapper = state.layout.mapper
        name = mapper.version_name
        if name is None or name not in values:
            return
        present = dict_of(target).get(name)
        if present is not None and present != values[name]:
            raise StaleData(
                f"{type(target).__name__} with key {state.key!r} is at version {present!r} in the database, "
                f"but the merged copy comes from version {values[name]!r}.",
                "Load it anew and repeat the change: obj = session.get(...).",
            )
