"""How the rows of one mapper are written: which columns take part, and where each value comes from.

A `Writer` is the knowledge about one mapper on one engine, worked out once. It hands out *shapes*: an
`InsertShape` per set of optional columns present, an `UpdateShape` per set of changed names, one
`DeleteShape`. A shape knows its columns, how each is bound, which values Python makes, which the database
makes, and keeps the SQL texts already written for it. A value that is known only while the flush runs is
a `Slot`.

Which columns an INSERT names (SQLAlchemy's rules): every column without a default, absent ones as NULL;
key columns and columns with a default only when they have a value; None counts as no value there, except
for types that evaluate None (JSON).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from sqlalchemy import Column
from sqlalchemy.exc import CompileError
from sqlalchemy.sql.type_api import TypeEngine

from sojourn.errors import FlushKeyMissing
from sojourn.unitofwork.techniques import Bind, Texts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from sojourn.mapping.mapper import Mapper
    from sojourn.plans import StatementPlan
    from sojourn.symbols import Traits

#: Ways a value comes into being when the program gives none.
NONE: Final = ""
SCALAR: Final = "scalar"  # the same Python value for every row
CALL: Final = "call"  # a Python function, called per row
SQL: Final = "sql"  # an SQL expression inside the statement
SERVER: Final = "server"  # the database, by a rule of its own
COUNTER: Final = "counter"  # the database, by counting: keys come in the order of the rows
PYTHON_MADE: Final = (SCALAR, CALL)
#: Shapes kept per mapper: rows with every possible set of keys would fill memory otherwise.
SHAPES_KEPT: Final = 200


class Slot:
    """A value that is known only when its turn in the flush comes."""

    __slots__ = ("read",)

    def __init__(self, read: Callable[[], Any]) -> None:
        self.read = read


class Field:
    """One column as a flush sees it."""

    __slots__ = (
        "bind", "change", "change_value", "column", "computed", "descending", "key", "make", "make_value",
        "name", "none_counts", "quoted", "returnable",
    )  # fmt: skip

    def __init__(self, name: str, column: Column[Any], dialect: Any, traits: Traits) -> None:
        type_ = column.type
        self.name = name  # of the attribute; "" for a column that is not mapped
        self.column = column
        self.key = column.primary_key
        self.quoted = dialect.identifier_preparer.format_column(column)
        self.bind = Bind(type_, dialect, traits)
        self.none_counts = bool(type_.should_evaluate_none)
        self.returnable = type_.column_expression(column) is None
        self.computed = column.computed is not None
        self.descending = False
        self.make, self.make_value = self._made(column, dialect)
        self.change, self.change_value = _default(column.onupdate)
        if not self.change and (column.server_onupdate is not None or self.computed):
            self.change = SERVER
        if self.change == SQL:
            self.change_value = inline_sql(self.change_value, dialect)

    def _made(self, column: Column[Any], dialect: Any) -> tuple[str, Any]:
        """Return how an INSERT gets this column's value when the program gives none."""
        table = cast("Any", column.table)
        counts = column is table.autoincrement_column and _counts(table, dialect)
        default = cast("Any", column.default)
        if default is not None and default.is_sequence:
            if dialect.supports_sequences and not (default.optional and dialect.sequences_optional):
                self.descending = (default.increment or 1) < 0
                kind = SQL if default.cycle else COUNTER
                return kind, inline_sql(default.next_value(), dialect)
            return (COUNTER, None) if counts else (NONE, None)
        if default is not None:
            kind, value = _default(default)
            return kind, inline_sql(value, dialect) if kind == SQL else value
        if column.identity is not None:
            self.descending = (column.identity.increment or 1) < 0
            return (SERVER if column.identity.cycle else COUNTER), None
        if column.server_default is not None:
            return SERVER, None
        return (COUNTER, None) if counts else (NONE, None)

    @property
    def optional(self) -> bool:
        """Whether an INSERT names this column only when there is a value."""
        return bool(self.make) or self.key or self.none_counts

    def refused(self, value: object) -> BaseException | None:
        """Return what the type says about *value*, or None when it takes it."""
        processor = self.bind.processor
        if processor is not None:
            try:
                processor(value)
            except Exception as error:  # noqa: BLE001 - whatever the type raises is its answer
                return error
        return None


def _counts(table: Any, dialect: Any) -> bool:
    options = table.dialect_options
    return not (dialect.name == "sqlite" and not options["sqlite"].get("with_rowid", True))


def _default(default: Any) -> tuple[str, Any]:
    """Return the kind of a column default, and its value, function or expression."""
    if default is None:
        return NONE, None
    if default.is_sequence:
        return SQL, default.next_value()
    if default.is_clause_element:
        return SQL, default.arg
    if default.is_callable:
        return CALL, default.arg
    return SCALAR, default.arg


