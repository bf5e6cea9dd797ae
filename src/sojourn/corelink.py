"""The only file that touches SQLAlchemy Core's private names; one contract test for each.

Add a name here as an alias or a one-line function, and its test to `tests/architecture/test_corelink.py`.
"""

from __future__ import annotations

import copy
from functools import partial
from inspect import isfunction
from logging import DEBUG, INFO
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn

from sqlalchemy import create_engine
from sqlalchemy.engine.base import Connection as CoreConnection
from sqlalchemy.engine.events import ConnectionEvents, DialectEvents
from sqlalchemy.engine.result import IteratorResult, SimpleResultMetaData
from sqlalchemy.engine.row import Row
from sqlalchemy.exc import DBAPIError, InvalidRequestError
from sqlalchemy.pool.base import _ConnectionFairy, reset_commit, reset_rollback
from sqlalchemy.pool.impl import QueuePool
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import BinaryExpression, BindParameter, ClauseElement, ColumnElement
from sqlalchemy.sql.expression import WriteableColumnCollection
from sqlalchemy.sql.selectable import LABEL_STYLE_DEFAULT, FromClause, _OffsetLimitParam
from sqlalchemy.sql.sqltypes import _resolve_value_to_type
from sqlalchemy.util import immutabledict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ENTITY = "sojourn_entity"
FROM_STATEMENT = "sojourn_from_statement"  # execution option: the select that says what rows become
ATTRIBUTE = "sojourn_attribute"  # on a column: the mapper whose attribute it is


def annotate(element: Any, values: dict[str, Any]) -> Any:
    """Return *element* carrying *values* as annotations, which stay through statement building."""
    return element._annotate(values)


def notes_on(element: Any) -> Any:
    """Return the annotations of *element* (an immutable mapping, empty where it has none)."""
    return getattr(element, "_annotations", {})


def cache_key(statement: ClauseElement) -> Any:
    """Return Core's cache key of *statement*, or None when it cannot be cached."""
    return statement._generate_cache_key()


def row_metadata(keys: tuple[str, ...]) -> SimpleResultMetaData:
    """Return the metadata that gives `Row`s their names."""
    return SimpleResultMetaData(keys)


def new_row(metadata: SimpleResultMetaData, values: tuple[Any, ...]) -> Row[Any]:
    """Return a Core `Row` over *values*."""
    return Row(metadata, None, metadata._key_to_index, values)


def core_result(keys: tuple[str, ...], rows: list[tuple[Any, ...]]) -> Any:
    """Return Core's own result object over *rows*."""
    return IteratorResult(SimpleResultMetaData(keys), iter(rows))


# -- mapping: columns that are written once in a mixin or in Annotated, and used in several tables -----------


def copy_column(column: Any) -> Any:
    """Return a copy of *column* for another table: its own foreign keys, defaults and type events."""
    return column._copy()


def merge_column(source: Any, target: Any) -> None:
    """Give *target* whatever *source* says and *target* does not."""
    source._merge(target)


def set_column_type(column: Any, type_: Any) -> None:
    """Give *column*, which has no type yet, the type *type_*, with the constraints that type brings."""
    column._set_type(type_)


def has_nullable(column: Any) -> bool:
    """Return whether `nullable` was said for *column*, and not only derived."""
    return isinstance(column._user_defined_nullable, bool)


def has_type(column: Any) -> bool:
    """Return whether *column* has a type; a foreign key may get its type from its target later."""
    return not column.type._isnull


def named_columns(pairs: list[tuple[str, Any]]) -> Any:
    """Return Core's read-only column collection over pairs of name and column."""
    return WriteableColumnCollection(pairs).as_readonly()


def type_for(type_: Any, python_type: Any, matched: Any) -> Any:
    """Return the form of *type_* for *python_type*, found under its base *matched*, or None."""
    return type_._resolve_for_python_type(python_type, matched, matched)


def annotate_attribute(element: Any, mapper: Any, key: str) -> Any:
    """Return *element* as the expression of a mapped attribute: it names its result column after *key*."""
    return element._annotate({ATTRIBUTE: mapper, "proxy_key": key})


def resolve_type(value: Any) -> Any:
    """Return the type Core gives a literal by its value alone."""
    return _resolve_value_to_type(value)


def type_key(kind: Any) -> Any:
    """Return the cache key of a type that needs no context."""
    return kind._static_cache_key


def raw_columns(statement: Any) -> list[Any]:
    """Return what a SELECT was asked for, entities not yet spread into columns."""
    return list(getattr(statement, "_raw_columns", ()))


def returning(statement: Any) -> list[Any]:
    """Return what an INSERT, UPDATE or DELETE returns, entities not yet spread into columns."""
    return list(statement._returning)


