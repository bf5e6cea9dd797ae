"""`LendingPool`: SQLAlchemy's pool events, log and reset, around the front that waits and connects.

Who gets which connection and who waits is decided by `pooling.core`; `pooling.pool` waits and connects.
Here is what SQLAlchemy's pools do around it: listeners are told, `reset_on_return` is carried out, a dead
connection is noticed, a dropped one comes back.

A session takes the short way: `lease()` lends the record without a proxy, `end_lease()` takes it back.
Listeners hear of both ways alike.
"""

from __future__ import annotations

import warnings
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import DisconnectionError, InvalidatePoolError, InvalidRequestError
from sqlalchemy.pool import PoolResetState

from sojourn import corelink
from sojourn.engine.health import UNKNOWN, Health
from sojourn.engine.proxies import LentProxy, Proxy
from sojourn.engine.records import Record
from sojourn.pooling.keeper import limit
from sojourn.pooling.pool import Handling
from sojourn.pooling.pool import Pool as Front

if TYPE_CHECKING:
    from sojourn.pooling.core import Entry
    from sojourn.pooling.scaling import Autoscaler
    from sojourn.pooling.stats import LeaseInfo, PoolStats

#: After these the place is still there: its record, with its notes, gets the next connection.
REPLACED = {"broken", "expired", "server", "soft"}
#: Closed without a word to the server: it is gone, or must not be waited for.
ABRUPT = REPLACED | {"reset", "reclaimed"}
CHECK_AFTER = (
    30.0  # seconds; so long a connection may be idle before the server is asked, not only the socket
)


class RecordHandling(Handling):
    """What *pool* does with the connections of its records."""

    def __init__(self, pool: LendingPool) -> None:
        self.pool = pool

    def connect(self) -> Record:
        """Open a connection in a place whose last one is gone, or in a new one."""
        pool = self.pool
        try:
            spare = pool.spares.pop()
        except IndexError:
            spare = None
        record: Record = spare or Record(pool)
        try:
            record.open()
        except BaseException:
            if spare is not None:
                pool.spares.append(spare)
            raise
        return record

    def close(self, entry: Entry, reason: str) -> None:
        """Close a connection that left the pool; keep its place if another may take it."""
        record: Any = entry
        pool = self.pool
        if reason == "fork":
            pool.health.abandon(record.dbapi_connection)
            record.dbapi_connection = record.poll = record.lane = None
            return
        try:
            if reason == "server":
                record.invalidate(InvalidatePoolError())
            else:
                record.discard(terminate=reason in ABRUPT)
        except Exception:
            pool.logger.exception("A connection was not closed properly")
        if reason in REPLACED:
            pool.spares.append(record)

    def cut(self, entry: Entry) -> None:
        """Let whoever uses the connection fail now."""
        self.pool.health.cut(entry.connection)

    def serves(self, entry: Entry) -> bool:
        """Ask the server."""
        pool = self.pool
        alive = pool.ping(entry.connection)
        if not alive:
            pool.logger.info("Connection %r does not answer; it is replaced", entry.connection)
        return alive

    def is_transient(self, error: BaseException) -> bool:
        """Tell whether connecting again soon may help."""
        return self.pool.health.is_transient(error)

    def is_hopeless(self, error: BaseException) -> bool:
        """Tell whether connecting again cannot help."""
        return self.pool.health.is_hopeless(error)

    def leaked(self, lease: LeaseInfo) -> None:
        """Say who holds a connection for longer than `leak_after`."""
        self.pool.logger.warning("Connection held for long: %s", lease)


