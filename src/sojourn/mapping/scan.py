"""Read a class body and its mixins into a `MappingSpec`: the table and the columns that become attributes.

The class itself comes first, then its bases in the order of the MRO; the first who says something about a
name decides. What mixins say is copied, since a column belongs to one table. The class is left unchanged.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from sojourn import corelink
from sojourn.errors import (
    ColumnTwice,
    MappingError,
    NoTable,
    NotAColumn,
    NotMapped,
    NotYet,
    ReservedName,
    TableTaken,
    TrailingComma,
)
from sojourn.mapping.annotations import Annotation, TypeMap, is_class_var, read_annotations, read_mapped
from sojourn.mapping.columns import (
    RESERVED,
    ColumnSpec,
    MappedColumn,
    MappedSQLExpression,
    as_spec,
    column_property,
    declared_attr,
    declared_directive,
    deferred,
    is_construct,
    is_loose_column,
    mapped_column,
    scanning,
)
from sojourn.symbols import NOT_GIVEN

_CALLED = (mapped_column, column_property, deferred, sa.Column)  # to be called, at times forgotten


@dataclass(frozen=True, slots=True)
class MappingSpec:
    """Say what a class maps, as its author wrote it."""

    cls: type
    table: sa.FromClause
    columns: tuple[ColumnSpec, ...]
    arguments: dict[str, Any]
    made: bool  # the table was made from the columns, not given


@dataclass(frozen=True, slots=True)
class _Written:
    """Be one name of a class body: its value or NOT_GIVEN, and what is annotated."""

    owner: type
    name: str
    value: Any
    annotation: Any


def scan(
    cls: type, metadata: sa.MetaData, type_map: TypeMap, find_holder: Callable[[sa.Table], str | None]
) -> MappingSpec:
    """Return what *cls* maps; *find_holder* names the class that already has a table, for the error."""
    check_no_inheritance(cls)
    with scanning(cls):
        reader = _Reader(cls, type_map)
        given = getattr(cls, "__table__", None)
        fixed = _check_table(cls, given) if given is not None else None
        specs = tuple(reader.read(fixed))
        arguments = _read_mapper_arguments(cls, reader)
        table = fixed if fixed is not None else _make_table(cls, metadata, specs, find_holder)
    return MappingSpec(cls, table, specs, arguments, made=fixed is None)


def check_no_inheritance(cls: type) -> None:
    """Refuse a class below a mapped class: mapped hierarchies are not there yet."""
    for base in cls.__mro__[1:]:
        if "__mapper__" in vars(base):
            raise NotYet(
                f"{cls.__name__}({base.__name__})",
                "mapped classes that inherit from mapped classes are",
                f"Share columns through a mixin or an abstract base: class {base.__name__}Columns: ..., "
                f"class {cls.__name__}({base.__name__}Columns, Base): ...",
            )


def _check_table(cls: type, given: object) -> sa.FromClause:
    if not isinstance(given, sa.FromClause):
        raise MappingError(
            f"{cls.__name__}.__table__ is {given!r}, which is no table.",
            f'Write __table__ = Table("{cls.__name__.lower()}", Base.metadata, Column(...)), '
            f'or __tablename__ = "{cls.__name__.lower()}".',
        )
    return given


def _make_table(
    cls: type,
    metadata: sa.MetaData,
    specs: tuple[ColumnSpec, ...],
    find_holder: Callable[[sa.Table], str | None],
) -> sa.Table:
    name = getattr(cls, "__tablename__", None)
    if name is None:
        raise NoTable(cls.__name__)
    items, keywords = _read_table_arguments(cls)
    metadata = getattr(cls, "metadata", None) or metadata
    schema = keywords.get("schema", metadata.schema)
    held = metadata.tables.get(f"{schema}.{name}" if schema else name)
    if held is not None and not keywords.keys() & {"extend_existing", "keep_existing", "autoload_with"}:
        raise TableTaken(cls.__name__, held.key, find_holder(held) or "another class or a Table")
    columns: dict[str, ColumnSpec] = {}
    for spec in sorted(specs, key=lambda spec: spec.sort_order):
        assert isinstance(spec.column, sa.Column)
        first = columns.setdefault(spec.column.name, spec)
        if first is not spec:
            raise ColumnTwice(cls.__name__, spec.column.name, first.key, spec.key)
    make: Any = getattr(cls, "__table_cls__", sa.Table)  # Any: a Table, or a function that makes one
    table: sa.Table = make(name, metadata, *(spec.column for spec in columns.values()), *items, **keywords)
    return table


def _read_table_arguments(cls: type) -> tuple[tuple[Any, ...], dict[str, Any]]:
    written = getattr(cls, "__table_args__", None)
    if written is None:
        return (), {}
    if isinstance(written, Mapping):
        return (), dict(written)
    if isinstance(written, tuple):
        if written and isinstance(written[-1], Mapping):
            return written[:-1], dict(written[-1])
        return written, {}
    raise MappingError(
        f"{cls.__name__}.__table_args__ is {written!r}, which is neither a tuple nor a dict.",
        'Write (UniqueConstraint("a", "b"), {"schema": "shop"}); a single item needs its comma: (item,).',
    )


def _read_mapper_arguments(cls: type, reader: _Reader) -> dict[str, Any]:
    written = getattr(cls, "__mapper_args__", None)
    if written is None:
        return {}
    if not isinstance(written, Mapping):
        raise MappingError(
            f"{cls.__name__}.__mapper_args__ is {written!r}, which is no dict.",
            '__mapper_args__ = {"version_id_col": version}',
        )
    arguments = dict(written)
    if "version_id_col" in arguments:
        arguments["version_id_col"] = reader.of_this_class(arguments["version_id_col"])
    if isinstance(arguments.get("primary_key"), list | tuple):
        arguments["primary_key"] = [reader.of_this_class(c) for c in arguments["primary_key"]]
    return arguments


class _Reader:
    """Read the bodies of one class and its bases."""

    def __init__(self, cls: type, type_map: TypeMap) -> None:
        self.cls = cls
        self.entity = cls.__name__
        self.type_map = type_map
        self.copies: dict[int, Any] = {}  # id of a mixin's construct -> the copy for this class
        self.lenient = bool(getattr(cls, "__allow_unmapped__", False))

    def of_this_class(self, construct: Any) -> Any:
        """Return the column of this class where *construct* is that of a mixin, or not a Column yet."""
        construct = self.copies.get(id(construct), construct)
        return construct.column if isinstance(construct, MappedColumn) else construct

    def read(self, fixed: sa.FromClause | None) -> Iterator[ColumnSpec]:
        """Yield the column attributes in the order of the table's columns."""
        for written in self._written():
            if (construct := self._construct(written, fixed)) is None:
                continue
            name = written.name
            if name in RESERVED:
                raise ReservedName(self.entity, name)
            spec = as_spec(construct, self.entity, name)
            if fixed is not None and is_loose_column(spec.column):
                if written.owner is not self.cls and str(spec.column.key) in fixed.c:
                    continue
                raise MappingError(
                    f"{self.entity}.{name} is a new column, but {self.entity} has a __table__ already.",
                    f"Put it into that Table, or take it from there: {name} = __table__.c.{name}.",
                )
            yield spec
        yield from self._dataclass_fields()

    def _written(self) -> Iterator[_Written]:
        """Yield each name once, from the body that decides about it."""
        seen: set[str] = set()
        for base in self.cls.__mro__[:-1]:
            written = [w for w in read_body(base) if w.name not in seen]
            if base is not self.cls:  # computed columns of a mixin come last
                written.sort(key=lambda w: _is_declared(w.value))
            seen.update(vars(base), (w.name for w in written))
            yield from written

    def _construct(self, written: _Written, fixed: sa.FromClause | None) -> Any:
        """Return what maps the name, with its annotation applied; None if it is not mapped."""
        owner, name, value, raw = written.owner, written.name, written.value, written.annotation
        if _is_declared(value):
            value = getattr(self.cls, name)
            raw = getattr(vars(owner)[name], "fget").__annotations__.get("return", NOT_GIVEN)  # noqa: B009
            if not is_construct(value):
                return None
            self._complete(value, self._annotation(owner, name, raw), name)
            return value
        if (
            isinstance(value, tuple)
            and len(value) == 1
            and (is_construct(value[0]) or _is_declared(value[0]))
        ):
            raise TrailingComma(self.entity, name)
        if any(value is function for function in _CALLED):
            raise NotAColumn(self.entity, name, value, f"Call it: {name} = {value.__name__}(...).")
        if is_construct(value):
            if owner is not self.cls and not (isinstance(value, sa.Column) and not is_loose_column(value)):
                copied = corelink.copy_column(value) if isinstance(value, sa.Column) else value.copy()
                self.copies[id(value)] = copied
                value = copied
            if not isinstance(value, sa.Column) and raw is not NOT_GIVEN:
                annotation = self._annotation(owner, name, raw)
                if annotation is None and not self.lenient and not is_class_var(raw):
                    raise NotMapped(self.entity, name, raw)
                self._complete(value, annotation, name)
            return value
        if raw is NOT_GIVEN or is_class_var(raw):
            return None
        if (annotation := self._annotation(owner, name, raw)) is None:
            if value is NOT_GIVEN and owner is self.cls and not self.lenient and not self._is_field(name):
                raise NotMapped(self.entity, name, raw)
            return None
        if fixed is not None:  # the table says it all; the annotation is for type checkers
            return None
        if value is not NOT_GIVEN:
            raise NotAColumn(
                self.entity,
                name,
                value,
                f"A default is said so: {name}: Mapped[...] = mapped_column(default={value!r}).",
            )
        bare: MappedColumn[Any] = MappedColumn(sa.Column(), {}, {})
        self._complete(bare, annotation, name)
        return bare

    def _annotation(self, owner: type, name: str, raw: Any) -> Annotation | None:
        if raw is NOT_GIVEN:
            return None
        hidden = frozenset(
            key for key, value in vars(owner).items() if is_construct(value) or _is_declared(value)
        )
        return read_mapped(raw, owner, self.entity, name, hidden)

    def _complete(self, construct: Any, annotation: Annotation | None, attribute: str) -> None:
        if annotation is None:
            return
        column = construct.find_column() if isinstance(construct, MappedSQLExpression) else construct
        if isinstance(column, MappedColumn):
            column.annotate(annotation, self.type_map, self.entity, attribute)

    def _is_field(self, name: str) -> bool:
        return name in vars(self.cls).get("__dataclass_fields__", ())

    def _dataclass_fields(self) -> Iterator[ColumnSpec]:
        """Yield the columns that a dataclass carries in the metadata of its fields."""
        metadata_key = getattr(self.cls, "__sa_dataclass_metadata_key__", None)
        if metadata_key is None or not dataclasses.is_dataclass(self.cls):
            return
        for field in dataclasses.fields(self.cls):
            if metadata_key in field.metadata:
                value = field.metadata[metadata_key]
                if callable(value) and not is_construct(value):  # a mixin's field makes its column anew
                    value = value()
                yield as_spec(value, self.entity, field.name)


def read_body(cls: type) -> list[_Written]:
    """Return the names of one class body, as far as possible in the order of its lines.

    Python keeps values and annotations in two orders; names that have both tie them together. Between ties
    the lines are lost. There this takes SQLAlchemy's order, so that CREATE TABLE lists the columns as before:
    it walks one order up to the first half of a tie, then the other, which has the second half.
    """
    values = {name: value for name, value in vars(cls).items() if not _is_dunder(name)}
    annotations = {name: raw for name, raw in read_annotations(cls).items() if not _is_dunder(name)}
    half_met = {name: False for name in values if name in annotations}
    order: list[str] = []
    current, other = iter(values), iter(annotations)
    while True:
        for name in current:
            if half_met.get(name) is False:
                half_met[name] = True
                current, other = other, current
                break
            order.append(name)
        else:
            order.extend(other)
            break
    return [
        _Written(cls, name, values.get(name, NOT_GIVEN), annotations.get(name, NOT_GIVEN)) for name in order
    ]


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _is_declared(value: object) -> bool:
    return isinstance(value, declared_attr | declared_directive)