def with_returning(statement: Any, columns: list[Any]) -> Any:
    """Return *statement* returning *columns* instead."""
    fresh = statement._generate()
    fresh._returning = tuple(columns)
    return fresh


def limit_binds(statement: Any) -> list[Any]:
    """Return the binds of LIMIT and OFFSET."""
    return [statement._limit_clause, statement._offset_clause]


def limit_value(clause: Any) -> int | None:
    """Return the number in a LIMIT or OFFSET that was given one."""
    return clause.value if type(clause) is _OffsetLimitParam and type(clause.value) is int else None


def has_json_reader(dialect: Any) -> bool:
    """Return whether the engine was given its own `json_deserializer`."""
    return dialect._json_deserializer is not None


def with_value(bind: Any, value: Any) -> Any:
    """Return a copy of a bind that holds another value and, if its name is its own making, another name."""
    return bind._with_value(value)


def compares_with(expression: Any, bind: Any) -> bool:
    """Return whether all that *expression* has on its right side is *bind*, an anonymous one."""
    if type(expression) is not BinaryExpression or expression.right is not bind:
        return False
    return type(bind) is BindParameter and bind.unique and not is_tuple_type(bind.type)


def compare_with(sample: Any, value: Any) -> Any:
    """Return a comparison like *sample* whose bind holds another value, as if Core had made it."""
    old = sample.right
    bind: Any = BindParameter(old._orig_key, value, old.type, unique=True, expanding=old.expanding)
    bind.expand_op = old.expand_op
    fresh = sample._clone()
    del fresh._is_clone_of  # or all that is made of one sample would count as the same
    fresh.right = bind
    fresh._orig = (sample._orig[0], hash(bind))
    return fresh


def plain_parts(select: Any) -> Any:
    """Return columns, criteria, order, LIMIT and OFFSET of a SELECT, None where it has anything else."""
    plain = select.__dict__.keys() <= _PLAIN and select._label_style is LABEL_STYLE_DEFAULT
    if not plain or select._fetch_clause is not None:
        return None
    order, criteria = select._order_by_clauses, select._where_criteria
    return select._raw_columns, criteria, order, select._limit_clause, select._offset_clause


_PLAIN = {"_raw_columns", "_label_style", "_where_criteria", "_order_by_clauses"}
_PLAIN |= {"_limit_clause", "_offset_clause", "_fetch_clause", "_fetch_clause_options"}


def bind_processors(compiled: Any) -> Any:
    """Return the bind processors of a compiled statement by bind name."""
    return compiled._bind_processors


def expanded(compiled: Any, values: dict[str, Any]) -> Any:
    """Return the text, order and processors of a compiled statement whose lists have these values."""
    return compiled._process_parameters_for_postcompile(values)


def result_columns(compiled: Any) -> list[Any] | None:
    """Return (name, type) of each result column by position, or None where only names can tell."""
    if not getattr(compiled, "_ordered_columns", False) or compiled._textual_ordered_columns:
        return None
    return [(entry.keyname, entry.type) for entry in compiled._result_columns]


def textual_columns(compiled: Any) -> dict[str, Any]:
    """Return the types a text() statement gave its columns by name."""
    return {entry.keyname: entry.type for entry in getattr(compiled, "_result_columns", ())}


def result_processor(kind: Any, dialect: Any, code: Any) -> Any:
    """Return what turns a driver's value into Python's for a type and the driver's type code, or None."""
    return kind._cached_result_processor(dialect, code)


def is_from_clause(element: Any) -> bool:
    """Return whether *element* is something rows come from, such as a table."""
    return isinstance(element, FromClause) and not isinstance(element, ColumnElement)


def column_name(element: Any) -> str | None:
    """Return the name Core would give a result column, or None for one without a name of its own."""
    annotated = notes_on(element).get("proxy_key")
    if annotated is not None:
        return str(annotated)
    return getattr(element, "_proxy_key", None)


# -- engine and pool: a Core engine whose connections sessions use the short way ----------------


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


def is_watched_pool(pool: Any) -> bool:
    """Tell whether each lease of *pool* must go Core's way: ping, events, log."""
    dispatch = pool.dispatch
    return bool(
        pool._pre_ping or dispatch.checkout or dispatch.checkin or dispatch.reset or pool._should_log_debug()
    )


