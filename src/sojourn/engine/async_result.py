"""`AsyncResult`: rows that are fetched while one iterates, bit by bit."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

from sqlalchemy.exc import InvalidRequestError, MultipleResultsFound, NoResultFound, ResourceClosedError

T = TypeVar("T")
#: The next values of a stream, empty at its end; a size of 0 ends it.
Pull = Callable[[int], Awaitable[list[Any]]]

BATCH = 500


class AsyncValues(Generic[T]):
    """Values of a stream in order, each through *transform* (a whole batch at a time)."""

    def __init__(
        self,
        pull: Pull,
        transform: Callable[[list[Any]], list[Any]] | None = None,
        *,
        yield_per: int = 0,
        seen: Callable[[Any], bool] | None = None,
    ) -> None:
        self._pull = pull
        self._transform = transform
        self._yield_per = yield_per
        self._seen = seen
        self._buffer: list[Any] = []
        self._ended = False
        self.closed = False

    async def _take(self, count: int | None) -> list[Any]:
        """Take the next *count* values, or all that are left."""
        if self.closed:
            msg = "This result object is closed."
            raise ResourceClosedError(msg)
        while not self._ended and (count is None or len(self._buffer) < count):
            missing = 1000 if count is None else count - len(self._buffer)
            batch = await self._pull(self._yield_per or missing)
            if not batch:
                self._ended = True
                break
            if self._transform is not None:
                batch = self._transform(batch)
            if self._seen is not None:
                batch = [value for value in batch if self._seen(value)]
            self._buffer += batch
        taken, self._buffer = self._buffer[:count], [] if count is None else self._buffer[count:]
        return taken

    async def all(self) -> Sequence[T]:
        """Return every value that is left."""
        return await self._take(None)

    async def fetchall(self) -> Sequence[T]:
        """Return every value that is left."""
        return await self._take(None)

    async def fetchmany(self, size: int | None = None) -> Sequence[T]:
        """Return the next *size* values."""
        return await self._take(size or self._yield_per or BATCH)

    async def first(self) -> T | None:
        """Return the first value or None, and close the result."""
        some = await self._take(1)
        await self.close()
        return some[0] if some else None

    async def one_or_none(self) -> T | None:
        """Return the only value or None; raise MultipleResultsFound for several."""
        some = await self._take(2)
        await self.close()
        if len(some) > 1:
            msg = "Multiple rows were found when one or none was required"
            raise MultipleResultsFound(msg)
        return some[0] if some else None

    async def one(self) -> T:
        """Return the only value; raise NoResultFound or MultipleResultsFound otherwise."""
        some = await self._take(2)
        await self.close()
        if len(some) > 1:
            msg = "Multiple rows were found when exactly one was required"
            raise MultipleResultsFound(msg)
        if not some:
            msg = "No row was found when one was required"
            raise NoResultFound(msg)
        value: T = some[0]
        return value

    async def partitions(self, size: int | None = None) -> AsyncIterator[Sequence[T]]:
        """Hand out lists of *size* values."""
        while batch := await self._take(size or self._yield_per or BATCH):
            yield batch

    async def __aiter__(self) -> AsyncIterator[T]:
        while batch := await self._take(self._yield_per or BATCH):
            for value in batch:
                yield value

    async def __anext__(self) -> T:
        some = await self._take(1)
        if not some:
            raise StopAsyncIteration
        value: T = some[0]
        return value

    async def close(self) -> None:
        """End the stream, on the server too."""
        if not self.closed:
            self.closed = True
            self._buffer = []
            if not self._ended:
                await self._pull(0)

    def _unique(self, strategy: Callable[[Any], Any] | None) -> None:
        marks: set[Any] = set()

        def seen(value: Any) -> bool:
            mark = strategy(value) if strategy is not None else value
            if mark in marks:
                return False
            marks.add(mark)
            return True

        self._seen = seen


class AsyncScalarResult(AsyncValues[T]):
    """One value of each row."""

    def unique(self, strategy: Callable[[Any], Any] | None = None) -> AsyncScalarResult[T]:
        """Leave out values that came before."""
        self._unique(strategy)
        return self


class AsyncMappingResult(AsyncValues[Any]):
    """Each row as a mapping from name to value."""

    _names: tuple[str, ...] = ()

    def keys(self) -> tuple[str, ...]:
        """Return the names of the columns."""
        return self._names

    def unique(self, strategy: Callable[[Any], Any] | None = None) -> AsyncMappingResult:
        """Leave out rows that came before."""
        self._unique(strategy)
        return self


class AsyncResult(AsyncValues[T]):
    """Rows of a stream."""

    def __init__(
        self,
        pull: Pull,
        keys: Sequence[str],
        transform: Callable[[list[Any]], list[Any]] | None = None,
        *,
        yield_per: int = 0,
    ) -> None:
        super().__init__(pull, transform, yield_per=yield_per)
        self._keys = tuple(keys)

    def keys(self) -> tuple[str, ...]:
        """Return the names of the columns."""
        return self._keys

    async def fetchone(self) -> T | None:
        """Return the next row or None."""
        some = await self._take(1)
        return some[0] if some else None

    def yield_per(self, num: int) -> AsyncResult[T]:
        """Fetch *num* rows at a time."""
        self._yield_per = num
        return self

    def unique(self, strategy: Callable[[Any], Any] | None = None) -> AsyncResult[T]:
        """Leave out rows that came before."""
        self._unique(strategy)
        return self

    def tuples(self) -> AsyncResult[T]:
        """Return this result: rows are tuples already (a name for type checkers)."""
        return self

    @property
    def t(self) -> AsyncResult[T]:
        """This result: rows are tuples already."""
        return self

    def _index(self, index: Any) -> int:
        if isinstance(index, int):
            return index
        name = getattr(index, "key", index)
        if name not in self._keys:
            msg = f"this result has no column {name!r}; its columns are {', '.join(self._keys)}"
            raise InvalidRequestError(msg)
        return self._keys.index(name)

    def _then(self, more: Callable[[list[Any]], list[Any]]) -> tuple[Pull, Callable[[list[Any]], list[Any]]]:
        """Return the source and the transformation of a result made from this one."""
        before, seen = self._transform, self._seen

        def transform(batch: list[Any]) -> list[Any]:
            rows = batch if before is None else before(batch)
            return more(rows if seen is None else [row for row in rows if seen(row)])

        return self._pull, transform

    def scalars(self, index: Any = 0) -> AsyncScalarResult[Any]:
        """Return one value of each row: the first by default."""
        at = self._index(index)
        pull, transform = self._then(lambda rows: [row[at] for row in rows])
        return AsyncScalarResult(pull, transform, yield_per=self._yield_per)

    def mappings(self) -> AsyncMappingResult:
        """Return each row as a mapping."""
        pull, transform = self._then(lambda rows: [row._mapping for row in rows])
        result = AsyncMappingResult(pull, transform, yield_per=self._yield_per)
        result._names = self._keys  # noqa: SLF001 - a class of this file
        return result

    async def scalar(self) -> Any:
        """Return the first value of the first row or None, and close the result."""
        row: Any = await self.first()
        return None if row is None else row[0]

    async def scalar_one(self) -> Any:
        """Return the first value of the only row."""
        row: Any = await self.one()
        return row[0]

    async def scalar_one_or_none(self) -> Any:
        """Return the first value of the only row, or None without one."""
        row: Any = await self.one_or_none()
        return None if row is None else row[0]
