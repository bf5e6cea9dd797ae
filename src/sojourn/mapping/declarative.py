"""Offer the bases of declarative classes: `DeclarativeBase` and the functions that make one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeVar

import sqlalchemy as sa

from sojourn.errors import MappingError, NotYet
from sojourn.kernel.attributes import construct
from sojourn.mapping import registry as registries
from sojourn.mapping.meta import DeclarativeAttributeIntercept, DeclarativeMeta

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    from sojourn.mapping.annotations import TypeMap
    from sojourn.mapping.mapper import Mapper

C = TypeVar("C", bound=type[Any])
Registry = registries.registry  # bases have an attribute of the original name


class DeclarativeBase(metaclass=DeclarativeAttributeIntercept):
    """Be the base of a program's own base: `class Base(DeclarativeBase): pass`.

    Subclasses of that base are mapped when their class statement ends. The base may hold `metadata`,
    `registry` and `type_annotation_map`, and columns that all its subclasses shall have.
    """

    if TYPE_CHECKING:
        registry: ClassVar[Registry]
        metadata: ClassVar[sa.MetaData]
        type_annotation_map: ClassVar[TypeMap]
        __mapper__: ClassVar[Mapper[Any]]
        __table__: ClassVar[sa.FromClause]
        __tablename__: Any
        __table_args__: Any
        __mapper_args__: Any

        def __init__(self, **values: Any) -> None: ...

    def __init_subclass__(cls, **options: Any) -> None:
        """Set up a base, or map a class."""
        _begin_subclass(cls, DeclarativeBase)
        super().__init_subclass__(**options)


class DeclarativeBaseNoMeta:
    """Be as `DeclarativeBase`, without a metaclass: columns cannot be assigned to its classes later."""

    if TYPE_CHECKING:
        registry: ClassVar[Registry]
        metadata: ClassVar[sa.MetaData]
        type_annotation_map: ClassVar[TypeMap]
        __mapper__: ClassVar[Mapper[Any]]
        __table__: ClassVar[sa.FromClause]
        __tablename__: Any
        __table_args__: Any
        __mapper_args__: Any

        def __init__(self, **values: Any) -> None: ...

    def __init_subclass__(cls, **options: Any) -> None:
        """Set up a base, or map a class."""
        _begin_subclass(cls, DeclarativeBaseNoMeta)
        super().__init_subclass__(**options)


class MappedAsDataclass:
    """Refuse: mapped dataclasses are not there yet."""

    def __init_subclass__(cls, **options: Any) -> NoReturn:
        """Raise NotYet."""
        raise NotYet(
            f"{cls.__name__}(MappedAsDataclass)",
            "mapped dataclasses are",
            "Leave MappedAsDataclass out, or write @registry.mapped above @dataclass, with __table__.",
        )


def _begin_subclass(cls: type[Any], root: type[Any]) -> None:
    if root in cls.__bases__:
        _set_up_base(cls)
    elif not vars(cls).get("__abstract__"):
        cls._sa_registry.map_declaratively(cls)


def _set_up_base(cls: type[Any]) -> None:
    name = cls.__name__
    given, metadata = getattr(cls, "registry", None), getattr(cls, "metadata", None)
    if given is not None and not isinstance(given, Registry):
        raise MappingError(
            f"{name}.registry is {given!r}, which is no registry.", "Write registry = registry()."
        )
    if metadata is not None and not isinstance(metadata, sa.MetaData):
        raise MappingError(
            f"{name}.metadata is {metadata!r}, which is no MetaData.", "Write metadata = MetaData()."
        )
    if given is None:
        given = Registry(metadata=metadata)
    elif metadata is not None and metadata is not given.metadata:
        raise MappingError(
            f"{name} has a metadata and a registry with another one.",
            "Say it once: registry = registry(metadata=MetaData()).",
        )
    given.update_type_annotation_map(getattr(cls, "type_annotation_map", None) or {})
    for key, value in (("registry", given), ("_sa_registry", given), ("metadata", given.metadata)):
        type.__setattr__(cls, key, value)
    if cls.__init__ is object.__init__:
        type.__setattr__(cls, "__init__", given.constructor)


def declarative_base(
    *,
    metadata: sa.MetaData | None = None,
    mapper: None = None,
    cls: Any = object,  # Any: a class, or a tuple of classes
    name: str = "Base",
    class_registry: MutableMapping[str, Any] | None = None,
    type_annotation_map: TypeMap | None = None,
    constructor: Callable[..., None] = construct,
    metaclass: type[Any] = DeclarativeMeta,
) -> Any:
    """Return a base class whose subclasses are mapped by what their bodies say."""
    registry = Registry(
        metadata=metadata,
        class_registry=class_registry,
        type_annotation_map=type_annotation_map,
        constructor=constructor,
    )
    return registry.generate_base(cls=cls, name=name, metaclass=metaclass)


def as_declarative(**options: Any) -> Callable[[type[Any]], Any]:
    """Make the decorated class a declarative base; options as in `declarative_base`."""
    names = ("metadata", "class_registry", "type_annotation_map", "constructor")
    registry = Registry(**{name: options.pop(name) for name in names if name in options})
    return registry.as_declarative_base(**options)


def declarative_mixin(cls: C) -> C:
    """Return the class: a mark for readers and type checkers that it is a mixin."""
    return cls


def has_inherited_table(cls: type[Any]) -> bool:
    """Return whether a class above *cls* is mapped."""
    return any("__mapper__" in vars(base) for base in cls.__mro__[1:])