def inline_sql(expression: Any, dialect: Any) -> str | Any:
    """Return *expression* as SQL text, or itself when it has parameters that cannot be literals."""
    compiled = expression.compile(dialect=dialect)
    if compiled.params:
        try:
            compiled = expression.compile(dialect=dialect, compile_kwargs={"literal_binds": True})
        except (CompileError, NotImplementedError):
            return expression
    text = str(compiled)
    return f"({text})" if text.startswith("SELECT ") else text


class DefaultContext:
    """What a context-sensitive default function is given: the row as far as it is known."""

    __slots__ = ("_columns", "_index", "current_column", "dialect", "isinsert", "isupdate")

    def __init__(self, dialect: Any, isinsert: bool) -> None:
        self.dialect = dialect
        self.isinsert = isinsert
        self.isupdate = not isinsert
        self.current_column: Any = None
        self._columns: list[tuple[str, Sequence[Any]]] = []
        self._index = 0

    @property
    def current_parameters(self) -> dict[str, Any]:
        """The row's values so far, by column key."""
        return self.get_current_parameters()

    def get_current_parameters(self, isolate_multiinsert_groups: bool = True) -> dict[str, Any]:
        """Return the row's values so far, by column key."""
        index = self._index
        return {name: values[index] for name, values in self._columns}

    def fill(
        self, field: Field, function: Callable[[Any], Any], known: list[tuple[str, Sequence[Any]]], count: int
    ) -> list[Any]:
        """Call *function* once per row and return the values."""
        self.current_column = field.column
        self._columns = known
        made = []
        for index in range(count):
            self._index = index
            made.append(function(self))
        return made


class Shape:
    """What the statements of one shape have in common."""

    __slots__ = (
        "binds", "bound", "lapsed", "lean", "long_values", "names", "processors", "returned",
        "row_processors", "simple", "texts", "writer",
    )  # fmt: skip

    def __init__(self, writer: Writer, bound: Sequence[Field]) -> None:
        self.writer = writer
        self.bound = tuple(bound)
        self.long_values: bool | None = None  # found out when a page is cut
        self.lean: tuple[type, str, StatementPlan] | None = None  # request, technique, plan of one usual row
        self.names = tuple(field.name for field in bound)
        self.binds = [field.bind for field in bound]
        processors = tuple(bind.processor for bind in self.binds)
        self.processors = processors if any(processors) else None
        self.returned: tuple[Field, ...] = ()
        self.lapsed: tuple[str, ...] = ()
        self.row_processors: tuple[Any, ...] | None = None
        self.simple = all(bind.simple for bind in self.binds)
        self.texts = Texts()

    def returns(self, fields: Sequence[Field], dialect: Any) -> None:
        """Note which columns come back."""
        self.returned = tuple(fields)
        processors = tuple(result_processor(field.column.type, dialect) for field in fields)
        self.row_processors = processors if any(processors) else None


def result_processor(type_: Any, dialect: Any) -> Any:
    """Return the function that makes Python values of what the driver returns, or None."""
    try:
        return type_.dialect_impl(dialect).result_processor(dialect, None)
    except Exception:  # noqa: BLE001 - PostgreSQL's numerics ask for the wire type; their drivers convert
        return None


class InsertShape(Shape):
    """The INSERT of one set of columns."""

    __slots__ = (
        "arrays", "columns", "fields", "inline", "inline_fields", "lapsed_unreturned", "made_counter",
        "made_key", "python_made", "returned_names", "returning", "returns_key", "version_index",
    )  # fmt: skip

    def __init__(
        self, writer: Writer, present: frozenset[str], dialect: Any, traits: Traits, *, only: bool = False
    ) -> None:
        """Work out the statement; *only* leaves out columns without a default that are not *present*."""
        bound: list[Field] = []
        inline: list[Field] = []
        self.python_made: list[tuple[int, Field]] = []
        self.version_index = -1
        made: list[Field] = []
        for field in writer.fields:
            if field is writer.version and writer.version_generator:
                self.version_index = len(bound)
                bound.append(field)
            elif (field.name in present and field.name) or not (field.optional or only):
                bound.append(field)
            elif field.make in PYTHON_MADE:
                self.python_made.append((len(bound), field))
                bound.append(field)
            elif field.make:
                made.append(field)
                if field.make_value is not None:
                    inline.append(field)
            elif field.key:
                raise FlushKeyMissing(writer.entity, field.name)
        super().__init__(writer, bound)
        self.fields = tuple(bound)
        self.inline_fields = tuple(inline)
        self.inline = tuple(field.make_value for field in inline)
        self.columns = tuple(field.quoted for field in (*bound, *inline))
        keys = [field for field in made if field.key]
        self.made_key = keys[0] if len(keys) == 1 else None
        self.made_counter = self.made_key is not None and self.made_key.make == COUNTER
        self.simple = self.simple and all(isinstance(text, str) for text in self.inline)
        self.arrays = traits.unnest and bool(bound) and all(bind.array for bind in self.binds)
        self.returns_key = bool(keys)
        eager = [f for f in made if not f.key and f.name]
        back: list[Field] = list(keys)
        if traits.returning and (writer.eager or (writer.version in eager)):
            chosen = [f for f in eager if (writer.eager or f is writer.version) and f.returnable]
            if chosen and not keys:
                back = [*writer.keys, *chosen]  # own keys come along, to find the entity by
            else:
                back += chosen
        self.returns(back, dialect)
        self.returning = (
            f" RETURNING {', '.join(f.quoted for f in back)}" if back and traits.returning else ""
        )
        self.lapsed = tuple(f.name for f in eager if f not in back)
        self.lapsed_unreturned = tuple(f.name for f in eager)
        self.returned_names = tuple(f.name for f in back)


