"""Which engine a session uses for a mapped class or a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sojourn.errors import NoBind, UnmappedClass

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sojourn.mapping.mapper import Mapper

NOTHING: Final[Mapping[str, Any]] = {}


class BindsCore:
    """The engines of a session: usually one, else one by class or table."""

    bind: Any = None
    binds: Mapping[Any, Any] = NOTHING

    def set_binds(self, binds: Mapping[Any, Any]) -> None:
        """Use each of *binds* for its mapped class, mapper or table."""
        for key, engine in binds.items():
            self.bind_mapper(key, engine)

    def bind_mapper(self, mapper: Any, bind: Any) -> None:
        """Use *bind* for a mapped class, with its table and the classes derived from it; or for a table."""
        key = bind_key(mapper)
        table = getattr(key, "__table__", None)
        self.binds = {**self.binds, key: bind, **({} if table is None else {table: bind})}

    def bind_table(self, table: Any, bind: Any) -> None:
        """Use *bind* for a table."""
        self.binds = {**self.binds, table: bind}

    def find_bind(self, mapper: Mapper[Any] | None = None, tables: Iterable[Any] = ()) -> Any:
        """Return the engine for a mapper or for the first bound one of *tables*; raise NoBind."""
        if self.binds:
            if mapper is not None:
                for cls in mapper.class_.__mro__:
                    if cls in self.binds:
                        return self.binds[cls]
                tables = (mapper.local_table, *tables)
            for table in tables:
                if table in self.binds:
                    return self.binds[table]
        if self.bind is not None:
            return self.bind
        raise NoBind(mapper.class_.__name__ if mapper is not None else "this statement")


def bind_key(key: Any) -> Any:
    """Return what *key* stands for among binds: a class for a mapper, else itself."""
    return key if isinstance(key, type) else getattr(key, "class_", key)


def class_of(entity: Any) -> Any:
    """Return the mapper of a mapped class or mapper; raise UnmappedClass."""
    mapper = getattr(entity, "__mapper__", None)
    if mapper is None and hasattr(entity, "layout") and hasattr(entity, "class_"):
        mapper = entity
    if mapper is None:
        raise UnmappedClass(entity)
    return mapper
