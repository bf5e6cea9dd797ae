"""What `session.execute()` and `session.scalars()` hand out: rows or single values, fetched or streamed.

The common calls work straight on the list the row loader made; a `Row` of one value is made only when
somebody asks for it. Whatever is asked rarely (`freeze`, `merge`, `columns` by name ...) is answered by
SQLAlchemy's own result, built over the same rows at that moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from sqlalchemy.exc import InvalidRequestError, MultipleResultsFound, NoResultFound, ResourceClosedError

from sojourn import corelink

if TYPE_CHECKING:
    from sqlalchemy.engine import Row

T = TypeVar("T")
#: Streams hand over one batch of values per call, an empty one at the end.
Source = Callable[[int], list[Any]]


class Values(Generic[T]):
    """Values handed out in order, from a list that is there or from a source of batches."""

    __slots__ = ("_closed", "_position", "_seen", "_source", "_values", "_yield_per")

    def __init__(self, values: list[Any], source: Source | None = None, yield_per: int = 0) -> None:
        self._values = values
        self._position = 0
        self._source = source
        self._yield_per = yield_per
        self._seen: Callable[[Any], Any] | None = None
        self._closed = False

    # -- taking values ----------------------------------------------------------------------

    def _take(self, count: int | None) -> list[Any]:
        """Take the next *count* values, or all that are left."""
        if self._closed:
            msg = "This result object is closed."
            raise ResourceClosedError(msg)
        values, start = self._values, self._position
        if self._source is None:
            if count is None:
                taken = values if start == 0 else values[start:]
                self._position = len(values)
            else:
                taken = values[start : start + count]
                self._position = start + len(taken)
            return taken
        return self._pull(count)

    def _pull(self, count: int | None) -> list[Any]:
        """Take from a stream: first what is buffered, then batch by batch."""
        taken = self._values[self._position :] if count is None else []
        if count is not None:
            taken = self._values[self._position : self._position + count]
        self._position += len(taken)
        while self._source is not None and (count is None or len(taken) < count):
            batch = self._source(self._yield_per or (count or 1000))
            if not batch:
                self._source = None
                break
            want = len(batch) if count is None else count - len(taken)
            taken.extend(batch[:want])
            self._values, self._position = batch, min(want, len(batch))
        return taken

    def _distinct(self, values: list[Any]) -> list[Any]:
        seen = self._seen
        return values if seen is None else [value for value in values if seen(value)]

    def _out(self, value: Any) -> Any:
        """Give a stored value the form in which it is handed out."""
        return value

    def _outs(self, values: list[Any]) -> list[Any]:
        return values

    def _some(self, count: int | None) -> list[Any]:
        taken = self._take(count)
        if self._seen is not None:
            fresh = self._distinct(taken)
            while count is not None and len(fresh) < count:
                taken = self._take(count - len(fresh))
                if not taken:
                    break
                fresh += self._distinct(taken)
            taken = fresh
        return taken

    # -- the public calls -------------------------------------------------------------------

    def all(self) -> Sequence[T]:
        """Return every value that is left, as a list."""
        return self._outs(self._some(None))

    def fetchall(self) -> Sequence[T]:
        """Return every value that is left, as a list."""
        return self.all()

    def fetchmany(self, size: int | None = None) -> Sequence[T]:
        """Return the next *size* values."""
        return self._outs(self._some(size or self._yield_per or 1))

    def first(self) -> T | None:
        """Return the first value or None, and close the result."""
        values = self._values
        if self._source is None and self._position == 0 and not self._closed:
            self._closed = True
            return self._out(values[0]) if values else None
        some = self._some(1)
        self.close()
        return self._out(some[0]) if some else None

    def _only(self, *, required: bool) -> Any:
        some = self._some(2)
        self.close()
        if len(some) == 1:
            return self._out(some[0])
        if some:
            msg = (
                "Multiple rows were found when exactly one was required"
                if required
                else ("Multiple rows were found when one or none was required")
            )
            raise MultipleResultsFound(msg)
        if required:
            msg = "No row was found when one was required"
            raise NoResultFound(msg)
        return None

    def one(self) -> T:
        """Return the only value; raise NoResultFound or MultipleResultsFound otherwise."""
        only: T = self._only(required=True)
        return only

    def one_or_none(self) -> T | None:
        """Return the only value or None; raise MultipleResultsFound for several."""
        only: T | None = self._only(required=False)
        return only

    def __iter__(self) -> Iterator[T]:
        if self._source is None:
            yield from self._outs(self._some(None))
            return
        while batch := self._some(self._yield_per or 1000):
            yield from self._outs(batch)

    def __next__(self) -> T:
        some = self._some(1)
        if not some:
            raise StopIteration
        value: T = self._out(some[0])
        return value

    def partitions(self, size: int | None = None) -> Iterator[Sequence[T]]:
        """Hand out lists of *size* values (default: yield_per, else everything at once)."""
        size = size or self._yield_per or None
        while batch := self._some(size):
            yield self._outs(batch)

    def close(self) -> None:
        """Forget what was not taken; a stream ends on the server too."""
        self._closed = True
        self._values = []
        source, self._source = self._source, None
        if source is not None:
            source(0)

    @property
    def closed(self) -> bool:
        """Whether the result was closed."""
        return self._closed

    def _unique(self, strategy: Callable[[Any], Any] | None) -> None:
        seen: set[Any] = set()

        def fresh(value: Any) -> bool:
            mark = strategy(self._out(value)) if strategy is not None else _mark(value)
            if mark in seen:
                return False
            seen.add(mark)
            return True

        self._seen = fresh

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _mark(value: Any) -> Any:
    """Return what makes *value* the same as another: itself, or its identity if it cannot be hashed."""
    try:
        hash(value)
    except TypeError:
        return id(value)
    return value


class ScalarResult(Values[T]):
    """The first value of each row."""

    __slots__ = ()

    def unique(self, strategy: Callable[[Any], Any] | None = None) -> ScalarResult[T]:
        """Leave out values that came before."""
        self._unique(strategy)
        return self

    def yield_per(self, num: int) -> ScalarResult[T]:
        """Fetch *num* rows at a time while iterating."""
        self._yield_per = num
        return self


class MappingResult(Values[Mapping[str, Any]]):
    """Each row as a read-only mapping from name to value."""

    __slots__ = ("_keys",)

    def __init__(
        self, values: list[Any], keys: tuple[str, ...], source: Source | None = None, yield_per: int = 0
    ) -> None:
        super().__init__(values, source, yield_per)
        self._keys = keys

    def keys(self) -> tuple[str, ...]:
        """Return the names of the columns."""
        return self._keys

    def unique(self, strategy: Callable[[Any], Any] | None = None) -> MappingResult:
        """Leave out rows that came before."""
        self._unique(strategy)
        return self

    def _out(self, value: Any) -> Any:
        return value._mapping

    def _outs(self, values: list[Any]) -> list[Any]:
        return [value._mapping for value in values]


class Result(Values[T]):
    """Rows with SQLAlchemy's `Row` interface.

    *single* says that the stored values are bare values of one-column rows, to be wrapped on demand.
    """

    __slots__ = ("_keys", "_make_row", "_single", "rowcount")

    def __init__(
        self,
        values: list[Any],
        keys: tuple[str, ...],
        *,
        single: bool = False,
        source: Source | None = None,
        yield_per: int = 0,
        rowcount: int = -1,
    ) -> None:
        super().__init__(values, source, yield_per)
        self._keys = keys
        self._single = single
        self._make_row: Any = None
        self.rowcount = rowcount

    def _row_maker(self) -> Any:
        if self._make_row is None:
            metadata = corelink.row_metadata(self._keys)
            new_row = corelink.new_row
            self._make_row = lambda value: new_row(metadata, (value,))
        return self._make_row

    def _out(self, value: Any) -> Any:
        return self._row_maker()(value) if self._single else value

    def _outs(self, values: list[Any]) -> list[Any]:
        if not self._single:
            return values
        make = self._row_maker()
        return [make(value) for value in values]

    def _derived(self, source_of: Callable[[list[Any]], list[Any]]) -> tuple[list[Any], Source | None]:
        """Hand over what is left, each batch through *source_of*."""
        left = self._values[self._position :] if self._position else self._values
        if self._seen is not None:
            left = self._distinct(left)
        source = self._source
        self._source = None
        self._values = []
        if source is None:
            return source_of(left), None
        distinct = self._distinct

        def derived(size: int) -> list[Any]:
            return source_of(distinct(source(size)))

        return source_of(left), derived

    def keys(self) -> tuple[str, ...]:
        """Return the names of the columns."""
        return self._keys

    @property
    def returns_rows(self) -> bool:
        """Whether the statement returns rows at all."""
        return True

    def scalars(self, index: Any = 0) -> ScalarResult[Any]:
        """Return the values of one column (the first by default)."""
        if self._single:
            self._index(index)
            if self._source is None and self._seen is None and not self._position:
                return ScalarResult(self._values)
            values, source = self._derived(lambda rows: rows)
        else:
            at = self._index(index)
            values, source = self._derived(lambda rows: [row[at] for row in rows])
        return ScalarResult(values, source, self._yield_per)

    def _index(self, index: Any) -> int:
        if isinstance(index, int):
            if not -len(self._keys) <= index < len(self._keys):
                msg = f"column {index} of a result with {len(self._keys)} columns"
                raise IndexError(msg)
            return index
        name = getattr(index, "key", index)
        if name not in self._keys:
            msg = f"this result has no column {name!r}; its columns are {', '.join(self._keys)}"
            raise InvalidRequestError(msg)
        return self._keys.index(name)

    def scalar(self) -> Any:
        """Return the first value of the first row or None, and close the result."""
        row = self.first()
        return None if row is None else row[0]  # type: ignore[index]

    def scalar_one(self) -> Any:
        """Return the first value of the only row."""
        return self.one()[0]  # type: ignore[index]

    def scalar_one_or_none(self) -> Any:
        """Return the first value of the only row, or None without one."""
        row = self.one_or_none()
        return None if row is None else row[0]  # type: ignore[index]

    def mappings(self) -> MappingResult:
        """Return each row as a mapping from name to value."""
        values, source = self._derived(self._outs)
        return MappingResult(values, self._keys, source, self._yield_per)

    def tuples(self) -> Result[T]:
        """Return this result: rows are tuples already (a name for type checkers)."""
        return self

    @property
    def t(self) -> Result[T]:
        """This result: rows are tuples already."""
        return self

    def unique(self, strategy: Callable[[Any], Any] | None = None) -> Result[T]:
        """Leave out rows that came before."""
        self._unique(strategy)
        return self

    def yield_per(self, num: int) -> Result[T]:
        """Fetch *num* rows at a time while iterating."""
        self._yield_per = num
        return self

    @overload
    def columns(self, *indexes: int) -> Result[Any]: ...
    @overload
    def columns(self, *indexes: Any) -> Result[Any]: ...
    def columns(self, *indexes: Any) -> Result[Any]:
        """Return rows of the named or numbered columns only, in that order."""
        places = [self._index(index) for index in indexes]
        keys = tuple(self._keys[place] for place in places)
        metadata = corelink.row_metadata(keys)
        new_row = corelink.new_row

        def narrow(rows: list[Any]) -> list[Any]:
            return [new_row(metadata, tuple([row[place] for place in places])) for row in self._outs(rows)]

        values, source = self._derived(narrow)
        return Result(values, keys, source=source, yield_per=self._yield_per)

    def core(self) -> Any:
        """Return SQLAlchemy's own result over what is left."""
        rows: list[Row[Any]] = list(islice(self, None))  # type: ignore[arg-type]
        return corelink.core_result(self._keys, [tuple(row) for row in rows])

    def freeze(self) -> Any:
        """Return a callable that hands out the same rows again and again."""
        return self.core().freeze()

    def merge(self, *others: Any) -> Any:
        """Return one result with the rows of this and of *others*."""
        return self.core().merge(*[getattr(other, "core", lambda o=other: o)() for other in others])

    def close(self) -> None:
        """Forget what was not taken; a stream ends on the server too."""
        super().close()

    def __repr__(self) -> str:
        left = "streaming" if self._source is not None else f"{len(self._values) - self._position} rows left"
        return f"<Result ({', '.join(map(str, self._keys))}): {'closed' if self._closed else left}>"