class UpdateShape(Shape):
    """The UPDATE of one set of columns; its rows are (new values..., key values..., version)."""

    __slots__ = (
        "arrays", "fields", "inline", "key_fields", "moves_keys", "python_made", "returning", "sets",
        "version_index",
    )  # fmt: skip

    def __init__(self, writer: Writer, changed: frozenset[str], dialect: Any, traits: Traits) -> None:
        fields: list[Field] = []
        self.python_made: list[tuple[int, Field]] = []
        inline: list[str] = []
        lapsed: list[Field] = []
        self.version_index = -1
        simple = True
        for field in writer.fields:
            if field is writer.version and (writer.version_generator or field.name not in changed):
                if writer.version_generator:
                    self.version_index = len(fields)
                    fields.append(field)
                else:
                    lapsed.append(field)
            elif field.name in changed and field.name:
                fields.append(field)
            elif field.change in PYTHON_MADE:
                self.python_made.append((len(fields), field))
                fields.append(field)
            elif field.change == SQL:
                simple = simple and isinstance(field.change_value, str)
                inline.append(f"{field.quoted} = {field.change_value}")
                lapsed.append(field)
            elif field.change == SERVER:
                lapsed.append(field)
        self.key_fields = (*writer.keys, *([writer.version] if writer.version is not None else ()))
        super().__init__(writer, [*fields, *self.key_fields])
        self.fields = tuple(fields)
        self.sets = tuple(field.quoted for field in fields)
        self.moves_keys = any(field.key for field in fields)  # the entity moves in the identity map
        self.inline = ", ".join(inline)
        self.simple = self.simple and simple
        self.arrays = traits.unnest and all(bind.array for bind in self.binds)
        version_made = writer.version is not None and writer.version in lapsed
        wanted = [
            f for f in lapsed if f.name and f.returnable and (writer.eager is True or f is writer.version)
        ]
        if wanted and traits.update_returning and (writer.eager_always or version_made):
            self.returns(wanted, dialect)
            self.returning = f" RETURNING {', '.join(f.quoted for f in wanted)}"
        else:
            self.returning = ""
        self.lapsed = tuple(f.name for f in lapsed if f.name and f not in self.returned)


class DeleteShape(Shape):
    """The DELETE of one mapper; its rows are (key values..., version)."""

    __slots__ = ("arrays", "key_fields")

    def __init__(self, writer: Writer, traits: Traits) -> None:
        self.key_fields = (*writer.keys, *([writer.version] if writer.version is not None else ()))
        super().__init__(writer, self.key_fields)
        self.arrays = traits.unnest and all(bind.array for bind in self.binds)


