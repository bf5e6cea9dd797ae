"""Plans that load entities by key: one, many, or some attributes of one; compiled once per engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from sojourn.errors import UnknownAttribute
from sojourn.plans import plan_for_columns, plan_for_core

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sojourn.kernel.state import InstanceState
    from sojourn.mapping.mapper import Mapper


def plan_by_key(
    mapper: Mapper[Any],
    engine: Any,
    kind: type,
    *,
    names: tuple[str, ...] | None = None,
    for_update: Any = None,
) -> Any:
    """Return the plan that loads one entity by its key; its parameters are the key's parts in order.

    *names* limits it to these attributes (the key is always read). *kind* is the Python type of the key:
    it belongs into the plan, because Core chooses a bind's type by it where the column leaves it open.
    """
    known = engine.plan_cache.by_key
    plans = known.get(mapper)
    if plans is None:
        plans = known[mapper] = {}
    wanted: Any = kind
    if names is not None or for_update is not None:
        wanted = (kind, names, for_update if for_update is True else repr(for_update))
    plan = plans.get(wanted)
    if plan is None:
        plan = plans[wanted] = _compile_by_key(mapper, engine, names, for_update)
    return plan


def _compile_by_key(mapper: Mapper[Any], engine: Any, names: tuple[str, ...] | None, for_update: Any) -> Any:
    binds = [
        sa.bindparam(f"key_{number}", None, type_=column.type, required=False)
        for number, column in enumerate(mapper.primary_key)
    ]
    statement: Any = sa.select(*_columns(mapper, names)).where(
        *[column == bind for column, bind in zip(mapper.primary_key, binds, strict=True)]
    )
    if for_update is not None and for_update is not False:
        statement = statement.with_for_update(**({} if for_update is True else dict(for_update)))
    return plan_for_columns(statement, binds, engine, mapper, _names(mapper, names))


def _names(mapper: Mapper[Any], names: tuple[str, ...] | None) -> tuple[str, ...]:
    if names is None:
        return tuple(prop.key for prop in mapper.columns if not prop.deferred or prop.key in mapper.key_names)
    return tuple(dict.fromkeys((*mapper.key_names, *names)))


def _columns(mapper: Mapper[Any], names: tuple[str, ...] | None) -> list[Any]:
    return [mapper.column_of[name] for name in _names(mapper, names)]


def plan_by_keys(mapper: Mapper[Any], engine: Any, keys: Sequence[Any]) -> tuple[Any, tuple[Any, ...]]:
    """Return the plan that loads the entities of these keys, and its parameters."""
    criterion: sa.ColumnElement[bool]
    if mapper.layout.scalar_key:
        criterion = mapper.primary_key[0].in_(keys)
    else:
        criterion = sa.or_(
            *[
                sa.and_(*[column == part for column, part in zip(mapper.primary_key, key, strict=True)])
                for key in keys
            ]
        )
    statement = sa.select(mapper.class_).where(criterion)
    plan, params = plan_for_core(statement, engine, None)
    return plan, params


def key_params(state: InstanceState) -> tuple[Any, ...]:
    """Return an entity's key as the parameters of `plan_by_key`."""
    return (state.key,) if state.layout.scalar_key else tuple(state.key)


def names_to_load(mapper: Mapper[Any], values: dict[str, Any], name: str) -> tuple[str, ...]:
    """Return what is loaded when *name* is read and not there.

    A deferred attribute comes with its group. Any other comes with everything that is missing and not
    deferred, because it is missing for one reason: the entity is expired.
    """
    attribute = mapper.attrs.get(name)
    if attribute is not None and attribute.deferred:
        group = attribute.deferred_group
        if group is None:
            return (name,)
        return tuple(each.key for each in mapper.columns if each.deferred and each.deferred_group == group)
    missing = tuple(each.key for each in mapper.columns if each.key not in values and not each.deferred)
    return missing or (name,)


def names_to_refresh(mapper: Mapper[Any], given: Iterable[Any] | None) -> tuple[str, ...]:
    """Return the attributes to be read anew: the given ones, else all that are not deferred."""
    if given is None:
        return tuple(each.key for each in mapper.columns if not each.deferred)
    names = tuple(str(getattr(each, "key", each)) for each in given)
    for name in names:
        if name not in mapper.attrs:
            raise UnknownAttribute(mapper.class_.__name__, name, mapper.column_of)
    return names
