"""Errors of mapping (SJ1xx): a class cannot be mapped as it is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy.exc as sa

from sojourn.errors.base import SojournError, closest

if TYPE_CHECKING:
    from collections.abc import Iterable


class MappingError(SojournError, sa.ArgumentError):
    """A class cannot be mapped as it is written."""

    number = "SJ100"


class UnmappedClass(SojournError, sa.InvalidRequestError):
    """Something that is not a mapped class was used as one."""

    number = "SJ101"

    def __init__(self, thing: object) -> None:
        self.thing = thing
        name = thing.__name__ if isinstance(thing, type) else repr(thing)
        super().__init__(
            f"{name} is not a mapped class.",
            f"Map it first: class {thing.__name__ if isinstance(thing, type) else 'User'}(Base): ..., "
            "or registry.map_imperatively(cls, table).",
        )


class UnmappedInstance(SojournError, sa.InvalidRequestError):
    """Something that is not an entity was handed to a session."""

    number = "SJ102"

    def __init__(self, thing: object) -> None:
        self.thing = thing
        hint = (
            "pass an instance, not the class: session.add(User(...))"
            if isinstance(thing, type)
            else ("pass instances of mapped classes, or use session.add_all(list) for several")
        )
        super().__init__(
            f"{thing!r} is not an entity: {type(thing).__name__} is not mapped.", f"Remedy: {hint}."
        )


class MappedTwice(MappingError):
    """A class that has a mapper was mapped again."""

    number = "SJ103"

    def __init__(self, entity: str, table: object) -> None:
        self.entity, self.table = entity, table
        super().__init__(
            f"{entity} is already mapped, to {table}.",
            f"Map another class: class {entity}View: ..., or undo the first mapping: registry.dispose().",
        )


class NoPrimaryKey(MappingError):
    """A mapped class has no primary key to tell its entities apart."""

    number = "SJ104"

    def __init__(self, entity: str, table: str, columns: Iterable[str], declarative: bool) -> None:
        self.entity, self.table = entity, table
        first = next(iter(columns), "id")
        super().__init__(
            f"{entity} cannot be mapped: {table} has no primary key, which tells its entities apart.",
            f"Mark it: {first}: Mapped[int] = mapped_column(primary_key=True)."
            if declarative
            else f"Name the columns that are unique together: primary_key=[{table}.c.{first}].",
        )


class NoTable(MappingError):
    """A class that should be mapped names no table."""

    number = "SJ105"

    def __init__(self, entity: str) -> None:
        self.entity = entity
        super().__init__(
            f"{entity} cannot be mapped: it names no table.",
            f'Write __tablename__ = "{entity.lower()}" or __table__ = Table(...) into {entity}; '
            "if it is only a base of others, __abstract__ = True.",
        )


class UnknownType(MappingError):
    """The Python type of an annotation has no SQL type."""

    number = "SJ106"

    def __init__(self, entity: str, attribute: str, python_type: object, reason: str = "") -> None:
        self.entity, self.attribute, self.python_type = entity, attribute, python_type
        shown = getattr(python_type, "__name__", None) if isinstance(python_type, type) else None
        shown = repr(python_type) if shown is None or "[" in repr(python_type) else shown
        super().__init__(
            f"{entity}.{attribute} is Mapped[{shown}], and no column type is known for {shown}."
            + (f" {reason}" if reason else ""),
            f"Give it one: {attribute}: Mapped[{shown}] = mapped_column(JSON), "
            f"or for all: class Base(DeclarativeBase): type_annotation_map = {{{shown}: JSON}}.",
        )


class NotMapped(MappingError):
    """A column is annotated with its bare Python type."""

    number = "SJ107"

    def __init__(self, entity: str, attribute: str, annotation: object) -> None:
        self.entity, self.attribute, self.annotation = entity, attribute, annotation
        shown = annotation.__name__ if type(annotation) is type else str(annotation)
        super().__init__(
            f"{entity}.{attribute} is annotated with {shown}, which does not say whether it is mapped.",
            f"A column: {attribute}: Mapped[{shown}]; no column: {attribute}: ClassVar[{shown}]; "
            "leave annotations alone in this class: __allow_unmapped__ = True.",
        )


class UnresolvedAnnotation(MappingError):
    """An annotation written as text names something its module does not know."""

    number = "SJ108"

    def __init__(self, entity: str, attribute: str, text: str, cause: BaseException) -> None:
        self.entity, self.attribute, self.text, self.cause = entity, attribute, text, cause
        super().__init__(
            f"The annotation {text!r} of {entity}.{attribute} cannot be read: {cause}.",
            f"Import what it names at the head of the module (not under TYPE_CHECKING), "
            f"or give the type: {attribute}: Mapped[...] = mapped_column(Integer).",
        )


class UnknownMapperArgument(MappingError):
    """`__mapper_args__` or map_imperatively() has a key that means nothing."""

    number = "SJ109"

    def __init__(self, entity: str, key: str, known: Iterable[str]) -> None:
        self.entity, self.key = entity, key
        known = sorted(known)
        super().__init__(
            f"{entity} is mapped with the unknown argument {key!r}.{closest(key, known)}",
            f"Known: {', '.join(known)}.",
        )


class ColumnTwice(MappingError):
    """Two attributes of a class stand for one column, or two columns for one name."""

    number = "SJ110"

    def __init__(self, entity: str, column: str, first: str, second: str) -> None:
        self.entity, self.column, self.first, self.second = entity, column, first, second
        super().__init__(
            f"{entity}.{first} and {entity}.{second} both stand for the column {column!r}.",
            f'Remove one, or name another column: {second} = mapped_column("{second}_2", ...).',
        )


class NotAColumn(MappingError):
    """A mapped attribute was given something that is no column."""

    number = "SJ111"

    def __init__(self, entity: str, attribute: str, value: object, hint: str = "") -> None:
        self.entity, self.attribute, self.value = entity, attribute, value
        super().__init__(
            f"{entity}.{attribute} is mapped to {value!r}, which is no column.",
            hint
            or f"Write {attribute} = mapped_column(...); in map_imperatively(): "
            f'properties={{"{attribute}": table.c.{attribute}}}.',
        )


class ReservedName(MappingError):
    """An attribute has a name that declarative classes need for themselves."""

    number = "SJ112"

    def __init__(self, entity: str, attribute: str) -> None:
        self.entity, self.attribute = entity, attribute
        super().__init__(
            f"{entity}.{attribute} cannot be a column attribute: "
            f"declarative classes keep their {attribute} there.",
            f"Name the attribute otherwise, the column may stay: "
            f'{attribute}_ = mapped_column("{attribute}", ...).',
        )


class TrailingComma(MappingError):
    """A column in a class body is a tuple because its line ends with a comma."""

    number = "SJ113"

    def __init__(self, entity: str, attribute: str) -> None:
        self.entity, self.attribute = entity, attribute
        super().__init__(
            f"{entity}.{attribute} is a tuple holding a column: its line ends with a comma.",
            f"Remove the comma: {attribute} = mapped_column(...)",
        )


class NotYet(MappingError, NotImplementedError):
    """Something of SQLAlchemy's mapping that this version of sojourn does not have."""

    number = "SJ114"

    def __init__(self, where: str, feature: str, instead: str) -> None:
        self.where, self.feature = where, feature
        super().__init__(f"{where}: {feature} not there yet in this version of sojourn.", instead)


