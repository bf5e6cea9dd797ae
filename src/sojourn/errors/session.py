"""Errors of attributes, loading and sessions (SJ2xx, SJ3xx)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import sqlalchemy.exc as sa

from sojourn.errors.base import SojournError, closest

if TYPE_CHECKING:
    from collections.abc import Iterable


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
    code = None  # type: ignore[assignment]  # both parents have one

    def __init__(self, entity: str, attribute: str) -> None:
        self.entity, self.attribute = entity, attribute
        variable = entity.lower()
        super().__init__(
            f"{entity}.{attribute} is not loaded, and an async session cannot load it on access.",
            f"Before use: await session.refresh({variable}, [{attribute!r}]), "
            f"await session.load({variable}, {entity}.{attribute}), "
            f"or await {variable}.awaitable_attrs.{attribute}.",
        )


class ObjectDeleted(SojournError, sa.InvalidRequestError):
    """The row of an entity is gone."""

    number = "SJ203"

    def __init__(self, entity: str, key: object) -> None:
        self.entity, self.key = entity, key
        super().__init__(
            f"The row of {entity} with key {key!r} is gone, or its key was changed by somebody else.",
            "Ask first: session.get(...) returns None for a missing row; "
            "forget this one: session.expunge(obj).",
        )


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
            "Copy the values into that one: obj = session.merge(obj), "
            "or let go of it first: session.expunge(other).",
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
