"""Every exception of sojourn: what happened to which thing, the remedy as code, a stable code.

Each class is also a subclass of the `sqlalchemy.exc` class of that meaning, so that code written
for SQLAlchemy catches it. A message has three lines: what, remedy, number. The facts are kept as
attributes, because programs should not parse messages. `code = None` keeps SQLAlchemy's base class
from appending its own link.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, ClassVar

import sqlalchemy.exc as sa

if TYPE_CHECKING:
    from collections.abc import Iterable


class SojournError(sa.SQLAlchemyError):
    """Base of every error sojourn raises on its own account."""

    number: ClassVar[str] = "SJ000"
    code = None

    def __init__(self, what: str, remedy: str = "") -> None:
        self.what = what
        self.remedy = remedy
        lines = [
            what,
            *([remedy] if remedy else []),
            f"[{self.number}] sojourn doctor --explain {self.number}",
        ]
        super().__init__("\n  ".join(lines))


def closest(name: str, known: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for the known name nearest to *name*, or an empty text."""
    near = difflib.get_close_matches(str(name), [str(k) for k in known], n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


# -- SJ1xx: mapping ---------------------------------------------------------------------------


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
            f"{entity}.{attribute} cannot be a column attribute: declarative classes keep their {attribute} there.",
            f'Name the attribute otherwise, the column may stay: {attribute}_ = mapped_column("{attribute}", ...).',
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


# -- SJ2xx: attributes and loading ------------------------------------------------------------


class UnknownKeyword(SojournError, TypeError):
    """The keyword constructor got a name that the class does not map."""

    number = "SJ201"

    def __init__(self, entity: str, keyword: str, known: Iterable[str]) -> None:
        self.entity, self.keyword = entity, keyword
        known = sorted(known)
        super().__init__(
            f"{entity}() got an unknown keyword {keyword!r}.{closest(keyword, known)}",
            f"{entity} maps: {', '.join(known)}.",
        )


class DetachedRead(SojournError, sa.InvalidRequestError):
    """An attribute that is not loaded was read on an entity that belongs to no session."""

    number = "SJ202"

    def __init__(self, entity: str, attribute: str) -> None:
        self.entity, self.attribute = entity, attribute
        super().__init__(
            f"{entity}.{attribute} is not loaded, and this {entity} is detached: it belongs to no session.",
            f"Read it before the session ends, load it with the query, use Session(expire_on_commit=False), "
            f"or give it a session again: session.add({entity.lower()}).",
        )


class NotLoadedInAsync(SojournError, sa.MissingGreenlet):
    """An attribute that is not loaded was read where the session cannot block to load it."""

    number = "SJ210"

    def __init__(self, entity: str, attribute: str) -> None:
        self.entity, self.attribute = entity, attribute
        variable = entity.lower()
        super().__init__(
            f"{entity}.{attribute} is not loaded, and an async session cannot load it on access.",
            f"Before use: await session.refresh({variable}, [{attribute!r}]), "
            f"await session.load({variable}, {entity}.{attribute}), or await {variable}.awaitable_attrs.{attribute}.",
        )


class ObjectDeleted(SojournError, sa.InvalidRequestError):
    """The row of an entity is gone."""

    number = "SJ203"

    def __init__(self, entity: str, key: object) -> None:
        self.entity, self.key = entity, key
        super().__init__(
            f"The row of {entity} with key {key!r} is gone, or its key was changed by somebody else.",
            "Ask first: session.get(...) returns None for a missing row; forget this one: session.expunge(obj).",
        )


# -- SJ3xx: session ---------------------------------------------------------------------------


class SessionError(SojournError, sa.InvalidRequestError):
    """A session was asked for something it cannot do in its state."""

    number = "SJ300"


class OtherSession(SojournError, sa.InvalidRequestError):
    """An entity of one session was handed to another."""

    number = "SJ301"

    def __init__(self, entity: str, owner: object, asked: object) -> None:
        self.entity, self.owner, self.asked = entity, owner, asked
        super().__init__(
            f"This {entity} belongs to another session ({owner!r}, not {asked!r}).",
            "Copy its state: obj = session.merge(obj), or let go of it first: other.expunge(obj).",
        )


class SessionClosed(SessionError):
    """A session that was closed for good was used again."""

    number = "SJ302"

    def __init__(self, session: object) -> None:
        self.session = session
        super().__init__(
            f"{session!r} was closed for good (close_resets_only=False).",
            "Make a new one: session = Session(engine); a scoped session: registry.remove().",
        )


class KeyArity(SojournError, sa.InvalidRequestError):
    """A primary key value has the wrong shape for the class."""

    number = "SJ303"

    def __init__(self, entity: str, given: object, names: Iterable[str]) -> None:
        self.entity, self.given = entity, given
        names = tuple(names)
        one = "1" if len(names) == 1 else "(" + ", ".join(str(n + 1) for n in range(len(names))) + ")"
        super().__init__(
            f"{given!r} is no primary key of {entity}: it is made of {', '.join(names)}.",
            f"Write session.get({entity}, {one}), or session.get({entity}, "
            f"{{{', '.join(f'{n!r}: ...' for n in names)}}}).",
        )


class KeyIsNone(KeyArity):
    """A part of a primary key value is None."""

    number = "SJ304"


class NoBind(SojournError, sa.UnboundExecutionError):
    """The session knows no engine for what it shall execute."""

    number = "SJ305"

    def __init__(self, thing: object) -> None:
        self.thing = thing
        super().__init__(
            f"This session has no engine for {thing}.",
            "Give it one: Session(engine), sessionmaker(engine), or sessionmaker(binds={User: engine}).",
        )


class WrongStatement(SojournError, sa.ArgumentError):
    """What was given to execute is no executable statement."""

    number = "SJ306"

    def __init__(self, thing: object) -> None:
        self.thing = thing
        remedy = (
            "Wrap it: session.execute(text(...))."
            if isinstance(thing, str)
            else ("Give a statement: select(User), insert(User), update(User), delete(User), text(...).")
        )
        super().__init__(f"{thing!r} is not an executable statement.", remedy)


class NotPersistent(SojournError, sa.InvalidRequestError):
    """An operation needs an entity that has a row and belongs to this session."""

    number = "SJ307"

    def __init__(self, entity: str, state: str, operation: str) -> None:
        self.entity, self.state, self.operation = entity, state, operation
        super().__init__(
            f"session.{operation}() needs an entity stored through this session; this {entity} is {state}.",
            "Store it first: session.add(obj); session.flush(). A detached one: obj = session.merge(obj).",
        )


class TransactionState(SojournError, sa.InvalidRequestError):
    """The transaction is in a state that does not allow the operation."""

    number = "SJ308"


class IdentityConflict(SojournError, sa.InvalidRequestError):
    """A second entity with the identity key of another was added to a session."""

    number = "SJ311"

    def __init__(self, entity: str, key: object) -> None:
        self.entity, self.key = entity, key
        super().__init__(
            f"This session already has another {entity} with key {key!r}.",
            "Copy the values into that one: obj = session.merge(obj), or let go of it first: session.expunge(other).",
        )


class PendingRollback(SojournError, sa.PendingRollbackError):
    """A flush failed earlier and the transaction waits for rollback()."""

    number = "SJ309"

    def __init__(self, cause: BaseException) -> None:
        self.cause = cause
        super().__init__(
            f"This session's transaction failed during flush; the first cause was "
            f"{type(cause).__name__}: {str(cause).splitlines()[0] if str(cause) else ''}",
            "End it: session.rollback(), or session.close(); then repeat the work.",
        )


class UnflushedRows(sa.SAWarning):
    """A query in a no_autoflush block asks a table that has rows waiting to be inserted (G5)."""

    number: ClassVar[str] = "SJ310"

    def __init__(self, table: str, count: int) -> None:
        self.table, self.count = table, count
        super().__init__(
            f"This query reads {table}, but {count} new row{'s' if count > 1 else ''} of it "
            f"{'are' if count > 1 else 'is'} not flushed, and autoflush is off in this block.\n"
            "  Send them first: session.flush(), or run the query outside `with session.no_autoflush`.\n"
            f"  [{self.number}] sojourn doctor --explain {self.number}"
        )


# -- SJ4xx: flush -----------------------------------------------------------------------------


class ValueRefused(SojournError, sa.StatementError):
    """A column type refuses a value; nothing was sent."""

    number = "SJ401"

    def __init__(
        self, entity: str, attribute: str, value: object, kind: object, cause: BaseException
    ) -> None:
        self.entity, self.attribute, self.kind, self.cause = entity, attribute, kind, cause
        what = f"{entity}.{attribute} ({kind!r}) refuses a value of type {type(value).__name__}: {cause}"
        remedy = "Nothing was sent and nothing is lost: give it a value of the column's type and flush again."
        self.what, self.remedy = what, remedy
        text = f"{what}\n  {remedy}\n  [{self.number}] sojourn doctor --explain {self.number}"
        sa.StatementError.__init__(self, text, None, None, cause)


class FlushKeyMissing(SojournError, sa.InvalidRequestError):
    """A new entity has no primary key value and the database makes none."""

    number = "SJ402"

    def __init__(self, entity: str, attribute: str) -> None:
        self.entity, self.attribute = entity, attribute
        super().__init__(
            f"A new {entity} has no value for its key {attribute}, and the database makes none.",
            f"Set it: {entity}({attribute}=...), or give the column a default: "
            f"mapped_column(primary_key=True, default=...). Nothing was sent and nothing is lost.",
        )


class StaleData(SojournError):
    """A row that a flush should change was not there any more, or not in the expected version."""

    number = "SJ403"


StaleDataError = StaleData


class BulkKey(SojournError, sa.InvalidRequestError):
    """A row given to a bulk operation has a key that the class does not map."""

    number = "SJ404"

    def __init__(self, entity: str, key: str, row: int, known: Iterable[str]) -> None:
        self.entity, self.key, self.row = entity, key, row
        known = sorted(known)
        super().__init__(
            f"Row {row} has the key {key!r}, which {entity} does not map.{closest(key, known)}",
            f"{entity} maps: {', '.join(known)}. Nothing was sent.",
        )


class KeysUnmatched(SojournError):
    """Keys that came back from an INSERT cannot be matched to their entities."""

    number = "SJ405"

    def __init__(self, entity: str, why: str) -> None:
        self.entity, self.why = entity, why
        super().__init__(
            f"The keys of {entity} rows that were just inserted cannot be matched to their entities: {why}.",
            "A trigger interferes with the rows or their keys. Roll back, and give the entities their keys "
            f"yourself: {entity}(id=...), or mapped_column(primary_key=True, default=...).",
        )


# -- SJ5xx: engine, pool, drivers -------------------------------------------------------------


class PoolTimeout(SojournError, sa.TimeoutError, TimeoutError):
    """No connection became free in time."""

    number = "SJ501"


class DriverMissing(SojournError, sa.NoSuchModuleError):
    """The library that talks to the database is not installed, or not known."""

    number = "SJ502"


class BlockingCall(SojournError, sa.MissingGreenlet):
    """Blocking code was to use an async connection in the very thread of its event loop."""

    number = "SJ510"

    def __init__(self) -> None:
        super().__init__(
            "An async engine's connection was asked to block in the thread of its event loop, "
            "or after the call that lent it to blocking code had ended.",
            "Hand the blocking code over: await connection.run_sync(function), await session.run_sync(function).",
        )


# -- SJ6xx: statements ------------------------------------------------------------------------


class UnknownAttribute(SojournError, sa.InvalidRequestError):
    """A name used in a statement is no attribute of the mapped class."""

    number = "SJ601"

    def __init__(self, entity: str, attribute: str, known: Iterable[str]) -> None:
        self.entity, self.attribute = entity, attribute
        known = sorted(known)
        super().__init__(
            f"{entity} has no attribute {attribute!r}.{closest(attribute, known)}",
            f"{entity} maps: {', '.join(known)}.",
        )


class BindMissing(SojournError, sa.InvalidRequestError):
    """A named bind parameter of a statement got no value."""

    number = "SJ602"

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"The statement's parameter {name!r} has no value.",
            f"Give it one: session.execute(statement, {{{name!r}: ...}}). Nothing was sent.",
        )