class TableTaken(MappingError):
    """Two classes declare one table."""

    number = "SJ116"

    def __init__(self, entity: str, table: str, holder: str) -> None:
        self.entity, self.table, self.holder = entity, table, holder
        super().__init__(
            f"{entity} declares the table {table!r}, which {holder} already declared in the same MetaData.",
            f'Name another: __tablename__ = "{table}_2", or map the existing one: '
            f'__table__ = Base.metadata.tables["{table}"].',
        )


class UnknownColumn(MappingError):
    """A mapping argument names a column that the table does not have."""

    number = "SJ117"

    def __init__(self, entity: str, argument: str, column: object, known: Iterable[str]) -> None:
        self.entity, self.argument, self.column = entity, argument, column
        known = list(known)
        super().__init__(
            f"{argument} of {entity} names {column}, which is no mapped column of it."
            f"{closest(str(column), known)}",
            f"Its columns are: {', '.join(known)}.",
        )


class DataclassArgument(MappingError):
    """A column has arguments for dataclass fields in a class that is no mapped dataclass."""

    number = "SJ118"

    def __init__(self, entity: str, attribute: str, names: Iterable[str]) -> None:
        self.entity, self.attribute, self.names = entity, attribute, tuple(names)
        super().__init__(
            f"{entity}.{attribute} has dataclass argument(s) {', '.join(self.names)}, "
            f"but {entity} is no mapped dataclass.",
            "Remove them; a Python-side default of the column is insert_default=... or default=...",
        )


class FrozenMapper(MappingError):
    """A finished mapper was changed."""

    number = "SJ119"

    def __init__(self, entity: str, attribute: str) -> None:
        self.entity, self.attribute = entity, attribute
        super().__init__(
            f"The mapper of {entity} is finished: its {attribute} cannot be set.",
            f"Add a column: {entity}.name = mapped_column(...); say the rest in __mapper_args__.",
        )


class NotInspectable(UnmappedClass, sa.NoInspectionAvailable):
    """inspect() was asked about something that neither sojourn nor SQLAlchemy knows."""

    number = "SJ120"
