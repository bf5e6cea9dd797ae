"""Answer what something is to the mapping: `inspect()`, `class_mapper()`, `object_mapper()`."""

from __future__ import annotations

from typing import Any, TypeVar, overload

import sqlalchemy as sa

from sojourn.errors import NotInspectable, UnmappedClass, UnmappedInstance
from sojourn.kernel.attributes import Attribute
from sojourn.kernel.state import InstanceState, state_of
from sojourn.mapping.configure import configure_mappers
from sojourn.mapping.mapper import Mapper

T = TypeVar("T")


@overload
def inspect(subject: type[T], raiseerr: bool = True) -> Mapper[T]: ...
@overload
def inspect(
    subject: Any, raiseerr: bool = True
) -> Any: ...  # Any: a state, a Core inspector, or the thing itself
def inspect(subject: Any, raiseerr: bool = True) -> Any:
    """Return the mapper of a mapped class, the state of an entity, else what Core's `inspect` gives.

    Raise NotInspectable for anything unknown; with `raiseerr=False` return None.
    """
    if isinstance(subject, type):
        mapper = find_mapper(subject)
        if mapper is not None:
            return mapper
    elif hasattr(type(subject), "__sojourn_layout__"):
        return state_of(subject)
    elif isinstance(subject, Mapper | InstanceState | Attribute):
        return subject
    found = sa.inspect(subject, raiseerr=False)
    if found is None and raiseerr:
        raise NotInspectable(subject)
    return found


def find_mapper(cls: type[Any]) -> Mapper[Any] | None:
    """Return the finished mapper of a class, or of the mapped class it extends, or None."""
    mapper = getattr(cls, "__mapper__", None)
    if not isinstance(mapper, Mapper):
        return None
    configure_mappers()
    return mapper


def class_mapper(class_: type[T], configure: bool = True) -> Mapper[T]:
    """Return the mapper of a mapped class; raise UnmappedClass for another."""
    mapper: Any = getattr(class_, "__mapper__", None) if is_class(class_) else class_
    if not isinstance(mapper, Mapper):
        raise UnmappedClass(class_)
    if configure:
        configure_mappers()
    return mapper


def is_class(thing: object) -> bool:
    """Return whether *thing* is a class."""
    return isinstance(thing, type)


def object_mapper(instance: T) -> Mapper[T]:
    """Return the mapper of an entity; raise UnmappedInstance for another thing."""
    if isinstance(instance, InstanceState):
        return class_mapper(instance.class_)
    if isinstance(instance, type) or not hasattr(type(instance), "__sojourn_layout__"):
        raise UnmappedInstance(instance)
    return class_mapper(type(instance))
