"""Watch a class statement and assignments to its class: the metaclasses of declarative bases."""

from __future__ import annotations

from typing import Any

from sojourn.errors import MappingError, NotAColumn
from sojourn.mapping.columns import is_construct
from sojourn.mapping.configure import add_attribute


class DeclarativeAttributeIntercept(type):
    """Map columns that are assigned to a mapped class: `User.name = mapped_column(...)`."""

    def __setattr__(cls, key: str, value: object) -> None:
        if "__mapper__" in vars(cls) and is_construct(value):
            add_attribute(vars(cls)["__mapper__"], key, value)
        else:
            type.__setattr__(cls, key, value)

    def __delattr__(cls, key: str) -> None:
        mapper = vars(cls).get("__mapper__")
        if mapper is not None and key in mapper.column_of:
            raise MappingError(
                f"{cls.__name__}.{key} is mapped; a mapped attribute cannot be deleted from its class.",
                f'Leave the column unmapped: __mapper_args__ = {{"exclude_properties": ["{key}"]}}.',
            )
        type.__delattr__(cls, key)


class DeclarativeMeta(DeclarativeAttributeIntercept):
    """Map each class when its statement ends; the metaclass of `declarative_base()`."""

    def __init__(cls, name: str, bases: tuple[type, ...], body: dict[str, Any], **options: Any) -> None:
        type.__init__(cls, name, bases, body)
        registry = getattr(cls, "_sa_registry", None) or vars(cls).get("registry")
        if registry is None:
            raise MappingError(
                f"{name} has the metaclass DeclarativeMeta but no registry.",
                f"Write {name} = declarative_base(), or put registry = registry() into the body of {name}.",
            )
        if "_sa_registry" not in vars(cls) and "registry" in vars(cls):
            type.__setattr__(cls, "_sa_registry", registry)
        if not vars(cls).get("__abstract__"):
            registry.map_declaratively(cls)


def add_mapped_attribute(target: type[Any], key: str, attr: object) -> None:
    """Map one more column of a mapped class, as `User.name = mapped_column(...)` does on declarative ones."""
    mapper = vars(target).get("__mapper__")
    if mapper is None:
        raise MappingError(
            f"{target.__name__}.{key} cannot be added: {target.__name__} is not mapped itself.",
            f"Write it into the body of {target.__name__}, or add it to a mapped class.",
        )
    if not is_construct(attr):
        raise NotAColumn(target.__name__, key, attr)
    add_attribute(mapper, key, attr)