class Writer:
    """How the rows of one mapper are written on one engine."""

    __slots__ = (
        "by_name", "columns", "compare", "delete", "dialect", "eager", "eager_always",
        "entity", "fields", "inserts", "key_names", "keys", "layout", "mapper", "optional",
        "optional_none", "quoted", "row_by_row",
        "scalar_key", "table", "traits", "updates", "version", "version_generator",
    )  # fmt: skip

    def __init__(
        self, mapper: Mapper[Any], traits: Traits, dialect: Any, schemas: Mapping[Any, Any] | None = None
    ) -> None:
        """Work out how rows are written; *schemas* is the engine's schema_translate_map."""
        table = cast("Any", mapper.local_table)
        self.columns = mapper.columns  # another tuple once the class got a column more
        self.mapper = mapper
        self.layout = mapper.layout
        self.entity = mapper.class_.__name__
        self.table = table
        self.traits = traits
        self.dialect = dialect
        self.quoted = _qualified(table, dialect.identifier_preparer, schemas or {})
        names: dict[Any, str] = {}
        for prop in mapper.columns:
            if isinstance(prop.column, Column) and prop.column.table is table:
                names.setdefault(prop.column, prop.key)
        self.fields = [
            Field(names.get(column, ""), column, dialect, traits)
            for column in table.columns
            if column in names or column.default is not None or column.onupdate is not None
        ]
        self.by_name = {field.name: field for field in self.fields if field.name}
        by_column: dict[Any, Field] = {field.column: field for field in self.fields}
        self.keys = tuple(by_column[column] for column in mapper.primary_key)
        self.key_names = tuple(field.name for field in self.keys)
        self.scalar_key = len(self.keys) == 1
        version = getattr(mapper, "version_column", None)
        self.version = by_column.get(version) if version is not None else None
        generator = getattr(mapper, "version_generator", None)
        self.version_generator: Callable[[Any], Any] | None = generator if callable(generator) else None
        if self.version is not None and generator is None:
            self.version_generator = _count_up
        eager = getattr(mapper, "eager_defaults", "auto")
        self.eager_always = eager is True
        self.eager = bool(eager)
        self.optional = tuple(f.name for f in self.fields if f.optional and f.name and f is not self.version)
        self.optional_none = tuple(self.by_name[name].none_counts for name in self.optional)
        self.compare = {
            name: field.column.type.compare_values
            for name, field in self.by_name.items()
            if type(field.column.type).compare_values is not TypeEngine.compare_values
        } or None
        self.delete = DeleteShape(self, traits)
        self.row_by_row = False  # set once key order proved meaningless (triggers that choose keys)
        self.inserts: dict[int | frozenset[str], InsertShape] = {}
        self.updates: dict[tuple[str, ...], UpdateShape] = {}

    def insert(self, present: int) -> InsertShape:
        """Return the shape of an INSERT; bit n of *present* says that `optional[n]` has a value."""
        shape = self.inserts.get(present)
        if shape is None:
            names = frozenset(name for n, name in enumerate(self.optional) if present >> n & 1)
            if len(self.inserts) >= SHAPES_KEPT:
                self.inserts.clear()
            shape = self.inserts[present] = InsertShape(self, names, self.dialect, self.traits)
        return shape

    def insert_only(self, names: frozenset[str]) -> InsertShape:
        """Return the shape of an INSERT of just the columns *names* and those with a default."""
        shape = self.inserts.get(names)
        if shape is None:
            if len(self.inserts) >= SHAPES_KEPT:
                self.inserts.clear()
            shape = self.inserts[names] = InsertShape(self, names, self.dialect, self.traits, only=True)
        return shape

    def update(self, changed: tuple[str, ...]) -> UpdateShape:
        """Return the shape of an UPDATE of the attributes *changed*."""
        shape = self.updates.get(changed)
        if shape is None:
            if len(self.updates) >= SHAPES_KEPT:
                self.updates.clear()
            shape = self.updates[changed] = UpdateShape(self, frozenset(changed), self.dialect, self.traits)
        return shape

    def presence(self, values: Any) -> int:
        """Return which optional columns have a value in the dict *values*, as bits."""
        bits = 0
        for n, name in enumerate(self.optional):
            if values.get(name) is not None or (self.optional_none[n] and name in values):
                bits |= 1 << n
        return bits

    def key_values(self, key: Any) -> tuple[Any, ...]:
        """Return the parts of an identity key."""
        return (key,) if self.scalar_key else tuple(key)


def _qualified(table: Any, preparer: Any, schemas: Mapping[Any, Any]) -> str:
    """Return the name of *table* in SQL, its schema translated."""
    schema = schemas.get(table.schema, table.schema)
    name: str = preparer.format_table(table, use_schema=False)
    return name if schema is None else f"{preparer.quote_schema(schema)}.{name}"


def _count_up(version: Any) -> Any:
    return 1 if version is None else version + 1


def writers_of(engine: Any) -> dict[Any, Writer]:
    """Return the writers of an engine by layout; they live and die with it."""
    try:
        return engine.__dict__["_sojourn_writers"]  # type: ignore[no-any-return]
    except KeyError:
        return engine.__dict__.setdefault("_sojourn_writers", {})  # type: ignore[no-any-return]


def writer_for(mapper: Mapper[Any], engine: Any) -> Writer:
    """Return the writer of *mapper* on *engine*."""
    writers = writers_of(engine)
    writer = writers.get(mapper.layout)
    if writer is None or writer.columns is not mapper.columns:
        options = engine.get_execution_options() if hasattr(engine, "get_execution_options") else {}
        schemas = options.get("schema_translate_map")
        writer = writers[mapper.layout] = Writer(mapper, engine.traits, engine.plan_dialect, schemas)
    return writer


def names_of(fields: Iterable[Field]) -> tuple[str, ...]:
    """Return the attribute names of mapped fields (the column's name for unmapped ones)."""
    return tuple(field.name or field.column.name for field in fields)