class LendingPool(corelink.EventPool):
    """What all policies share: lending, taking back, and telling the listeners."""

    exclusive = False  # whether a lent connection has one user, who may reset it
    shares = False  # whether several users may hold one record, which counts them
    after: str | None = None  # why a connection is closed after each lease, if it is
    spares: Any = None  # records without a connection
    _front: Any = None
    _watch: Any = None
    _health: Any = None
    _scaler: Any = None
    _given: Any = None  # the policy's own options, for recreate()

    def __init__(self, creator: Any, **options: Any) -> None:
        super().__init__(creator, **options)
        self.spares = deque(maxlen=64)
        self._watch = corelink.LeaseWatch(self)

    def _start(self, given: dict[str, Any], **front: Any) -> None:
        """Make the front that waits and connects; *given* are the policy's own options."""
        self._given = given
        dialect = self.dialect
        inline = front.pop("inline", None)
        if inline is None:  # SQLite's connections belong to a thread, those of async drivers to a loop
            inline = dialect.is_async or getattr(dialect, "name", "") in {"", "sqlite"}
        ways = self.health.ways
        has_socket = ways is not UNKNOWN and ways.fd is not None  # it is asked instead of the server
        always = self.checks == "always" or (self.checks and not has_socket)
        self._front = Front(
            RecordHandling(self),
            max_age=self.recycles_after,
            inline=inline,
            ping_after=0.0 if always else CHECK_AFTER,
            name=self.logging_name or "",
            **front,
        )

    # -- lending ------------------------------------------------------------------------------

    def connect(self) -> Any:
        """Lend a connection, to be given back by its `close()`."""
        record = self._front.acquire()
        proxy = Proxy(self, record)
        if self._watch.sees_lease():
            self._announce(record, proxy)
        return proxy

    def lease(self) -> Any:
        """Lend a record, for a session: without a proxy, to be given back by `end_lease`."""
        record = self._front.acquire()
        if self._watch.sees_lease():
            self._announce(record, None)
        return record

    def _announce(self, record: Record, proxy: Proxy | None) -> None:
        """Tell listeners and the log of a lease; a listener may find the connection dead."""
        try:
            if self.logs_leases():
                self.logger.debug("Connection %r lent", record.dbapi_connection)
            checkout = self.dispatch.checkout
            if checkout:
                self._check_out(record, proxy or LentProxy(self, record))
        except BaseException as error:
            if proxy is not None:
                proxy.record = proxy.dbapi_connection = None
            try:
                record.invalidate(error)
            finally:
                self.give_back(record)
            raise

    def _check_out(self, record: Record, proxy: Any) -> None:
        for _ in range(2):
            try:
                self.dispatch.checkout(record.dbapi_connection, record, proxy)
            except DisconnectionError as error:
                self.logger.info("A listener calls connection %r dead: %s", record.dbapi_connection, error)
                record.invalidate(error)
                if error.invalidate_pool:
                    self._invalidate(proxy, error, _checkin=False)
                record.open()
                proxy.dbapi_connection = record.dbapi_connection
            else:
                return
        msg = "The listeners of 'checkout' called each of three connections dead."
        raise InvalidRequestError(msg)

    def exchange(self, proxy: Proxy) -> None:
        """Give *proxy*, which nobody has used yet, another connection if its own is dead."""
        record: Record = proxy.record
        connection = record.dbapi_connection
        if record.finalize_callback or connection is not proxy.dbapi_connection or self.ping(connection):
            return
        self.logger.info("Connection %r was lost before it was used; it is replaced", connection)
        proxy.record = None  # the dead connection stays, for whoever asks it why
        fresh = self._front.exchange(record)
        proxy.record = fresh
        proxy.dbapi_connection = fresh.dbapi_connection

    # -- taking back --------------------------------------------------------------------------

    def take_back(self, proxy: Proxy, was_reset: bool = False) -> None:
        """End the lease of *proxy*, or close its connection if it is detached."""
        record, connection = proxy.record, proxy.dbapi_connection
        proxy.record = proxy.dbapi_connection = None
        if record is not None and self._returns_simply(record, connection):
            try:
                if not was_reset:
                    record.rollback()
                self._front.release(record, self.after)
            except BaseException as error:
                if not record.lent:
                    raise
                self._spoil(record, error)
                self.give_back(record)
        else:
            self._end(record, connection, was_reset)

    def _end(self, record: Record | None, connection: Any, was_reset: bool) -> None:
        """End a lease with all that may belong to it."""
        if connection is not None:
            if record is None:
                self._close_detached(connection, was_reset)
                return
            self._clean(record, connection, was_reset)
        if record is not None:
            self.give_back(record)

    def _returns_simply(self, record: Record, connection: Any) -> bool:
        """Tell whether a driver's rollback() is all that has to be done."""
        return (
            record.rollback is not None
            and connection is record.connection
            and not (record.finalize_callback or record.tainted)
            and self._watch.is_quiet()
        )

    def end_lease(self, record: Any, dirty: bool = False) -> None:
        """End the lease of a record; a *dirty* one is reset as `reset_on_return` says."""
        connection = record.dbapi_connection
        if connection is None:
            self.give_back(record)
            return
        if dirty:
            self._clean(record, connection, False)
        elif self.dispatch.reset:
            self._clean(record, connection, True)
        self.give_back(record)

    def give_back(self, record: Any) -> None:
        """Take a record back that is as clean as it will be. Never blocks."""
        try:
            if record.finalize_callback or self._watch.sees_return():
                record.end()
        finally:
            self._front.release(record, self.after if record.connection is not None else "broken")

    def collect(self, proxy: Proxy) -> None:
        """End the lease of a proxy that nobody holds any more, and say where it began."""
        record = proxy.record
        place = self._front.place(record)
        self._front.gc_returns += 1
        if self.dialect.is_async and record.dbapi_connection is not None:
            proxy.record = proxy.dbapi_connection = None
            self._drop_async(record)
        else:
            proxy.dbapi_connection = record.dbapi_connection  # it may have been invalidated meanwhile
            self.take_back(proxy)
        warnings.warn(
            f"A connection acquired at {place} was dropped without being given back. Close it, or use it in "
            "a with-block: with engine.connect() as connection: ...",
            ResourceWarning,
            stacklevel=3,
            source=proxy,
        )

    def _clean(self, record: Record, connection: Any, was_reset: bool) -> None:
        """Undo what the last user left; close the connection if that fails."""
        try:
            debug = False
            if self._watch.sees_reset():
                debug = self.logs_leases()
                if debug:
                    self.logger.debug("Connection %r comes back", connection)
                if self.dispatch.reset:
                    state = PoolResetState(
                        transaction_was_reset=was_reset, terminate_only=False, asyncio_safe=True
                    )
                    self.dispatch.reset(connection, record, state)
            self._undo(connection, was_reset, debug)
            if record.tainted:
                self._forget(record, connection)
        except BaseException as error:  # noqa: BLE001 - _spoil() raises what is no Exception
            self._spoil(record, error)

    def _spoil(self, record: Record, error: BaseException) -> None:
        """Close a connection that could not be reset; raise an interrupt, after the record was given back."""
        self.logger.error("A connection could not be reset; it is closed", exc_info=error)
        try:
            record.invalidate(error)
        finally:
            if not isinstance(error, Exception):
                self.give_back(record)
        if not isinstance(error, Exception):
            raise error

    def _undo(self, connection: Any, was_reset: bool, debug: bool) -> None:
        """Reset the driver connection, in bounded time; not where it is proven to be clean."""
        health = self.health
        ways = health.ways
        if ways is UNKNOWN or ways.fd is None:
            self.undo(connection, was_reset=was_reset, debug=debug)
        elif self.style == "rollback" and (was_reset or ways.in_transaction(connection) is False):
            self._count_reset("skipped")
        else:
            self._count_reset(self.style)
            with limit(partial(health.cut, connection), health.reset_limit):
                self.undo(connection, was_reset=was_reset, debug=debug)
                if self.style == "rollback" and ways.in_transaction(connection):
                    ways.rollback(connection)  # psycopg2's own does nothing in autocommit

    def _forget(self, record: Record, connection: Any) -> None:
        """Clean the server session of what a statement may have left there; close it where that cannot be."""
        record.tainted = False
        if self.shares or self.style == "none":
            return
        if self.health.reset_session(connection, self):
            self._count_reset("session")
        else:
            record.doomed = record.doomed or "reset"

    def _count_reset(self, kind: str) -> None:
        resets = self._front.resets
        resets[kind] = resets.get(kind, 0) + 1

    def _close_detached(self, connection: Any, was_reset: bool) -> None:
        """Close the connection of a detached proxy."""
        try:
            if self.dispatch.reset:
                state = PoolResetState(
                    transaction_was_reset=was_reset, terminate_only=True, asyncio_safe=True
                )
                self.dispatch.reset(connection, None, state)
            self._undo(connection, was_reset, self.logs_leases())
            if self.dispatch.close_detached:
                self.dispatch.close_detached(connection)
            self.discard(connection, terminate=self.dialect.is_async and self.dialect.has_terminate)
        except Exception:
            self.logger.exception("A detached connection could not be closed properly")

    def _drop_async(self, record: Record) -> None:
        """Let go of a collected connection of an async driver, whose event loop cannot be asked here."""
        connection = record.dbapi_connection
        dispatch, dialect = self.dispatch, self.dialect
        if dispatch.reset:
            state = PoolResetState(transaction_was_reset=False, terminate_only=True, asyncio_safe=False)
            dispatch.reset(connection, record, state)
        self._let_go(record)
        if dispatch.detach:
            dispatch.detach(connection, record)
        if dialect.has_terminate:
            if dispatch.close_detached:
                dispatch.close_detached(connection)
            self.discard(connection, terminate=True)

    def detach(self, proxy: Proxy) -> None:
        """Let *proxy* keep its connection, and forget it: its place is free."""
        record: Record = proxy.record
        connection = proxy.dbapi_connection
        proxy.__dict__["notes"] = dict(record.info)
        proxy.record = None
        self._let_go(record)
        if self.dispatch.detach:
            self.dispatch.detach(connection, record)

    def _let_go(self, record: Record) -> None:
        record.holder = record.lane = None
        record.dbapi_connection = record.poll = None
        self._front.detach(record)
        self.spares.append(record)

    # -- all at once --------------------------------------------------------------------------

    def _invalidate(
        self, connection: Any, exception: BaseException | None = None, _checkin: bool = True
    ) -> None:
        """Close every connection that was open when *connection* was lost: its server is gone.

        Core's Connection calls this. Connections opened later are not touched, so that of many users who
        notice the same loss only the first one closes anything.
        """
        record = getattr(connection, "_connection_record", None)
        if record is None or record.doomed is None:
            self._front.doom()
        if _checkin and getattr(connection, "is_valid", False):
            connection.invalidate(exception)

    def dispose(self) -> None:
        """Close the idle connections now, the lent ones when they come back. The limit stays true."""
        self._front.dispose()
        self.logger.info("Pool disposed. %s", self.status())

    def recreate(self) -> Any:
        """Make a new, empty pool like this one, with the same listeners."""
        self.logger.info("Pool recreating")
        return type(self)(**corelink.pool_arguments(self), **self._given)

    def close(self, timeout: float | None = None) -> None:
        """Lend nothing any more; wait up to *timeout* seconds for what is lent, then cut it off."""
        self._stop_scaler()
        self._front.close(timeout)

    def resize(self, size: int, overflow: int) -> None:
        """Refuse: how many connections there are is not a number here."""
        raise self._without_size("resized")

    def warm(self, n: int) -> None:
        """Refuse: connections are not opened in advance here."""
        raise self._without_size("warmed")

    def autoscale(self, *args: Any, **options: Any) -> Autoscaler:
        """Refuse: how many connections there are is not a number here."""
        raise self._without_size("scaled")

    def _without_size(self, what: str) -> InvalidRequestError:
        return InvalidRequestError(
            f"A {type(self).__name__} has no size, so it cannot be {what}. Use a pool that has one: "
            "create_engine(..., poolclass=QueuePool, pool_size=...)."
        )

    def _stop_scaler(self) -> None:
        scaler, self._scaler = self._scaler, None
        if scaler is not None:
            scaler.stop()

    # -- what there is ------------------------------------------------------------------------

    @property
    def health(self) -> Health:
        """What knows how to ask this driver's connections how they are."""
        health = self._health
        if health is None or health.dialect is not self.dialect:
            health = self._health = Health(self.dialect)
        return health  # type: ignore[no-any-return]

    def arm(self, connection: Any) -> Any:
        """Return what tells whether the socket has something to say; None for drivers that nobody tested."""
        health = self.health
        return None if health.ways is UNKNOWN else health.arm(connection)

    def find_rollback(self, connection: Any) -> Any:
        """Return the driver's rollback() where a reset is nothing else, and no server can delay it."""
        ways = self.health.ways
        return None if ways is UNKNOWN or ways.fd is not None else self.own_rollback(connection)

    def ping(self, connection: Any) -> bool:
        """Ask the server whether *connection* serves; a dialect nobody tested is asked its own way."""
        health = self.health
        if health.ways is not UNKNOWN:
            return health.ping(connection)
        if not hasattr(health.dialect, "do_ping"):
            return True
        try:
            return self.asks_server(connection)
        except Exception as error:  # noqa: BLE001 - whatever it is, the connection does not serve
            self.logger.info("Asking connection %r failed: %s", connection, error)
            return False

    def stats(self) -> PoolStats:
        """Return the numbers of the moment."""
        return self._front.stats()  # type: ignore[no-any-return]

    def leases(self) -> list[LeaseInfo]:
        """Say who holds a connection, since when and from where."""
        return self._front.leases()  # type: ignore[no-any-return]

    def status(self) -> str:
        """Describe the pool in a line."""
        return type(self).__name__

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {repr(self._front).strip('<>')}>"
