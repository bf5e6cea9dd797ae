"""Read what an annotation says about a column: its Python type, whether NULL is allowed, and `Annotated`.

`Mapped[...]` may be written as a type, as text, or with text inside; text is read in the namespace of the
module that holds the class. What is read becomes an `Annotation`; `find_type` then asks the type map.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import inspect
import re
import sys
import types
import typing
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Generic, Literal, TypeAlias, TypeVar, Union

import sqlalchemy as sa

from sojourn import corelink
from sojourn.errors import NotYet, UnknownType, UnresolvedAnnotation

if TYPE_CHECKING:
    from sqlalchemy.sql import roles
    from sqlalchemy.types import TypeEngine

    from sojourn.statements.columns import InstrumentedAttribute

T = TypeVar("T")

#: What `type_annotation_map` may hold. Any: every Python type can be a key.
TypeMap: TypeAlias = Mapping[Any, "type[TypeEngine[Any]] | TypeEngine[Any]"]

# SQLAlchemy's choice for plain Python types; `find_type` binds `sqlalchemy.Enum` to the annotated class.
DEFAULT_TYPES: Final[dict[Any, TypeEngine[Any]]] = {
    bool: sa.Boolean(),
    bytes: sa.LargeBinary(),
    datetime.date: sa.Date(),
    datetime.datetime: sa.DateTime(),
    datetime.time: sa.Time(),
    datetime.timedelta: sa.Interval(),
    decimal.Decimal: sa.Numeric(),
    enum.Enum: sa.Enum(enum.Enum),
    float: sa.Double(),
    int: sa.Integer(),
    str: sa.String(),
    uuid.UUID: sa.Uuid(),
    Literal: sa.Enum(enum.Enum),
}

if TYPE_CHECKING:

    class Mapped(sa.SQLColumnExpression[T], roles.DDLConstraintColumnRole, Generic[T]):
        """Declare an attribute of a mapped class: an expression on the class, a value on its instances."""

        @typing.overload
        def __get__(self, instance: None, owner: Any) -> InstrumentedAttribute[T]: ...
        @typing.overload
        def __get__(self, instance: object, owner: Any) -> T: ...
        def __get__(self, instance: object | None, owner: Any) -> InstrumentedAttribute[T] | T: ...
        def __set__(self, instance: Any, value: sa.SQLColumnExpression[T] | T) -> None: ...
        def __delete__(self, instance: Any) -> None: ...

else:

    class Mapped(Generic[T]):
        """Declare an attribute of a mapped class: an expression on the class, a value on its instances."""


@dataclass(frozen=True, slots=True)
class Annotation:
    """Say what one `Mapped[...]` says."""

    python_type: Any  # Any: whatever stands in the brackets, without Optional, aliases and Annotated
    candidates: tuple[Any, ...]  # what the type map may know it by, outermost first
    nullable: bool
    metadata: tuple[object, ...]  # what Annotated carries
    unresolved: NameError | None = None  # a name in it is unknown: only a column with its own type can use it
    text: str = ""


def read_annotations(cls: type) -> dict[str, Any]:
    """Return the annotations of the body of *cls*, unread where they are text."""
    if sys.version_info >= (3, 14):
        import annotationlib  # noqa: PLC0415  -- new in 3.14

        return dict(annotationlib.get_annotations(cls, format=annotationlib.Format.FORWARDREF))
    return dict(inspect.get_annotations(cls))


def read_mapped(
    raw: Any, cls: type, entity: str, attribute: str, hidden: frozenset[str]
) -> Annotation | None:
    """Return what the annotation *raw*, written in the body of *cls*, says; None if it is not `Mapped[...]`.

    *hidden* are names of the class body that stand for columns there and so cannot be meant as types.
    """
    names = _Names(cls, hidden)
    if isinstance(raw, typing.ForwardRef):
        raw = raw.__forward_arg__
    if isinstance(raw, str):
        raw = _read_head(raw, names, entity, attribute)
    origin = typing.get_origin(raw) or raw
    if not (isinstance(origin, type) and issubclass(origin, Mapped)):
        return None
    if (missing := getattr(origin, "not_yet", None)) is not None:
        raise NotYet(f"{entity}.{attribute}", *missing)
    arguments = typing.get_args(raw)
    if not arguments:  # Mapped without brackets: the column says the rest
        return Annotation(Any, (), nullable=True, metadata=(), text="Mapped")
    return describe(arguments[0], names)


def is_class_var(raw: Any) -> bool:
    """Return whether an annotation keeps its name out of the mapping: ClassVar, Final, InitVar."""
    if isinstance(raw, str):
        return re.match(r"\s*(?:\w+\.)*(?:ClassVar|Final|InitVar)\b", raw) is not None
    if isinstance(raw, typing.ForwardRef):
        return is_class_var(raw.__forward_arg__)
    return (
        raw in {ClassVar, Final}
        or typing.get_origin(raw) in {ClassVar, Final}
        or type(raw).__name__ == "InitVar"
    )


def describe(python_type: Any, names: _Names | None = None) -> Annotation:
    """Take Optional, Annotated, aliases and NewType off *python_type*, keeping what each of them says."""
    nullable = False
    metadata: list[object] = []
    candidates: list[Any] = []
    while True:
        if isinstance(python_type, typing.ForwardRef):
            python_type = python_type.__forward_arg__
        if isinstance(python_type, str):
            text = python_type
            try:
                python_type = names.read(text) if names is not None else eval(text)  # noqa: S307  -- an annotation
            except NameError as error:
                guess = re.search(r"\bOptional\b|\bNone\b", text) is not None
                return Annotation(Any, tuple(candidates), nullable or guess, tuple(metadata), error, text)
            continue
        candidates.append(python_type)
        origin = typing.get_origin(python_type)
        if isinstance(python_type, typing.NewType):
            python_type = python_type.__supertype__
        elif type(python_type).__name__ == "TypeAliasType":
            python_type = python_type.__value__
        elif (
            type(origin).__name__ == "TypeAliasType"
        ):  # a generic alias: its exact form may be in the type map
            python_type = origin.__value__
        elif origin is Annotated:
            metadata.extend(python_type.__metadata__)
            python_type = python_type.__origin__
        elif origin is Union or origin is types.UnionType:
            arguments = typing.get_args(python_type)
            rest = tuple(a for a in arguments if a is not types.NoneType)
            if len(rest) == len(arguments):
                break
            nullable = True
            python_type = Union[rest]  # noqa: UP007  -- made from a tuple
        elif origin is Literal and None in typing.get_args(python_type):
            nullable = True
            python_type = Literal[tuple(a for a in typing.get_args(python_type) if a is not None)]
        else:
            break
    return Annotation(python_type, tuple(candidates), nullable, tuple(metadata))


def find_type(annotation: Annotation, type_map: TypeMap, entity: str, attribute: str) -> TypeEngine[Any]:
    """Return the column type for *annotation*; raise UnknownType or UnresolvedAnnotation if there is none."""
    if annotation.unresolved is not None:
        raise UnresolvedAnnotation(entity, attribute, annotation.text, annotation.unresolved)
    for candidate in annotation.candidates:
        found = _look_up(candidate, type_map)
        if found is not None and (found := _fit(found, candidate, candidate, entity, attribute)) is not None:
            return found
    python_type = annotation.python_type
    bases: tuple[Any, ...] = ()
    if typing.get_origin(python_type) is Literal:
        bases = (Literal,)
    elif isinstance(python_type, type) and typing.get_origin(python_type) is None:
        bases = python_type.__mro__
    for base in bases:
        found = _look_up(base, type_map) or DEFAULT_TYPES.get(base)
        if found is not None and (found := _fit(found, python_type, base, entity, attribute)) is not None:
            return found
    if any(hasattr(each, "__mapper__") for each in (python_type, *typing.get_args(python_type))):
        raise NotYet(
            f"{entity}.{attribute}",
            "relationships are",
            f"Keep the key: {attribute}_id: Mapped[int] = mapped_column(ForeignKey(...)); join in the query.",
        )
    raise UnknownType(entity, attribute, python_type)


def _look_up(key: Any, type_map: TypeMap) -> TypeEngine[Any] | None:
    try:
        found = type_map.get(key)
    except TypeError:  # Annotated with an unhashable part
        return None
    return found() if isinstance(found, type) else found


def _fit(
    type_: TypeEngine[Any], python_type: Any, base: Any, entity: str, attribute: str
) -> TypeEngine[Any] | None:
    try:
        fitted: TypeEngine[Any] | None = corelink.type_for(type_, python_type, base)
    except sa.exc.ArgumentError as error:
        raise UnknownType(entity, attribute, python_type, str(error)) from error
    return fitted


def _read_head(text: str, names: _Names, entity: str, attribute: str) -> Any:
    """Read an annotation written as text; if only what is in brackets is unknown, leave that as text."""
    try:
        return names.read(text)
    except NameError as error:
        parts = re.fullmatch(r"\s*([\w.]+)\s*\[(.*)\]\s*", text, re.DOTALL)
        try:
            head = names.read(parts[1]) if parts is not None else None
        except NameError:
            head = None
        if parts is not None and isinstance(head, type) and issubclass(head, Mapped):
            return head[parts[2]]  # type: ignore[index]  # runtime generics take text
        raise UnresolvedAnnotation(entity, attribute, text, error) from error


class _Names:
    """Know the names an annotation may use: those of the class body, then of its module."""

    def __init__(self, cls: type, hidden: frozenset[str]) -> None:
        module = sys.modules.get(cls.__module__)
        self._globals = vars(module) if module is not None else {}
        self._locals = {cls.__name__: cls} | {k: v for k, v in vars(cls).items() if k not in hidden}

    def read(self, text: str) -> Any:
        """Evaluate *text*; AttributeError and the like count as unknown names."""
        try:
            return eval(text, self._globals, self._locals)  # noqa: S307  -- the user's own annotation
        except NameError:
            raise
        except Exception as error:
            raise NameError(f"{type(error).__name__}: {error}") from error