class TooManyParameters(SojournError, sa.InvalidRequestError):
    """A list for IN is longer than the driver's parameters allow, and cannot be written into the text."""

    number = "SJ603"

    def __init__(self, length: int, limit: int) -> None:
        self.length, self.limit = length, limit
        super().__init__(
            f"A list of {length} values is too long for IN: a statement may have {limit} parameters here, "
            "and values of this type cannot be written into the text.",
            "Send it in parts, or put the values into a temporary table and join it. Nothing was sent.",
        )


class ParameterRefused(SojournError, sa.StatementError):
    """The SQL type of a statement's parameter refuses a value; nothing was sent."""

    number = "SJ604"

    def __init__(self, statement: str, value: object, kind: object, cause: BaseException) -> None:
        self.kind, self.cause = kind, cause
        what = f"A parameter of type {kind!r} refuses a value of type {type(value).__name__}: {cause}"
        remedy = "Nothing was sent: give it a value of the column's type, or say sqlalchemy.literal(value, type)."
        self.what, self.remedy = what, remedy
        text = f"{what}\n  {remedy}\n  [{self.number}] sojourn doctor --explain {self.number}"
        sa.StatementError.__init__(self, text, statement, None, cause)


def is_error(thing: Any) -> bool:
    """Return whether *thing* is a public error class of this module."""
    return isinstance(thing, type) and issubclass(thing, SojournError)
