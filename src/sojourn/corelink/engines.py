"""Private names of Core's engines, connections and dialects."""

from __future__ import annotations

import copy
from inspect import isfunction
from logging import INFO
from typing import Any, NoReturn

from sqlalchemy.engine.base import Connection as CoreConnection
from sqlalchemy.engine.events import ConnectionEvents, DialectEvents
from sqlalchemy.exc import DBAPIError

from sojourn.corelink.seeing import SeeingConnection


def has_json_reader(dialect: Any) -> bool:
    """Return whether the engine was given its own `json_deserializer`."""
    return dialect._json_deserializer is not None


def is_watched(engine: Any) -> bool:
    """Tell whether events, echo or a logger want to see each statement of *engine*."""
    dialect = engine.dialect
    if engine._has_events or dialect._has_events:  # once set these stay, also on the class
        return (
            engine._should_log_info()
            or any(getattr(engine.dispatch, name) for name in _ENGINE_EVENTS)
            or any(getattr(dialect.dispatch, name) for name in _DIALECT_EVENTS)
        )
    try:
        if engine.logger._cache[INFO] is False:  # what the logger itself looks at, without the call
            return False
    except (AttributeError, KeyError):
        pass
    return engine._should_log_info()  # type: ignore[no-any-return]


def _event_names(events: type, *others: str) -> tuple[str, ...]:
    return tuple(
        name
        for name, thing in vars(events).items()
        if isfunction(thing) and name[0] != "_" and name not in others
    )


_ENGINE_EVENTS = _event_names(ConnectionEvents, "engine_disposed", "set_engine_execution_options")
_DIALECT_EVENTS = _event_names(DialectEvents, "do_connect")  # heard while connecting, on both lanes


def copy_events(source: Any, target: Any) -> None:
    """Give *target* the listeners that plug-ins put on *source* while it was created."""
    if "dispatch" in source.__dict__:
        target.dispatch._update(source.dispatch, only_propagate=False)
    if "_has_events" in source.__dict__:
        target._has_events = source._has_events


def lent_connection(engine: Any, proxy: Any) -> CoreConnection:
    """Return Core's Connection over *proxy*, which never reconnects on its own."""
    return SeeingConnection(engine, connection=proxy, _allow_revalidate=False)


def wrap_error(
    engine: Any, error: Exception, statement: str | None, params: Any, *, disconnect: bool, many: bool
) -> BaseException:
    """Return Core's exception for a driver's *error*."""
    dialect = engine.dialect
    return DBAPIError.instance(
        statement,
        params,
        error,
        dialect.loaded_dbapi.Error,
        hide_parameters=engine.hide_parameters,
        connection_invalidated=disconnect,
        dialect=dialect,
        ismulti=many,
    )


def raise_connect_error(engine: Any, error: Exception) -> NoReturn:
    """Raise Core's exception for a connection that could not be opened; call it in the except block."""
    CoreConnection._handle_dbapi_exception_noconnection(error, engine.dialect, engine)


def positional_twin(dialect: Any, paramstyle: str) -> Any:
    """Return a copy of an initialized *dialect* that writes binds in another, positional style."""
    twin = copy.copy(dialect)
    twin.paramstyle = paramstyle
    twin.positional = True
    twin.__dict__.pop("_type_memos", None)  # processors that were made for the original
    twin.identifier_preparer = twin.preparer(twin)
    twin.type_compiler_instance = twin.type_compiler = twin.type_compiler_cls(twin)
    return twin


class _JoinedLater:
    """The `dispatch` of a connection: joined with its engine's when it is asked for, which is seldom."""

    def __get__(self, connection: Any, owner: Any) -> Any:
        if connection is None:
            return CoreConnection.dispatch
        joined = _DISPATCH.__get__(connection, owner)._join(connection.engine.dispatch)
        connection.__dict__["dispatch"] = joined
        return joined


_DISPATCH = next(vars(cls)["dispatch"] for cls in CoreConnection.__mro__ if "dispatch" in vars(cls))


class LightConnection(SeeingConnection):
    """Core's Connection, made with a fifth of the work: what is the same for all stands on the class."""

    dispatch = _JoinedLater()
    _transaction: Any = None
    _nested_transaction: Any = None
    _Connection__savepoint_seq = 0
    _Connection__in_begin = False
    _Connection__can_reconnect = True
    _allow_autobegin = True
    _echo = False

    def __init__(self, engine: Any, proxy: Any) -> None:
        self.engine = engine
        self.dialect = engine.dialect
        self._dbapi_connection = proxy
        self._execution_options = engine._execution_options
        try:
            if engine.logger._cache[INFO] is not False:  # what the logger itself looks at, without the call
                self._echo = engine._should_log_info()
        except (AttributeError, KeyError):
            self._echo = engine._should_log_info()
        if engine._has_events or self._has_events:
            self.dispatch.engine_connect(self)

    def close(self) -> None:
        """Roll back what is open and give the driver connection back."""
        proxy = self._dbapi_connection
        if self._transaction is not None or proxy is None:
            super().close()
            return
        try:
            proxy.close()
        finally:
            self._dbapi_connection = None
            self._Connection__can_reconnect = False
