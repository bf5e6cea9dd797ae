"""Write a column into a class body: `mapped_column`, `column_property`, `deferred`, `declared_attr`.

These are specs: what the user wrote. `ColumnSpec` is the form in which the class scan and imperative mapping
hand them to `configure`, which turns them into the `ColumnProperty`s of a finished mapper.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypeVar, overload

import sqlalchemy as sa
from sqlalchemy.sql.operators import ColumnOperators

from sojourn import corelink
from sojourn.errors import DataclassArgument, NotAColumn, NotYet
from sojourn.mapping.annotations import Annotation, Mapped, TypeMap, find_type
from sojourn.symbols import NOT_GIVEN

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy.schema import SchemaItem
    from sqlalchemy.types import TypeEngine

    from sojourn.statements.columns import InstrumentedAttribute

T = TypeVar("T")
V = TypeVar("V")
TypeArgument: TypeAlias = "type[TypeEngine[Any]] | TypeEngine[Any]"

#: Names of attributes that declarative classes need for themselves.
RESERVED = frozenset({"metadata", "registry"})

# What a mapped dataclass says about the field; refused where the class is no mapped dataclass.
_DATACLASS_ARGUMENTS = ("init", "repr", "default_factory", "compare", "kw_only", "hash", "dataclass_metadata")


@dataclass(frozen=True, slots=True)
class ColumnSpec:
    """Say how one column becomes an attribute."""

    key: str
    column: sa.ColumnElement[Any]
    deferred: bool = False
    group: str | None = None
    raiseload: bool = False
    active_history: bool = False
    expire_on_flush: bool = True
    sort_order: int = 0
    doc: str | None = None
    info: dict[Any, Any] | None = None
    comparator_factory: Any = None  # Any: a subclass of Core's comparator, given to the attribute


if TYPE_CHECKING:  # the operators are part of Mapped's static type

    class _Operators: ...

else:
    _Operators = ColumnOperators


class MappedColumn(_Operators, Mapped[T]):
    """Be a column as written in a class body, until its annotation and its name are known."""

    def __init__(
        self, column: sa.Column[Any], options: dict[str, Any], dataclass_arguments: dict[str, Any]
    ) -> None:
        self.column = column
        self.options = options  # only what was said: what Annotated says fills the rest
        self.dataclass_arguments = dataclass_arguments

    def __clause_element__(self) -> sa.Column[Any]:
        """Stand for the column in constraints, indexes and expressions of the same class body."""
        return self.column

    def __repr__(self) -> str:
        return f"mapped_column({self.column.name!r}, {self.column.type!r})"

    if not TYPE_CHECKING:
        __hash__ = object.__hash__

        def operate(self, op: Any, *other: Any, **kwargs: Any) -> Any:
            """Apply a Core operator to the column."""
            return op(self.column, *other, **kwargs)

        def reverse_operate(self, op: Any, other: Any, **kwargs: Any) -> Any:
            """Apply a Core operator with the column on the right."""
            return op(other, self.column, **kwargs)

    @property
    def name(self) -> str | None:
        """Return the column's name, None until it takes that of its attribute."""
        return self.column.name

    @property
    def foreign_keys(self) -> set[sa.ForeignKey]:
        """Return the column's foreign keys."""
        return self.column.foreign_keys

    def copy(self) -> MappedColumn[T]:
        """Return an independent copy, as each class that uses a mixin needs."""
        return MappedColumn(
            corelink.copy_column(self.column), dict(self.options), dict(self.dataclass_arguments)
        )

    def annotate(self, annotation: Annotation, type_map: TypeMap, entity: str, attribute: str) -> None:
        """Take from *annotation* what the column itself does not say."""
        column = self.column
        for embedded in annotation.metadata:
            if isinstance(embedded, MappedColumn):
                self._fill(embedded)
        if not corelink.has_nullable(column):
            column.nullable = annotation.nullable
        if not corelink.has_type(column) and not column.foreign_keys and annotation.text != "Mapped":
            corelink.set_column_type(column, find_type(annotation, type_map, entity, attribute))

    def _fill(self, embedded: MappedColumn[Any]) -> None:
        corelink.merge_column(corelink.copy_column(embedded.column), self.column)
        self.options = embedded.options | self.options
        self.dataclass_arguments = embedded.dataclass_arguments | self.dataclass_arguments

    def as_spec(self, entity: str, attribute: str) -> ColumnSpec:
        """Return the finished spec under the name *attribute*; the column gets that name if it has none."""
        if self.dataclass_arguments:
            raise DataclassArgument(entity, attribute, self.dataclass_arguments)
        name_column(self.column, attribute)
        said = self.options
        group = said.get("deferred_group")
        return ColumnSpec(
            attribute,
            self.column,
            deferred=said.get("deferred", group is not None),
            group=group,
            raiseload=bool(said.get("deferred_raiseload")),
            active_history=said.get("active_history", False),
            sort_order=said.get("sort_order", 0),
            doc=self.column.doc,
        )


