"""Private names of Core's pools, their records and proxies."""

from __future__ import annotations

from logging import DEBUG
from types import SimpleNamespace
from typing import Any

from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.pool import Pool
from sqlalchemy.pool.base import reset_commit, reset_rollback


def pool_arguments(pool: Any) -> dict[str, Any]:
    """Return what creates a pool like *pool*: its creator, options and listeners."""
    return {
        "creator": pool._creator,
        "recycle": pool._recycle,
        "echo": pool.echo,
        "logging_name": pool._orig_logging_name,
        "reset_on_return": pool._reset_on_return,
        "pre_ping": pool._pre_ping,
        "_dispatch": pool.dispatch,
        "dialect": pool._dialect,
    }


def reset_style(pool: Any) -> str:
    """Return what *pool* does to a connection that comes back: 'rollback', 'commit' or 'none'."""
    style = pool._reset_on_return
    return "rollback" if style is reset_rollback else "commit" if style is reset_commit else "none"


def proxy_record(proxy: Any) -> Any:
    """Return the record that *proxy* holds."""
    return proxy._connection_record


def invalidate_pool(pool: Any, record: Any, error: BaseException) -> None:
    """Mark every connection of *pool* that is as old as *record*'s as dead."""
    pool._invalidate(SimpleNamespace(_connection_record=record), error, _checkin=False)


class EventPool(Pool):
    """Core's Pool without its way of lending: the creator, the listeners, the log, the dialect's part."""

    _sqla_logger_namespace: str

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls._sqla_logger_namespace = f"sqlalchemy.pool.impl.{cls.__name__}"  # where loggers are configured

    def __init__(self, creator: Any, **options: Any) -> None:
        Pool.__init__(self, creator, **options)  # not super(): a QueuePool comes next, which has a queue

    @property
    def dialect(self) -> Any:
        """The dialect that does the work; `create_engine(pool=...)` replaces it."""
        return self._dialect

    @property
    def style(self) -> str:
        """What is done to a connection that comes back: 'rollback', 'commit' or 'none'."""
        return reset_style(self)

    @property
    def recycles_after(self) -> float | None:
        """How old a connection may become, in seconds."""
        return None if self._recycle <= -1 else self._recycle

    @property
    def checks(self) -> Any:
        """What was given as `pool_pre_ping`."""
        return self._pre_ping

    def create(self, record: Any) -> Any:
        """Open a driver connection for *record*, and tell the listeners; close it if one of them fails."""
        try:
            connection: Any = self._invoke_creator(record)
        except BaseException as error:
            self.logger.debug("Could not connect: %s", error)
            raise
        self.logger.debug("Opened connection %r", connection)
        record.dbapi_connection = connection
        try:
            first = self.dispatch.first_connect
            if first:
                first.for_modify(self.dispatch).exec_once_unless_exception(connection, record)
            self.dispatch.connect.for_modify(self.dispatch)._exec_w_sync_on_first_run(connection, record)
        except BaseException:
            record.dbapi_connection = None
            self.discard(connection, terminate=True)
            raise
        return connection

    def discard(self, connection: Any, *, terminate: bool = False) -> None:
        """Close a driver connection, at once if *terminate*."""
        self._close_connection(connection, terminate=terminate)

    def undo(self, connection: Any, *, was_reset: bool, debug: bool) -> None:
        """Do to a connection that comes back what `reset_on_return` says; it may have been rolled back."""
        style = self._reset_on_return
        if style is reset_rollback:
            if was_reset:
                return
            if debug:
                self.logger.debug("Connection %s: rollback on return", connection)
            self._dialect.do_rollback(connection)
        elif style is reset_commit:
            if debug:
                self.logger.debug("Connection %s: commit on return", connection)
            self._dialect.do_commit(connection)

    def own_rollback(self, connection: Any) -> Any:
        """Return the driver's rollback() if it is all that a reset consists of, else None."""
        dialect: Any = self._dialect
        plain = getattr(type(dialect), "do_rollback", None) is DefaultDialect.do_rollback
        if plain and self._reset_on_return is reset_rollback and not dialect.skip_autocommit_rollback:
            return connection.rollback
        return None

    def asks_server(self, connection: Any) -> bool:
        """Ping as the dialect does, with its events."""
        return self._dialect._do_ping_w_event(connection)

    def logs_leases(self) -> bool:
        """Tell whether a line is wanted for each lease."""
        return self._should_log_debug()


class LeaseWatch:
    """Tell cheaply whether somebody wants to know of leases: empty lists are replaced when they fill."""

    __slots__ = (
        "_checkin",
        "_checkins",
        "_checkout",
        "_checkouts",
        "_dispatch",
        "_levels",
        "_pool",
        "_reset",
        "_resets",
    )

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._dispatch = dispatch = pool.dispatch
        self._checkout = _empty(dispatch.checkout)
        self._checkin = _empty(dispatch.checkin)
        self._reset = _empty(dispatch.reset)
        self._checkouts = dispatch.checkout.parent_listeners  # those of the class
        self._checkins = dispatch.checkin.parent_listeners
        self._resets = dispatch.reset.parent_listeners
        self._levels = getattr(pool.logger, "_cache", {})  # what a logger itself looks at, without the call

    def sees_lease(self) -> bool:
        """Tell whether somebody listens to checkouts, or logs them."""
        if self._dispatch.checkout is not self._checkout or self._checkouts:
            return True
        return self._levels.get(DEBUG) is not False and self._pool._should_log_debug()

    def sees_reset(self) -> bool:
        """Tell whether somebody listens to resets, or logs them."""
        if self._dispatch.reset is not self._reset or self._resets:
            return True
        return self._levels.get(DEBUG) is not False and self._pool._should_log_debug()

    def sees_return(self) -> bool:
        """Tell whether somebody listens to returns."""
        return self._dispatch.checkin is not self._checkin or bool(self._checkins)

    def is_quiet(self) -> bool:
        """Tell whether nobody listens to resets and returns, or logs them."""
        dispatch = self._dispatch
        if dispatch.checkin is not self._checkin or dispatch.reset is not self._reset:
            return False
        if self._checkins or self._resets:
            return False
        return self._levels.get(DEBUG) is False or not self._pool._should_log_debug()


def _empty(listeners: Any) -> Any:
    """Return the list of listeners of one pool if it is empty, else None."""
    return None if listeners else listeners