class PoolWatch:
    """Answer `is_watched_pool` for one pool cheaply: its empty listener lists are replaced when they fill."""

    __slots__ = ("_checkin", "_checkout", "_dispatch", "_parents", "_pool", "_reset")

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._dispatch = dispatch = pool.dispatch
        self._checkout, self._checkin, self._reset = dispatch.checkout, dispatch.checkin, dispatch.reset
        each = (self._checkout, self._checkin, self._reset)
        self._parents = tuple(listeners.parent_listeners for listeners in each)  # those of the class

    def sees_lease(self) -> bool:
        """Tell whether the next lease must go Core's way."""
        dispatch, pool = self._dispatch, self._pool
        first, second, third = self._parents
        if (
            dispatch.checkout is self._checkout
            and dispatch.reset is self._reset
            and dispatch.checkin is self._checkin
            and not (first or second or third or pool._pre_ping)
        ):
            try:
                if pool.logger._cache[DEBUG] is False:  # what the logger itself looks at, without the call
                    return False
            except (AttributeError, KeyError):
                pass
        return is_watched_pool(pool)

    def sees_return(self) -> bool:
        """Tell whether somebody listens to returns."""
        return self._dispatch.checkin is not self._checkin or bool(self._parents[1])


def copy_events(source: Any, target: Any) -> None:
    """Give *target* the listeners that plug-ins put on *source* while it was created."""
    if "dispatch" in source.__dict__:
        target.dispatch._update(source.dispatch, only_propagate=False)
    if "_has_events" in source.__dict__:
        target._has_events = source._has_events


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


def pool_dialect(pool: Any) -> Any:
    """Return the dialect that does the work of *pool*."""
    return pool._dialect


class RecordPool(QueuePool):
    """Core's pool interface; which record is lent when is decided by `take_record` and `give_record`."""

    def take_record(self) -> Any:
        raise NotImplementedError

    def give_record(self, record: Any) -> None:
        raise NotImplementedError

    def new_record(self) -> Any:
        """Open a connection, with the pool's events."""
        return self._create_connection()

    def _do_get(self) -> Any:
        return self.take_record()

    def _do_return_conn(self, record: Any) -> None:
        self.give_record(record)


def fail_record(record: Any, error: BaseException) -> None:
    """Give back a record whose connection could not be opened."""
    record._checkin_failed(error, _fairy_was_created=False)


def take_record(pool: Any) -> Any:
    """Lend a record of any Core pool."""
    return pool._do_get()


def open_record(record: Any) -> Any:
    """Return the driver connection of a lent record, opened anew where age or an error demand it."""
    try:
        return record.get_connection()
    except BaseException as error:
        fail_record(record, error)
        raise


def give_record(record: Any) -> None:
    """Give a lent record back to its pool: finalizers, check-in event, return."""
    record.checkin(_fairy_was_created=False)


def live_proxy(record: Any) -> Any:
    """Return Core's proxy that holds *record* now, or None."""
    reference = record.fairy_ref
    return None if reference is None else reference()


def proxy_record(proxy: Any) -> Any:
    """Return the record that *proxy* holds."""
    return proxy._connection_record


def hold_proxy(proxy: Any, times: int) -> None:
    """Make *proxy* need that many more `close()` calls before it gives its connection back."""
    proxy._counter += times


class LentProxy(_ConnectionFairy):
    """Core's view of a connection that somebody else will give back to the pool."""

    __slots__ = ()

    def __init__(self, pool: Any, record: Any) -> None:
        self._pool = pool
        self._counter = 1
        self.dbapi_connection = record.dbapi_connection
        self._connection_record = record
        self._echo = False

    def _checkin(self, transaction_was_reset: bool = False) -> None:
        """Leave the return to the owner."""

    def detach(self) -> None:
        msg = (
            "this connection is lent by a session, which will give it back; engine.connect() can be detached"
        )
        raise InvalidRequestError(msg)


def lent_connection(engine: Any, proxy: Any) -> CoreConnection:
    """Return Core's Connection over *proxy*, which never reconnects on its own."""
    return CoreConnection(engine, connection=proxy, _allow_revalidate=False)


def invalidate_pool(pool: Any, record: Any, error: BaseException) -> None:
    """Mark every connection of *pool* that is as old as *record*'s as dead."""
    pool._invalidate(SimpleNamespace(_connection_record=record), error, _checkin=False)


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


# -- async engines: the async dialects of Core, driven without greenlet -------------------------------------


def create_async_core_engine(url: Any, **options: Any) -> Any:
    """Return a Core engine with the async dialect of *url*, which asks new connections nothing."""
    return create_engine(url, _is_async=True, _initialize=False, **options)


def on_connect_isolation(dialect: Any) -> Any:
    """Return what sets the isolation level of a new connection, given to the engine, or None."""
    return dialect._builtin_onconnect()


def fire_connect(pool: Any, connection: Any, record: Any) -> None:
    """Tell the listeners of an async Core pool that a connection was opened."""
    first = pool.dispatch.first_connect
    if first and not first._exec_once:  # exec_once() would take a lock that needs greenlet
        first(connection, record)
        first._exec_once = True
    pool.dispatch.connect(connection, record)