class MappedSQLExpression(Mapped[T]):
    """Be a column with mapping options as written: `column_property(...)`, `deferred(...)`."""

    def __init__(
        self, columns: tuple[Any, ...], options: dict[str, Any], dataclass_arguments: dict[str, Any]
    ) -> None:
        self.columns = columns
        self.options = options
        self.dataclass_arguments = dataclass_arguments

    def copy(self) -> MappedSQLExpression[T]:
        """Return an independent copy, as each class that uses a mixin needs."""
        columns = tuple(
            c.copy() if isinstance(c, MappedColumn) else corelink.copy_column(c) if is_loose_column(c) else c
            for c in self.columns
        )
        return MappedSQLExpression(columns, dict(self.options), dict(self.dataclass_arguments))

    def find_column(self) -> MappedColumn[Any] | sa.ColumnElement[Any] | None:
        """Return the one thing it wraps, if that is a column."""
        first: MappedColumn[Any] | sa.ColumnElement[Any] = self.columns[0]
        if len(self.columns) == 1 and (isinstance(first, MappedColumn) or is_column(first)):
            return first
        return None

    def as_spec(self, entity: str, attribute: str) -> ColumnSpec:
        """Return the finished spec under the name *attribute*."""
        column = self.find_column()
        if column is None:
            if not all(
                isinstance(c, MappedColumn) or hasattr(c, "__clause_element__") or is_sql(c)
                for c in self.columns
            ):
                raise NotAColumn(entity, attribute, self.columns[0])
            raise NotYet(
                f"{entity}.{attribute}",
                "SQL expressions and several columns in column_property() are",
                "Map a single column, and select the expression: select(User, expression).",
            )
        if self.dataclass_arguments:
            raise DataclassArgument(entity, attribute, self.dataclass_arguments)
        if isinstance(column, MappedColumn):
            column = column.as_spec(entity, attribute).column
        if isinstance(column, sa.Column):
            name_column(column, attribute)
        return ColumnSpec(attribute, column, **self.options)


def name_column(column: sa.Column[Any], attribute: str) -> None:
    """Let a column without a name take that of its attribute."""
    if column.name is None:
        column.name = attribute
    if column.key is None:
        column.key = column.name


def is_sql(value: object) -> bool:
    """Return whether *value* is an expression of Core."""
    return isinstance(value, sa.ClauseElement)


def is_column(value: object) -> bool:
    """Return whether *value* is a column of a table, a subquery or a join."""
    return isinstance(value, sa.ColumnClause) or (
        isinstance(value, sa.ColumnElement) and hasattr(value, "table")
    )


def is_loose_column(value: object) -> bool:
    """Return whether *value* is a Column that no table has taken yet."""
    return isinstance(value, sa.Column) and getattr(value, "table", None) is None


def is_construct(value: object) -> bool:
    """Return whether *value*, found in a class body, asks to be mapped."""
    return isinstance(value, MappedColumn | MappedSQLExpression | sa.Column)


