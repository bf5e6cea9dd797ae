"""Row operations of one statement shape, in the order in which they are sent: a `FlushPlan` prints itself.

A batch is columnar: one list of entities, one of states, one of parameter tuples. Choosing its technique
is a decision about its shape, its size and the database alone, so a test can compare it.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Integer, Numeric

from sojourn.kernel import units
from sojourn.unitofwork.rowops import names_of
from sojourn.unitofwork.techniques import EACH_UP_TO, UNNEST_FROM, page_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sojourn.kernel.identity import IdentityMap
    from sojourn.kernel.lean import LeanRow
    from sojourn.kernel.state import InstanceState
    from sojourn.unitofwork.rowops import DeleteShape, InsertShape, Slot, UpdateShape, Writer

INSERT: Final = "INSERT"
UPDATE: Final = "UPDATE"
DELETE: Final = "DELETE"

#: A statement's parameters stay below this size when columns may hold long values (server packet limits).
LONG_VALUES: Final = 4_000_000
_NUMBERS: Final = (Integer, Numeric)
_LONG_TYPES: Final = ("TEXT", "BLOB", "BYTEA", "JSON", "CLOB", "BINARY")


class Batch:
    """Rows of one table that are written by one kind of statement."""

    # Parameters are in one of three forms: `rows` has a tuple per row (for "one by one" what was given, by
    # column), `params` one per statement of `size` rows, `arrays` a list per column. The last two make fewer
    # objects. What most batches do not have is a class attribute: a flush of one entity is all set-up.
    params: list[tuple[Any, ...]] | None = None
    size = 0
    arrays: list[Any] | None = None
    slots: Sequence[tuple[int, int, Slot]] = ()  # (row, position, slot): values not known while planning
    missing_versions: Sequence[int] = ()  # rows whose entity does not know its version
    takes_over: InstanceState | None = None  # the deleted entity whose row a new one takes over

    def __init__(
        self,
        kind: str,
        writer: Writer,
        shape: Any,  # Any: one of the three shapes, as the kind says
        entities: list[Any],
        states: list[InstanceState],
        rows: list[Any],
        technique: str,
        writeback: Sequence[tuple[str, list[Any]]] = (),
    ) -> None:
        self.kind = kind
        self.writer = writer
        self.shape = shape
        self.entities = entities
        self.states = states
        self.rows = rows
        self.technique = technique
        self.writeback = (
            writeback  # (attribute, value per row): made in Python, told to the entities when stored
        )

    def __len__(self) -> int:
        return len(self.entities)

    def fill_slots(self) -> None:
        """Put the values that have become known into the rows."""
        for row, position, slot in self.slots:
            values = list(self.rows[row])
            values[position] = slot.read()
            self.rows[row] = tuple(values)

    def describe(self) -> tuple[str, str, str]:
        """Return what is written, how many rows, and what comes back."""
        writer, shape = self.writer, self.shape
        table = writer.table.fullname
        rows = f"{len(self)} row{'' if len(self) == 1 else 's'}"
        if self.kind == INSERT:
            back = ", ".join(f"{table}.{field.column.name}" for field in shape.returned)
            return (
                f"INSERT {table}  ({', '.join(names_of(shape.fields))})",
                rows,
                f"-> {back}" if back else "",
            )
        where = ", ".join(names_of(shape.key_fields))
        if self.kind == UPDATE:
            text = f"UPDATE {table}  ({', '.join(names_of(shape.fields))}) WHERE {where}"
            back = ", ".join(f"{table}.{field.column.name}" for field in shape.returned)
            return text, rows + ", checked", f"-> {back}" if back else ""
        return f"DELETE {table}  WHERE {where}", rows + ", checked", ""

    def __repr__(self) -> str:
        what, rows, back = self.describe()
        return f"<Batch {what}  {rows}{'  ' + back if back else ''} by {self.technique}>"


class FlushPlan:
    """The batches of a flush in the order in which they are sent."""

    __slots__ = ("batches", "clean", "empty")

    lean = False

    def __init__(self, batches: list[Batch], clean: Sequence[InstanceState] = ()) -> None:
        self.batches = batches
        self.clean = clean  # entities whose changes came to nothing
        self.empty = not batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.batches)

    def settle_nothing(self, identity: IdentityMap) -> None:
        """Forget changes that came to nothing; no statement is needed for them."""
        if self.clean:
            units.settle_clean(identity, self.clean)

    def __str__(self) -> str:
        total = sum(len(batch) for batch in self.batches)
        count = len(self.batches)
        head = f"FlushPlan  {count} batch{'' if count == 1 else 'es'}, {total} row{'' if total == 1 else 's'}"
        cells = [batch.describe() for batch in self.batches]
        wide = max((len(what) for what, _, _ in cells), default=0)
        wide_rows = max((len(rows) for _, rows, _ in cells), default=0)
        lines = [
            f"  {number}  {what.ljust(wide)}  {rows.ljust(wide_rows)}  {back}".rstrip()
            for number, (what, rows, back) in enumerate(cells, 1)
        ]
        return "\n".join([head, *lines])

    __repr__ = __str__


class LeanPlan(FlushPlan):
    """One row, one statement, nothing unusual; the shape's own `lean` plan carries it out.

    The most frequent flush of small sessions: it makes no batch unless somebody looks.
    """

    __slots__ = ("sent",)

    lean = True
    empty = False  # it never is
    clean = ()

    def __init__(self, sent: LeanRow) -> None:
        self.sent = sent

    @property
    def batches(self) -> list[Batch]:  # type: ignore[override]
        """Its one batch."""
        sent, shape = self.sent, self.sent.shape
        kind = INSERT if sent.is_insert else UPDATE
        return [Batch(kind, shape.writer, shape, [sent.entity], [sent.state], [sent.row], sent.lean[1])]


# -- choosing ------------------------------------------------------------------------------------


#: Techniques that can take their parameters as one tuple per statement.
PAGED: Final = frozenset(
    ("values", "values, returning", "ordered values", "from values", "join values", "in")
)
#: Techniques that take one array per column.
ARRAYS: Final = frozenset(("unnest", "unnest, returning", "from unnest", "any"))


def choose_insert(shape: InsertShape, count: int, *, reply: bool = True, arrays: bool = True) -> str:
    """Return the technique for an INSERT of *count* rows.

    Without *reply* nothing has to come back; *arrays* is false where the values do not fit into arrays.
    """
    writer = shape.writer
    traits = writer.traits
    if not shape.simple:
        return "one by one"
    arrays = arrays and shape.arrays and count > UNNEST_FROM
    back = reply and bool(shape.returned) and (traits.returning or shape.returns_key)
    if not back:
        if count == 1 or not shape.columns:
            return "each"
        return "unnest" if arrays else "values"
    if (
        traits.lastrowid_loop
        and shape.made_counter
        and len(shape.returned) == 1
        and (count <= EACH_UP_TO or not traits.returning or not shape.columns)
    ):
        return "each, lastrowid"
    if not traits.returning:
        return "range" if shape.made_counter and traits.lastrowid_range and shape.columns else "one by one"
    if count == 1 or not shape.columns or writer.row_by_row or (shape.returns_key and not shape.made_counter):
        return "each, returning"
    if arrays:
        return "unnest, returning"
    if traits.dialect == "postgresql" and shape.returns_key:
        castable = shape.binds and all(bind.cast for bind in shape.binds)
        return "ordered values" if castable else "each, returning"
    return "values, returning"


def choose_update(shape: UpdateShape, count: int, *, arrays: bool = True) -> str:
    """Return the technique for an UPDATE of *count* rows."""
    traits = shape.writer.traits
    if not shape.simple:
        return "one by one"
    if shape.returning:
        return "each, returning"
    if count == 1:
        return "each"
    if arrays and shape.arrays:
        return "from unnest"
    if traits.values_from and (traits.dialect == "sqlite" or all(bind.cast for bind in shape.binds)):
        return "from values"
    if traits.dialect == "mariadb" and not traits.executemany_batches and _joinable(shape):
        return "join values"
    return "executemany" if traits.executemany_rowcount else "each"


def _joinable(shape: UpdateShape) -> bool:
    """Return whether values can be joined with the table by its key.

    Not by text keys: a column of values has the connection's collation, and MariaDB refuses to compare it
    with a column of another one.
    """
    if any(bind.head or bind.tail for bind in shape.binds):
        return False
    return all(isinstance(field.column.type, _NUMBERS) for field in shape.key_fields)


def choose_delete(shape: DeleteShape, count: int, *, arrays: bool = True) -> str:
    """Return the technique for a DELETE of *count* rows."""
    return "any" if count > 1 and arrays and shape.arrays else "in"


def fit(columns: Iterable[Sequence[Any]], driver: str) -> bool:
    """Return whether each column can travel as an array: the driver finds one wire type for its values."""
    if driver != "psycopg":
        return True
    for column in columns:
        kinds = set(map(type, column))
        kinds.discard(type(None))
        if len(kinds) > 1:
            return False
        if (
            kinds
            and hasattr(next(iter(kinds)), "tzinfo")
            and len({_aware(v) for v in column if v is not None}) > 1
        ):
            return False
    return True


def _aware(value: Any) -> bool:
    return value.tzinfo is not None


# -- pages ---------------------------------------------------------------------------------------


def statements(batch: Batch, width: int) -> Iterator[tuple[int, int, tuple[Any, ...]]]:
    """Cut *batch* into statements below the limits of the database: (first row, end, parameters)."""
    if batch.params is not None:
        start = 0
        total = len(batch)
        for params in batch.params:
            stop = min(start + batch.size, total)
            yield start, stop, params
            start = stop
        return
    start = 0
    for page in _pages(batch.rows, page_of(width, batch.writer.traits), long=has_long_values(batch.shape)):
        stop = start + len(page)
        yield start, stop, flat(page)
        start = stop


def array_statements(batch: Batch, size: int) -> Iterator[tuple[int, int, tuple[Any, ...]]]:
    """Cut *batch* into statements with one array per column: (first row, end, parameters)."""
    array = batch.writer.traits.extra.get("array", list)
    if batch.arrays is None:
        start = 0
        for page in _pages(batch.rows, size, long=has_long_values(batch.shape)):
            stop = start + len(page)
            yield start, stop, tuple(map(array, zip(*page, strict=True)))
            start = stop
        return
    total = len(batch)
    for start in range(0, total, size):
        stop = min(start + size, total)
        yield start, stop, tuple(array(column[start:stop]) for column in batch.arrays)


def _pages(rows: list[Any], size: int, *, long: bool) -> Iterator[list[Any]]:
    if long:
        yield from _pages_by_length(rows, size)
    elif len(rows) <= size:
        yield rows
    else:
        for start in range(0, len(rows), size):
            yield rows[start : start + size]


def has_long_values(shape: Any) -> bool:
    """Return whether a column of *shape* may hold values of any length."""
    known: bool | None = shape.long_values
    if known is None:
        dialect = shape.writer.dialect
        known = shape.long_values = any(
            any(word in type_name(field.column.type, dialect) for word in _LONG_TYPES)
            for field in shape.bound
        )
    return known


def type_name(type_: Any, dialect: Any) -> str:
    """Return the name a type has in DDL, as far as it has one."""
    try:
        return str(dialect.type_compiler_instance.process(type_)).upper()
    except Exception:  # noqa: BLE001 - a type of the user's without a DDL name
        return ""


def _pages_by_length(rows: list[Any], size: int) -> Iterator[list[Any]]:
    page: list[Any] = []
    length = 0
    for row in rows:
        more = sum(len(value) for value in row if type(value) in (str, bytes))
        if page and (len(page) >= size or length + more > LONG_VALUES):
            yield page
            page, length = [], 0
        page.append(row)
        length += more
    if page:
        yield page


def flat(rows: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    """Return the parameters of several rows one after another."""
    return tuple(chain.from_iterable(rows)) if len(rows) > 1 else tuple(rows[0])
