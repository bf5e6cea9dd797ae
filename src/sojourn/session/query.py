"""`Query`: the 1.x interface, a thin reader of `select()`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

import sqlalchemy
from sqlalchemy import func
from sqlalchemy.exc import InvalidRequestError, MultipleResultsFound, NoResultFound

from sojourn import corelink
from sojourn.errors import SessionError
from sojourn.session.binds import NOTHING, class_of
from sojourn.statements import delete, select, update
from sojourn.statements.builders import Select

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


T = TypeVar("T")


class Answers(Protocol):
    """What a query asks of its session, which is built above it."""

    def get(self, entity: Any, ident: Any, *, execution_options: Mapping[str, Any] = ...) -> Any: ...
    def scalar(self, statement: Any, params: Any = None, **options: Any) -> Any: ...
    def scalars(
        self, statement: Any, params: Any = None, *, execution_options: Mapping[str, Any] = ...
    ) -> Any: ...
    def execute(
        self, statement: Any, params: Any = None, *, execution_options: Mapping[str, Any] = ...
    ) -> Any: ...


class Query(Generic[T]):
    """Criteria and order for a read, answered by its session; each step returns a new query."""

    _options: Mapping[str, Any] = NOTHING
    _params: Mapping[str, Any] = NOTHING

    def __init__(self, entities: Any, session: Answers | None = None) -> None:
        if entities.__class__ is not tuple:
            entities = tuple(entities) if isinstance(entities, list) else (entities,)
        self.session = session
        self._entities = entities
        self._single = len(entities) == 1 and isinstance(entities[0], type)
        # What filter_by means by a name, while there is no join that could mean something else.
        layout = getattr(entities[0], "__sojourn_layout__", None) if self._single else None
        self._names: Mapping[str, Any] = NOTHING if layout is None else layout.attributes
        self._statement: Any = select(*entities)

    # -- building ---------------------------------------------------------------------------

    def _with(self, statement: Any) -> Self:
        query: Self = object.__new__(self.__class__)
        values = query.__dict__
        values.update(self.__dict__)
        values["_statement"] = statement
        return query

    def _with_options(self, **options: Any) -> Self:
        query = self._with(self._statement)
        vars(query).update(_options={**self._options, **options})
        return query

    def filter(self, *criteria: Any) -> Self:
        """Keep rows that meet all *criteria*."""
        return self._with(self._statement.where(*criteria))

    def where(self, *criteria: Any) -> Self:
        """Keep rows that meet all *criteria*: another name of filter()."""
        return self.filter(*criteria)

    def filter_by(self, **values: Any) -> Self:
        """Keep rows whose attributes equal these *values*, on the class joined last or else the first."""
        statement, names = self._statement, self._names
        try:
            for name, value in values.items():
                statement = statement.where(names[name] == value)
            return self._with(statement)
        except KeyError:
            statement = self._statement
            by_name = statement.filter_by_last if isinstance(statement, Select) else statement.filter_by
            return self._with(by_name(**values))

    def order_by(self, *clauses: Any) -> Self:
        """Sort by *clauses*; a single None or False takes the sorting away."""
        if len(clauses) == 1 and (clauses[0] is None or clauses[0] is False):
            return self._with(self._core().order_by(None))
        return self._with(self._statement.order_by(*clauses))

    def group_by(self, *clauses: Any) -> Self:
        """Group by *clauses*."""
        return self._with(self._statement.group_by(*clauses))

    def having(self, *criteria: Any) -> Self:
        """Keep groups that meet all *criteria*."""
        return self._with(self._statement.having(*criteria))

    def limit(self, limit: int | None) -> Self:
        """Return at most *limit* rows."""
        return self._with(self._statement.limit(limit) if limit is not None else self._core().limit(None))

    def offset(self, offset: int | None) -> Self:
        """Pass over the first *offset* rows."""
        return self._with(self._statement.offset(offset) if offset is not None else self._core().offset(None))

    def slice(self, start: int | None, stop: int | None) -> Self:
        """Return the rows from *start* up to *stop*."""
        query = self
        if stop is not None:
            query = query.limit(stop - (start or 0))
        return query.offset(start) if start else query

    def distinct(self, *columns: Any) -> Self:
        """Leave out repeated rows."""
        return self._with(self._statement.distinct(*columns))

    def join(self, target: Any, onclause: Any = None, *, isouter: bool = False, full: bool = False) -> Self:
        """Join another class or table."""
        joined = self._statement.join(
            target, *[] if onclause is None else [onclause], isouter=isouter, full=full
        )
        query = self._with(joined)
        query.__dict__["_names"] = NOTHING
        return query

    def outerjoin(self, target: Any, onclause: Any = None, *, full: bool = False) -> Self:
        """Join another class or table, keeping rows without a partner."""
        return self.join(target, onclause, isouter=True, full=full)

    def select_from(self, *sources: Any) -> Self:
        """Name what is selected from."""
        return self._with(self._statement.select_from(*sources))

    def with_entities(self, *entities: Any) -> Query[Any]:
        """Select *entities* instead, under the same criteria."""
        query: Query[Any] = self._with(self._core().with_only_columns(*entities))
        single = len(entities) == 1 and isinstance(entities[0], type)
        query.__dict__.update(_entities=entities, _single=single, _names=NOTHING)
        return query

    def add_columns(self, *columns: Any) -> Query[Any]:
        """Select *columns* too."""
        query: Query[Any] = self._with(self._core().add_columns(*columns))
        query.__dict__.update(_entities=(*self._entities, *columns), _single=False)
        return query

    def options(self, *options: Any) -> Self:
        """Apply loader options."""
        return self._with(self._statement.options(*options))

    def with_for_update(self, **options: Any) -> Self:
        """Lock the rows that are read."""
        return self._with(self._core().with_for_update(**options))

    def params(self, *args: Mapping[str, Any], **values: Any) -> Self:
        """Give values to named bind parameters."""
        query = self._with(self._statement)
        vars(query).update(_params={**self._params, **(dict(args[0]) if args else {}), **values})
        return query

    def execution_options(self, **options: Any) -> Self:
        """Set execution options."""
        return self._with_options(**options)

    def populate_existing(self) -> Self:
        """Overwrite loaded entities with what is read."""
        return self._with_options(populate_existing=True)

    def autoflush(self, setting: bool) -> Self:
        """Flush before reading, or not."""
        return self._with_options(autoflush=setting)

    def yield_per(self, count: int) -> Self:
        """Fetch *count* rows at a time while iterating."""
        return self._with_options(yield_per=count)

    def with_session(self, session: Answers) -> Self:
        """Return this query for another session."""
        query = self._with(self._statement)
        query.session = session
        return query

    def union(self, *queries: Query[Any]) -> Self:
        """Return the rows of this and of *queries*, without repetition."""
        return self._combined(sqlalchemy.union, queries)

    def union_all(self, *queries: Query[Any]) -> Self:
        """Return the rows of this and of *queries*."""
        return self._combined(sqlalchemy.union_all, queries)

    def intersect(self, *queries: Query[Any]) -> Self:
        """Return the rows common to this and *queries*."""
        return self._combined(sqlalchemy.intersect, queries)

    def except_(self, *queries: Query[Any]) -> Self:
        """Return the rows of this that *queries* do not have."""
        return self._combined(sqlalchemy.except_, queries)

    def _combined(self, operation: Any, queries: tuple[Query[Any], ...]) -> Self:
        combined = operation(self.statement, *[each.statement for each in queries])
        return self._with(select(*self._entities).from_statement(combined))

    # -- as a part of something else --------------------------------------------------------

    def _core(self) -> Any:
        """Return SQLAlchemy's select of what was built so far."""
        statement = self._statement
        return statement.core() if isinstance(statement, Select) else statement

    @property
    def statement(self) -> Any:
        """The select this query stands for."""
        core = self._core()
        return core.params(self._params) if self._params else core

    def __clause_element__(self) -> Any:
        return self.statement

    @property
    def whereclause(self) -> Any:
        """The criteria, None without any."""
        return self._core().whereclause

    @property
    def column_descriptions(self) -> list[dict[str, Any]]:
        """What each position of a result row is."""
        return [
            {
                "name": getattr(each, "key", None) or getattr(each, "__name__", None),
                "type": each if isinstance(each, type) else getattr(each, "type", None),
                "expr": each,
                "entity": each if isinstance(each, type) else getattr(each, "class_", None),
            }
            for each in self._entities
        ]

    def subquery(self, name: str | None = None) -> Any:
        """Return this query as a subquery."""
        return self.statement.subquery(name)

    def cte(self, name: str | None = None, recursive: bool = False) -> Any:
        """Return this query as a common table expression."""
        return self.statement.cte(name, recursive=recursive)

    def label(self, name: str | None) -> Any:
        """Return this query as a labelled scalar subquery."""
        return self.statement.scalar_subquery().label(name)

    def scalar_subquery(self) -> Any:
        """Return this query as a scalar subquery."""
        return self.statement.scalar_subquery()

    def exists(self) -> Any:
        """Return an EXISTS of this query, to be used in another."""
        return sqlalchemy.exists(self._core().with_only_columns(sqlalchemy.literal_column("1")))

    def __str__(self) -> str:
        return str(self.statement)

    # -- reading ----------------------------------------------------------------------------

    def _session(self) -> Answers:
        if self.session is None:
            msg = "This query belongs to no session; give it one: query.with_session(session)."
            raise InvalidRequestError(msg)
        return self.session

    def _result(self, statement: Any = None) -> Any:
        """Run the query: entities for a query of one class, rows otherwise."""
        session = self._session()
        statement = self._statement if statement is None else statement
        run = session.scalars if self._single else session.execute
        if self._options or self._params:
            return run(statement, self._params or None, execution_options=self._options)
        return run(statement)

    def all(self) -> list[T]:
        """Return everything, as a list."""
        return list(self._result().all())

    def first(self) -> T | None:
        """Return the first entity or row, None without one; asks for one row only."""
        session = self.session
        statement = self._statement.limit(1)
        if session is None or not self._single or self._options or self._params:
            found: T | None = self._result(statement).first()
            return found
        found = session.scalars(statement).first()
        return found

    def one(self) -> T:
        """Return the only entity or row; raise NoResultFound or MultipleResultsFound otherwise."""
        found: T = self._result().one()
        return found

    def one_or_none(self) -> T | None:
        """Return the only entity or row, None without one; raise MultipleResultsFound for several."""
        found: T | None = self._result().one_or_none()
        return found

    def scalar(self) -> Any:
        """Return the first value of the only row, None without one."""
        try:
            found: Any = self.one()
        except NoResultFound:
            return None
        except MultipleResultsFound:
            raise
        return found if self._single else found[0]

    def get(self, ident: Any) -> T | None:
        """Return the entity with this primary key, or None."""
        found: T | None = self._session().get(self._entities[0], ident, execution_options=self._options)
        return found

    def count(self) -> int:
        """Count the rows this query would return."""
        counted = sqlalchemy.select(func.count()).select_from(self._core().order_by(None).subquery())
        number: int = self._session().scalar(counted, self._params or None, execution_options=self._options)
        return number

    def __iter__(self) -> Iterator[T]:
        yield from self._result()

    def __getitem__(self, item: Any) -> Any:
        if isinstance(item, slice):
            if (item.start or 0) < 0 or (item.stop or 0) < 0 or item.step not in (None, 1):
                return self.all()[item]
            return self.slice(item.start, item.stop).all()
        if item < 0:
            msg = "negative indexes are not accepted by SQL index / slice operators"
            raise IndexError(msg)
        found = self.slice(item, item + 1).all()
        if not found:
            msg = "list index out of range"
            raise IndexError(msg)
        return found[0]

    # -- changing ---------------------------------------------------------------------------

    def delete(self, synchronize_session: Any = "auto") -> int:
        """Delete the rows this query stands for and return their number."""
        return self._change(delete(self._entity()), synchronize_session)

    def update(self, values: Mapping[Any, Any], synchronize_session: Any = "auto") -> int:
        """Set *values* (by attribute or name) on the rows this query stands for and return their number."""
        return self._change(update(self._entity()).values(dict(values)), synchronize_session)

    def _entity(self) -> Any:
        entity = self._entities[0]
        return entity if isinstance(entity, type) else class_of(getattr(entity, "class_", entity)).class_

    def _change(self, statement: Any, synchronize_session: Any) -> int:
        core = self._core()
        if any(bind is not None for bind in corelink.limit_binds(core)):
            raise SessionError(
                "update() and delete() of a query cannot have limit() or offset().",
                "Name the rows: query.filter(User.id.in_(select(User.id).limit(10))).delete().",
            )
        where = core.whereclause
        if where is not None:
            statement = statement.where(where)
        result = self._session().execute(
            statement,
            self._params or None,
            execution_options={**self._options, "synchronize_session": synchronize_session},
        )
        count: int = result.rowcount
        return count
