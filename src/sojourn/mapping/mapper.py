"""Describe one mapped class: its table, its column attributes, its key; once finished, unchangeably.

`Mapper` answers questions and does nothing else: `configure` makes it, sessions read it. What other floors
derive from it (statements of the flush, row shapes) they keep in `memo`, which is theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, NoReturn, TypeVar

from sojourn import corelink
from sojourn.errors import FrozenMapper, KeyArity, UnknownAttribute
from sojourn.kernel.state import dict_of, state_of

if TYPE_CHECKING:
    import sqlalchemy as sa
    from sqlalchemy.types import TypeEngine

    from sojourn.kernel.layout import Layout
    from sojourn.mapping.columns import ColumnSpec

T = TypeVar("T")
V = TypeVar("V")


class ColumnProperty:
    """Describe one column attribute of a mapped class."""

    strategy_wildcard_key = "column"

    def __init__(self, spec: ColumnSpec, mapper: Mapper[Any]) -> None:
        self.key = spec.key
        self.column = spec.column
        self.columns = [spec.column]
        self.parent = mapper
        self.deferred = spec.deferred
        self.group = spec.group
        self.raiseload = spec.raiseload
        self.active_history = spec.active_history
        self.expire_on_flush = spec.expire_on_flush
        self.comparator_factory = spec.comparator_factory
        self.doc = spec.doc if spec.doc is not None else getattr(spec.column, "doc", None)
        self.info: dict[Any, Any] = spec.info if spec.info is not None else spec.column.info

    def __repr__(self) -> str:
        return f"<ColumnProperty {self}>"

    def __str__(self) -> str:
        return f"{self.parent.class_.__name__}.{self.key}"

    def __clause_element__(self) -> sa.ColumnElement[Any]:
        return self.column

    def __getattr__(self, name: str) -> Any:
        if name in {
            "name",
            "type",
            "nullable",
            "primary_key",
            "default",
            "server_default",
            "foreign_keys",
            "table",
        }:
            return getattr(self.column, name)
        raise AttributeError(f"ColumnProperty {self.__dict__.get('key')!r} has no attribute {name!r}")

    @property
    def deferred_group(self) -> str | None:
        """Return the name of the group that is loaded together with it."""
        return self.group

    @property
    def expression(self) -> sa.ColumnElement[Any]:
        """Return the Core column."""
        return self.column

    @property
    def class_attribute(self) -> Any:
        """Return the attribute of the class: `User.name`."""
        return getattr(self.parent.class_, self.key)


class Names(Mapping[str, V]):
    """Keep what a mapper has under each name: read as items or attributes; iterating gives the things."""

    __slots__ = ("_entity", "_things")

    def __init__(self, entity: str, things: Mapping[str, V]) -> None:
        self._entity = entity
        self._things = dict(things)

    def __getitem__(self, name: str) -> V:
        return self._things[name]

    def __getattr__(self, name: str) -> V:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self._things[name]
        except KeyError:
            raise AttributeError(f"{self._entity} maps no attribute {name!r}.") from None

    def __iter__(self) -> Iterator[V]:  # type: ignore[override]  # as SQLAlchemy's collections of properties do
        return iter(self._things.values())

    def __contains__(self, name: object) -> bool:
        return name in self._things

    def __len__(self) -> int:
        return len(self._things)

    def __dir__(self) -> Iterable[str]:
        return [*super().__dir__(), *self._things]

    def __repr__(self) -> str:
        return f"<{self._entity}: {', '.join(self._things)}>"

    def keys(self) -> list[str]:  # type: ignore[override]  # lists, as SQLAlchemy gives
        """Return the names."""
        return list(self._things)

    def values(self) -> list[V]:  # type: ignore[override]
        """Return the things."""
        return list(self._things.values())

    def items(self) -> list[tuple[str, V]]:  # type: ignore[override]
        """Return pairs of name and thing."""
        return list(self._things.items())


class ColumnProperties(tuple[ColumnProperty, ...]):
    """Be the column attributes of a mapper in order; by name, as item or attribute, they give columns."""

    __slots__ = ()

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            for prop in self:
                if prop.key == key:
                    return prop.column
            raise KeyError(key)
        return super().__getitem__(key)

    def __getattr__(self, name: str) -> Any:
        for prop in self:
            if prop.key == name:
                return prop.column
        raise AttributeError(name)

    def __contains__(self, thing: object) -> bool:
        return any(
            thing == prop.key if isinstance(thing, str) else thing in (prop, prop.column) for prop in self
        )

    def keys(self) -> list[str]:
        """Return the attribute names."""
        return [prop.key for prop in self]


def next_version(version: Any) -> Any:
    """Return the version after *version*: counting from 1."""
    return (version or 0) + 1


class Mapper(Generic[T]):
    """Be the finished description of one mapped class; `inspect(User)`.

    Facts: `class_`, `local_table`, `columns` (one `ColumnProperty` per column attribute), `primary_key`
    (columns) and `key_names` (their attributes), `name_of` and `column_of` between columns and names,
    `layout` for the kernel, `version_column`, `eager_defaults`. `memo` is for what other floors derive.
    """

    is_mapper: Literal[True] = True
    is_selectable = False
    is_aliased_class = False
    is_instance = False
    is_attribute = False
    is_property = False
    is_bundle = False
    is_clause_element = False
    # Hierarchies are not there yet: each mapper is the only one of its own.
    inherits: Mapper[Any] | None = None
    single = False
    concrete = False
    polymorphic_on: Any = None
    polymorphic_identity: Any = None
    with_polymorphic: Any = None

    configured: bool
    class_: type[T]
    registry: Any  # Any: mapping.registry is a file above this one
    local_table: sa.FromClause
    layout: Layout
    columns: ColumnProperties
    primary_key: tuple[sa.ColumnElement[Any], ...]
    key_names: tuple[str, ...]
    name_of: dict[sa.ColumnElement[Any], str]
    column_of: dict[str, sa.ColumnElement[Any]]
    attrs: Names[ColumnProperty]
    column_attrs: Names[ColumnProperty]
    c: Any  # Any: Core's read-only collection, by attribute name
    version_column: sa.ColumnElement[Any] | None
    version_generator: Callable[[Any], Any] | Literal[False]
    eager_defaults: bool | Literal["auto"]
    arguments: dict[str, Any]
    memo: dict[Any, Any]
    clause: sa.FromClause

    def __init__(
        self, class_: type[T], registry: Any, local_table: sa.FromClause, arguments: dict[str, Any]
    ) -> None:
        facts = vars(self)
        facts["configured"] = False
        self.class_ = class_
        self.registry = registry
        self.local_table = local_table
        self.arguments = arguments
        self.eager_defaults = arguments.get("eager_defaults", "auto")
        self.always_refresh: bool = arguments.get("always_refresh", False)
        self.batch: bool = arguments.get("batch", True)
        self.confirm_deleted_rows: bool = arguments.get("confirm_deleted_rows", True)
        self.allow_partial_pks: bool = arguments.get("allow_partial_pks", True)
        self.passive_updates: bool = arguments.get("passive_updates", True)
        self.memo = {}
        self.clause = corelink.annotate(local_table, {corelink.ENTITY: self, "entity_namespace": self})

    def set_columns(
        self,
        properties: Sequence[ColumnProperty],
        primary_key: tuple[sa.ColumnElement[Any], ...],
        version_column: sa.ColumnElement[Any] | None,
    ) -> None:
        """State the column attributes; called by `configure` while the mapper is being made or grows."""
        facts = vars(self)
        name_of = {prop.column: prop.key for prop in properties}
        by_name = {prop.key: prop for prop in properties}
        facts["columns"] = ColumnProperties(properties)
        facts["primary_key"] = primary_key
        facts["name_of"] = name_of
        facts["column_of"] = {prop.key: prop.column for prop in properties}
        facts["key_names"] = tuple(name_of[column] for column in primary_key)
        facts["attrs"] = facts["column_attrs"] = Names(self.class_.__name__, by_name)
        facts["c"] = corelink.named_columns([(prop.key, prop.column) for prop in properties])
        facts["version_column"] = version_column
        facts["version_generator"] = self.arguments.get("version_id_generator", next_version)
        for plan in self.memo.get("plans", ()):  # statement plans that spread this entity into columns
            plan.token = None
        self.memo.clear()

    def grow(self) -> None:
        """Forget what was derived from fewer columns; called by `configure` when a column was added."""
        count = len(self.columns)
        vars(self)["clause"] = corelink.annotate(
            self.local_table, {corelink.ENTITY: self, "entity_namespace": self, "sojourn_columns": count}
        )

    def __setattr__(self, name: str, value: object) -> None:
        if vars(self)["configured"] and not name.startswith("_"):
            raise FrozenMapper(self.class_.__name__, name)
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> NoReturn:
        raise FrozenMapper(self.class_.__name__, name)

    def __repr__(self) -> str:
        return f"<Mapper of {self.class_.__name__} on {getattr(self.local_table, 'name', self.local_table)}>"

    def __str__(self) -> str:
        return f"Mapper[{self.class_.__name__}({getattr(self.local_table, 'name', 'selectable')})]"

    def __clause_element__(self) -> sa.FromClause:
        """Stand for the table in statements, marked as this entity."""
        return self.clause

    # -- names that say the same in SQLAlchemy's terms -------------------------------------------------------

    @property
    def mapper(self) -> Mapper[T]:
        """Return itself."""
        return self

    @property
    def entity(self) -> type[T]:
        """Return the mapped class."""
        return self.class_

    @property
    def entity_namespace(self) -> type[T]:
        """Return where `filter_by` finds names."""
        return self.class_

    @property
    def persist_selectable(self) -> sa.FromClause:
        """Return the table that is written."""
        return self.local_table

    @property
    def selectable(self) -> sa.FromClause:
        """Return what is selected from."""
        return self.local_table

    @property
    def tables(self) -> list[sa.FromClause]:
        """Return the tables that take part."""
        return [self.local_table]

    @property
    def version_name(self) -> str | None:
        """Return the attribute that counts versions."""
        return None if self.version_column is None else self.name_of[self.version_column]

    @property
    def version_id_col(self) -> sa.ColumnElement[Any] | None:
        """Return the column that counts versions."""
        return self.version_column

    @property
    def version_id_generator(self) -> Callable[[Any], Any] | Literal[False]:
        """Return the function that makes the next version; False where the database does."""
        return self.version_generator

    @property
    def base_mapper(self) -> Mapper[Any]:
        """Return the root of the hierarchy."""
        return self

    @property
    def polymorphic_map(self) -> dict[Any, Mapper[Any]]:
        """Return the mappers by discriminator."""
        return {}

    @property
    def self_and_descendants(self) -> frozenset[Mapper[Any]]:
        """Return this mapper and those below it."""
        return frozenset((self,))

    @property
    def relationships(self) -> Names[Any]:
        """Return the relationships: none yet."""
        return Names(self.class_.__name__, {})

    composites = synonyms = relationships

    @property
    def all_orm_descriptors(self) -> Names[Any]:
        """Return the class attributes that stand for mapped attributes."""
        return Names(self.class_.__name__, {key: getattr(self.class_, key) for key in self.column_of})

    @property
    def iterate_properties(self) -> Iterator[ColumnProperty]:
        """Return an iterator over the attributes' descriptions."""
        return iter(self.columns)

    def iterate_to_root(self) -> Iterator[Mapper[Any]]:
        """Yield this mapper and those above it."""
        yield self

    def polymorphic_iterator(self) -> Iterator[Mapper[Any]]:
        """Yield this mapper and those below it."""
        yield self

    def isa(self, other: Mapper[Any]) -> bool:
        """Return whether this mapper is *other* or below it."""
        return any(mapper is other for mapper in self.iterate_to_root())

    def common_parent(self, other: Mapper[Any]) -> bool:
        """Return whether both belong to one hierarchy."""
        return self.base_mapper is other.base_mapper

    # -- attributes ------------------------------------------------------------------------------------------

    def has_property(self, key: str) -> bool:
        """Return whether an attribute of that name is mapped."""
        return key in self.column_of

    def get_property(self, key: str) -> ColumnProperty:
        """Return the description of an attribute; raise UnknownAttribute for another name."""
        prop: ColumnProperty | None = self.attrs.get(key)
        if prop is None:
            raise UnknownAttribute(self.class_.__name__, key, self.column_of)
        return prop

    def get_property_by_column(self, column: sa.ColumnElement[Any]) -> ColumnProperty:
        """Return the description of the attribute that stands for *column*."""
        name = self.name_of.get(column)
        if name is None:
            raise UnknownAttribute(self.class_.__name__, str(column), self.column_of)
        return self.attrs[name]

    # -- keys ------------------------------------------------------------------------------------------------

    def primary_key_from_instance(self, instance: T) -> list[Any]:
        """Return the key values of an entity without loading them: those it was stored with, if expired."""
        values = dict_of(instance)
        if all(name in values for name in self.key_names):
            return [values[name] for name in self.key_names]
        state = state_of(instance)
        if state.identity is not None:
            return list(state.identity)
        return [values.get(name) for name in self.key_names]

    def identity_key_from_instance(self, instance: T) -> tuple[type[T], tuple[Any, ...], Any]:
        """Return the identity key of an entity."""
        return self.identity_key_from_primary_key(self.primary_key_from_instance(instance))

    def identity_key_from_primary_key(
        self, primary_key: Sequence[Any], identity_token: Any = None
    ) -> tuple[type[T], tuple[Any, ...], Any]:
        """Return the identity key for key values in the order of `primary_key`."""
        if len(primary_key) != len(self.primary_key):
            raise KeyArity(self.class_.__name__, primary_key, self.key_names)
        return (self.class_, tuple(primary_key), identity_token)

    def identity_key_from_row(
        self, row: Any, identity_token: Any = None, adapter: Any = None
    ) -> tuple[type[T], tuple[Any, ...], Any]:
        """Return the identity key of the entity that a Core row of its table stands for."""
        columns = self.primary_key if adapter is None else [adapter.columns[c] for c in self.primary_key]
        return (self.class_, tuple(row._mapping[column] for column in columns), identity_token)

    def get_type(self, name: str) -> TypeEngine[Any]:
        """Return the column type of an attribute."""
        return self.column_of[name].type