def as_spec(value: object, entity: str, attribute: str) -> ColumnSpec:
    """Return the spec of anything that may stand for a column; raise NotAColumn for the rest."""
    if isinstance(value, MappedColumn | MappedSQLExpression):
        return value.as_spec(entity, attribute)
    if isinstance(value, sa.Column):
        name_column(value, attribute)
        return ColumnSpec(attribute, value, doc=value.doc)
    if is_column(value):
        assert isinstance(value, sa.ColumnElement)
        return ColumnSpec(attribute, value)
    if isinstance(value, list | tuple) and len(value) == 1 and is_column(value[0]):
        return as_spec(value[0], entity, attribute)
    if isinstance(value, list | tuple) and value and all(map(is_column, value)):
        raise NotYet(
            f"{entity}.{attribute}", "attributes over several columns are", "Map each column by itself."
        )
    raise NotAColumn(entity, attribute, value)


# -- what users write ----------------------------------------------------------------------------------------


def mapped_column(
    __name_pos: str | TypeArgument | SchemaItem | None = None,
    __type_pos: TypeArgument | SchemaItem | None = None,
    /,
    *args: SchemaItem,
    init: bool = NOT_GIVEN,  # type: ignore[assignment]  # the sentinel stands for "not said"
    repr: bool = NOT_GIVEN,  # type: ignore[assignment]  # noqa: A002  -- SQLAlchemy's name
    default: Any = NOT_GIVEN,
    default_factory: Callable[[], Any] = NOT_GIVEN,  # type: ignore[assignment]
    compare: bool = NOT_GIVEN,  # type: ignore[assignment]
    kw_only: bool = NOT_GIVEN,  # type: ignore[assignment]
    hash: bool | None = NOT_GIVEN,  # type: ignore[assignment]  # noqa: A002  -- SQLAlchemy's name
    nullable: bool | None = None,
    primary_key: bool | None = None,
    deferred: bool = NOT_GIVEN,  # type: ignore[assignment]
    deferred_group: str | None = None,
    deferred_raiseload: bool | None = None,
    use_existing_column: bool = False,
    name: str | None = None,
    type_: TypeArgument | None = None,
    autoincrement: bool | Literal["auto", "ignore_fk"] = "auto",
    doc: str | None = None,
    key: str | None = None,
    index: bool | None = None,
    unique: bool | None = None,
    info: dict[Any, Any] | None = None,
    onupdate: Any = None,
    insert_default: Any = NOT_GIVEN,
    server_default: Any = None,
    server_onupdate: Any = None,
    active_history: bool = False,
    quote: bool | None = None,
    system: bool = False,
    comment: str | None = None,
    sort_order: int = NOT_GIVEN,  # type: ignore[assignment]
    dataclass_metadata: Mapping[Any, Any] | None = NOT_GIVEN,  # type: ignore[assignment]
    **kw: Any,
) -> MappedColumn[Any]:
    """Declare a column attribute; name, type and nullability come from the annotation where not given.

    `insert_default` and `default` are both the value of an INSERT that names none; `insert_default` wins.
    `sort_order` moves the column within CREATE TABLE.
    """
    said = {
        "init": init,
        "repr": repr,
        "default_factory": default_factory,
        "compare": compare,
        "kw_only": kw_only,
        "hash": hash,
        "dataclass_metadata": dataclass_metadata,
    }
    options: dict[str, Any] = {
        "deferred": deferred,
        "deferred_group": NOT_GIVEN if deferred_group is None else deferred_group,
        "deferred_raiseload": NOT_GIVEN if deferred_raiseload is None else deferred_raiseload,
        "active_history": active_history or NOT_GIVEN,
        "sort_order": sort_order,
        "use_existing_column": use_existing_column or NOT_GIVEN,
    }
    if insert_default is not NOT_GIVEN:
        kw["default"] = insert_default
    elif default is not NOT_GIVEN:
        kw["default"] = default
    if nullable is not None:
        kw["nullable"] = nullable
    positional = [item for item in (__name_pos, __type_pos, *args) if item is not None]
    column: sa.Column[Any] = sa.Column(
        *positional,  # type: ignore[arg-type]  # name, type or schema item, in Column's own order
        name=name,
        type_=type_,
        primary_key=bool(primary_key),
        autoincrement=autoincrement,
        doc=doc,
        key=key,
        index=index,
        unique=unique,
        info=info,
        onupdate=onupdate,
        server_default=server_default,
        server_onupdate=server_onupdate,
        quote=quote,
        system=system,
        comment=comment,
        **kw,
    )
    return MappedColumn(column, _given(options), _given(said))