def listens_to_connect(pool: Any) -> bool:
    """Return whether somebody listens for new connections of a Core pool."""
    return bool(pool.dispatch.connect or pool.dispatch.first_connect)


def async_driver_error(dialect: Any, error: Exception) -> Exception:
    """Return what Core makes of an error of an async driver: one of the dialect's DB-API classes, mostly."""
    adapter: Any
    if dialect.driver == "asyncpg":
        from sqlalchemy.dialects.postgresql.asyncpg import (  # noqa: PLC0415 - of a driver in use
            AsyncAdapt_asyncpg_connection as adapter,
        )
    elif dialect.driver == "aiosqlite":
        from sqlalchemy.dialects.sqlite.aiosqlite import (  # noqa: PLC0415 - of a driver in use
            AsyncAdapt_aiosqlite_connection as adapter,
        )
    else:
        return error
    try:
        adapter._handle_exception_no_connection(dialect.dbapi, error)
    except Exception as translated:  # noqa: BLE001 - what it raises is the answer
        return translated
    return error


def schema_asof(dialect: Any) -> float:
    """Return when types were last changed through a dialect whose driver caches them (asyncpg), else 0."""
    return getattr(dialect, "_invalidate_schema_cache_asof", 0.0)


def note_error(dialect: Any, error: Exception) -> None:
    """Let each connection of an asyncpg dialect forget its cached types if *error* calls them stale."""
    if dialect.driver != "asyncpg":
        return
    stale = (dialect.dbapi.InvalidCachedStatementError, dialect.dbapi.InternalServerError)
    if isinstance(error, stale):
        dialect._invalidate_schema_cache()


def text_inet(dialect: Any) -> bool:
    """Return whether asyncpg shall hand out network addresses as text."""
    return getattr(dialect, "_native_inet_types", None) is False


def inet_codecs(dialect: Any, bridge: Any) -> Any:
    """Return the awaitable that makes asyncpg hand out network addresses as text."""
    return dialect._disable_asyncpg_inet_codecs(bridge)


def replace_type_fetch(dialect: Any, fetch: Any) -> None:
    """Let *fetch(connection, name)* tell Core's psycopg dialect about a PostgreSQL type."""
    dialect._type_info_fetch = fetch


def row_maker(
    keys: tuple[str, ...], extra: Sequence[Any] | None = None
) -> Callable[[tuple[Any, ...]], Row[Any]]:
    """Return what makes a Core `Row` of a tuple; *extra* holds for each key what else it may be asked by."""
    metadata = SimpleResultMetaData(keys, extra)
    return partial(Row, metadata, None, metadata._key_to_index)


def is_tuple_type(kind: Any) -> bool:
    """Return whether a bind's type is that of row values: `tuple_(a, b).in_(...)`."""
    return bool(kind._is_tuple_type)


def all_binds(statement: Any) -> list[Any]:
    """Return the bind parameters inside a statement, for one that Core gives no cache key."""
    found: dict[int, Any] = {}
    for part in visitors.iterate(statement):
        if getattr(part, "__visit_name__", None) == "bindparam":
            found[id(part)] = part
    return list(found.values())


def given_values(statement: Any) -> tuple[dict[Any, Any], list[Any]]:
    """Return what an INSERT or UPDATE was given: its `values()`, and the rows of `values([...])`."""
    rows = [row for part in getattr(statement, "_multi_values", ()) for row in part]
    return dict(statement._values or {}), rows


def with_given_values(statement: Any, values: dict[Any, Any], rows: list[Any]) -> Any:
    """Return *statement* given these values instead."""
    fresh = statement._generate()
    fresh._values = immutabledict(values) if values else None
    if rows:
        fresh._multi_values = (rows,)
    return fresh


def originals(bind: Any) -> list[Any]:
    """Return a bind parameter and what it is a copy of: negating IN, for one, copies the list's bind."""
    return list(bind._cloned_set)


def end_result(result: Any) -> None:
    """Close a result that has no rows to hand out."""
    result._soft_close(hard=True)


def has_extensions(statement: Any) -> bool:
    """Return whether an INSERT carries more than its values: ON CONFLICT, a SELECT, CTEs, prefixes."""
    return bool(
        getattr(statement, "_post_values_clause", None) is not None
        or statement._select_names
        or statement._independent_ctes
        or statement._prefixes
    )


def sources(statement: Any) -> list[Any]:
    """Return what a SELECT asks for and what it joins or selects from, as given."""
    joined = [entry[0] for entry in statement._setup_joins]
    return [*statement._raw_columns, *statement._from_obj, *joined]
