"""Know the mapped classes that belong together: their metadata, their type map, their constructor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar
from weakref import WeakSet, WeakValueDictionary

import sqlalchemy as sa

from sojourn.errors import MappingError, NoTable, NotYet
from sojourn.kernel.attributes import construct
from sojourn.mapping import configure, scan
from sojourn.mapping.meta import DeclarativeMeta

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    from sojourn.mapping.annotations import TypeMap
    from sojourn.mapping.mapper import Mapper

C = TypeVar("C", bound=type[Any])

_REGISTRIES: Final[WeakSet[registry]] = WeakSet()


class registry:  # noqa: N801  -- SQLAlchemy's name
    """Map classes, and remember them by name.

    `type_annotation_map` gives Python types in `Mapped[...]` their column types; `constructor` becomes the
    `__init__` of mapped classes that have none.
    """

    def __init__(
        self,
        *,
        metadata: sa.MetaData | None = None,
        class_registry: MutableMapping[str, Any] | None = None,
        type_annotation_map: TypeMap | None = None,
        constructor: Callable[..., None] = construct,
    ) -> None:
        self.metadata = metadata if metadata is not None else sa.MetaData()
        self.constructor = constructor
        self.type_annotation_map: dict[Any, Any] = {}  # Any: any Python type may be a key
        self.update_type_annotation_map(type_annotation_map or {})
        self._by_name = class_registry if class_registry is not None else WeakValueDictionary[str, Any]()
        self._mappers: WeakSet[Mapper[Any]] = WeakSet()
        _REGISTRIES.add(self)

    def __repr__(self) -> str:
        names = sorted(mapper.class_.__name__ for mapper in self._mappers)
        return f"<registry of {', '.join(names) or 'no classes'}>"

    @property
    def mappers(self) -> frozenset[Mapper[Any]]:
        """Return the mappers of all classes mapped here."""
        return frozenset(self._mappers)

    def update_type_annotation_map(self, type_annotation_map: TypeMap) -> None:
        """Add column types for Python types, for classes mapped from now on."""
        for python_type, column_type in type_annotation_map.items():
            kind: object = column_type if isinstance(column_type, type) else type(column_type)
            if not (isinstance(kind, type) and issubclass(kind, sa.types.TypeEngine)):
                raise MappingError(
                    f"type_annotation_map gives {python_type!r} {column_type!r}, which is no column type.",
                    "Write type_annotation_map = {str: String(50)}.",
                )
            self.type_annotation_map[python_type] = column_type

    def find_class(self, name: str) -> type[Any] | None:
        """Return the class mapped here under *name*; None if there is none, or more than one."""
        found = {mapper.class_ for mapper in self._mappers if mapper.class_.__name__ == name}
        return found.pop() if len(found) == 1 else None

    def configure(self, cascade: bool = False) -> None:
        """Finish the mappers made so far."""
        configure.configure_mappers()

    def dispose(self, cascade: bool = False) -> None:
        """Take the mapping off every class mapped here."""
        for mapper in self.mappers:
            configure.unmap(mapper)
            self._by_name.pop(mapper.class_.__name__, None)
        self._mappers.clear()

    # -- ways to map -----------------------------------------------------------------------------------------

    def map_declaratively(self, cls: type[Any]) -> Mapper[Any]:
        """Map *cls* by what its body says; the class needs no common base."""
        configure.check_unmapped(cls)
        spec = scan.scan(cls, self.metadata, self.type_annotation_map, self._find_holder)
        try:
            mapper = configure.build_mapper(
                cls, self, spec.table, spec.columns, spec.arguments, declarative=True
            )
        except BaseException:
            if spec.made and isinstance(spec.table, sa.Table):  # so that the corrected class can be written
                spec.table.metadata.remove(spec.table)
            raise
        return self._enter(mapper)

    def mapped(self, cls: C) -> C:
        """Map the decorated class by what its body says."""
        self.map_declaratively(cls)
        return cls

    def map_imperatively(
        self, class_: type[Any], local_table: sa.FromClause | None = None, **arguments: Any
    ) -> Mapper[Any]:
        """Map a plain class to a table; `properties={"name": table.c.full_name}` renames columns.

        Other arguments are those of `__mapper_args__`.
        """
        configure.check_unmapped(class_)
        if local_table is None:
            raise NoTable(class_.__name__)
        if not isinstance(local_table, sa.FromClause):
            raise MappingError(
                f"{class_.__name__} cannot be mapped to {local_table!r}, which is no table.",
                'Write table = Table("name", metadata, Column(...)); registry.map_imperatively(cls, table).',
            )
        scan.check_no_inheritance(class_)
        mapper = configure.build_mapper(class_, self, local_table, (), arguments, declarative=False)
        return self._enter(mapper)

    def generate_base(
        self,
        mapper: None = None,
        cls: Any = object,  # Any: a class, or a tuple of classes
        name: str = "Base",
        metaclass: type[Any] = DeclarativeMeta,
    ) -> Any:
        """Return a base class whose subclasses are mapped by what their bodies say."""
        bases: tuple[type[Any], ...] = cls if isinstance(cls, tuple) else (cls,)
        body: dict[str, Any] = {
            "registry": self,
            "_sa_registry": self,
            "metadata": self.metadata,
            "__abstract__": True,
            "__init__": self.constructor,
        }
        if len(bases) == 1:
            body["__doc__"] = bases[0].__doc__ if bases[0] is not object else None
        return metaclass(name, bases, body)

    def as_declarative_base(self, **options: Any) -> Callable[[type[Any]], Any]:
        """Make the decorated class the base whose subclasses are mapped."""

        def decorate(cls: type[Any]) -> Any:
            return self.generate_base(cls=cls, **{"name": cls.__name__, **options})

        return decorate

    def mapped_as_dataclass(self, *_: Any, **__: Any) -> Any:
        """Refuse: mapped dataclasses are not there yet."""
        raise NotYet(
            "registry.mapped_as_dataclass",
            "mapped dataclasses are",
            "Write @registry.mapped above @dataclass, with __table__.",
        )

    # -- inner -----------------------------------------------------------------------------------------------

    def _enter(self, mapper: Mapper[Any]) -> Mapper[Any]:
        cls = mapper.class_
        if cls.__init__ is object.__init__:
            type.__setattr__(cls, "__init__", self.constructor)
        self._mappers.add(mapper)
        self._by_name[cls.__name__] = cls
        return mapper

    def _find_holder(self, table: sa.FromClause) -> str | None:
        return next((m.class_.__name__ for m in self._mappers if m.local_table is table), None)


def clear_mappers() -> None:
    """Take the mapping off every class of every registry; for tests."""
    for each in list(_REGISTRIES):
        each.dispose()