def column_property(
    column: Any,
    *additional_columns: Any,
    group: str | None = None,
    deferred: bool = False,
    raiseload: bool = False,
    comparator_factory: Any = None,
    active_history: bool = False,
    expire_on_flush: bool = True,
    info: dict[Any, Any] | None = None,
    doc: str | None = None,
    **dataclass_arguments: Any,
) -> MappedSQLExpression[Any]:
    """Declare an attribute over *column* with mapping options."""
    unknown = set(dataclass_arguments) - {*_DATACLASS_ARGUMENTS, "default"}
    if unknown:
        raise TypeError(f"column_property() got an unexpected keyword argument {min(unknown)!r}")
    options = {
        "deferred": deferred or group is not None,
        "group": group,
        "raiseload": raiseload,
        "active_history": active_history,
        "expire_on_flush": expire_on_flush,
        "info": info,
        "doc": doc,
        "comparator_factory": comparator_factory,
    }
    return MappedSQLExpression((column, *additional_columns), options, dataclass_arguments)


def deferred(column: Any, *additional_columns: Any, **options: Any) -> MappedSQLExpression[Any]:
    """Declare an attribute over *column* that is loaded when first read; options as in `column_property`."""
    options["deferred"] = True
    return column_property(column, *additional_columns, **options)


def _given(arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if value is not NOT_GIVEN}


class declared_attr(Generic[T]):  # noqa: N801  -- SQLAlchemy's name
    """Compute an attribute or a directive of each class that uses a mixin from that class.

    While a class is scanned the function runs once and its result is kept, so that one computed column may
    be named by another. `declared_attr.directive` is the same for `__tablename__` and the like.
    """

    def __init__(self, fn: Callable[..., Mapped[T] | sa.SQLColumnExpression[T]]) -> None:
        self.fget: Callable[..., Any] = getattr(fn, "__func__", fn)  # it may be a classmethod
        self.__doc__ = self.fget.__doc__

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: Any) -> InstrumentedAttribute[T]: ...
        @overload
        def __get__(self, instance: object, owner: Any) -> T: ...

    def __get__(self, instance: object | None, owner: Any) -> Any:
        return computed(self, owner)

    @classmethod
    def directive(cls, fn: Callable[..., V]) -> declared_directive[V]:
        """Compute a directive such as `__tablename__`."""
        return declared_directive(fn)

    @classmethod
    def cascading(cls, fn: Callable[..., Mapped[V] | sa.SQLColumnExpression[V]]) -> declared_attr[V]:
        """Compute an attribute anew for every class down a hierarchy."""
        return declared_attr(fn)


class declared_directive(Generic[T]):  # noqa: N801  -- as declared_attr
    """Compute a directive such as `__tablename__` from the class that uses a mixin."""

    def __init__(self, fn: Callable[..., T]) -> None:
        self.fget: Callable[..., T] = getattr(fn, "__func__", fn)
        self.__doc__ = self.fget.__doc__

    def __get__(self, instance: object | None, owner: Any) -> T:
        value: T = computed(self, owner)
        return value


def computed(declared: declared_attr[Any] | declared_directive[Any], owner: Any) -> Any:
    """Return what a declared function says about *owner*: during a scan always the same."""
    values = SCANNING.get(owner)
    if values is None:
        return declared.fget(owner)
    if declared not in values:
        values[declared] = declared.fget(owner)
    return values[declared]


#: What each declared_attr returned for a class whose scan is going on.
SCANNING: dict[Any, dict[Any, Any]] = {}  # Any: classes under construction; declared_attr results


@dataclass(frozen=True, slots=True)
class scanning:  # noqa: N801  -- used as `with scanning(cls)`
    """Keep the results of declared_attr functions while *cls* is scanned."""

    cls: type
    values: dict[Any, Any] = field(default_factory=dict)

    def __enter__(self) -> None:
        SCANNING[self.cls] = self.values

    def __exit__(self, *error: object) -> None:
        SCANNING.pop(self.cls, None)
