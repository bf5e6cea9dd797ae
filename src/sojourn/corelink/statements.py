"""Private names of Core that statements, columns, types and compiled texts are read through."""

from __future__ import annotations

from typing import Any

from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import BinaryExpression, BindParameter, ClauseElement, ColumnElement
from sqlalchemy.sql.expression import WriteableColumnCollection
from sqlalchemy.sql.selectable import LABEL_STYLE_DEFAULT, FromClause, _OffsetLimitParam
from sqlalchemy.sql.sqltypes import _resolve_value_to_type
from sqlalchemy.util import immutabledict

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
