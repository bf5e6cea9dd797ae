"""Contracts of SQLAlchemy Core's private names: each alias of corelink/ exists and does what we need of it.

A name added to corelink/ brings its test here, or to test_corelink_engine.py: a test insists.
"""

from __future__ import annotations

import pytest
import sqlalchemy
from sqlalchemy import (
    Boolean,
    Column,
    DateTime,
    Enum,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    bindparam,
    func,
    insert,
    literal_column,
    select,
    text,
    tuple_,
)
from sqlalchemy.dialects import sqlite

from sojourn import corelink

customer = Table("customer", MetaData(), Column("id", Integer, primary_key=True), Column("name", String))


# -- one contract test per name ---------------------------------------------------------------


def test_annotate_keeps_values_through_statement_building():
    """An annotated table still carries its values inside a statement; the original is untouched."""
    annotated = corelink.annotate(customer, {corelink.ENTITY: "mark"})
    statement = select(annotated.c.id)

    assert corelink.notes_on(annotated)[corelink.ENTITY] == "mark"
    assert corelink.ENTITY not in corelink.notes_on(customer)
    assert corelink.notes_on(object()) == {}
    assert "customer" in str(statement)


def test_cache_key_is_equal_for_equal_shapes_and_lists_the_binds():
    """Two statements that differ in literals only share a key; the key's binds carry the literals."""
    one = corelink.cache_key(select(customer).where(customer.c.id == 1))
    two = corelink.cache_key(select(customer).where(customer.c.id == 2))
    other = corelink.cache_key(select(customer).where(customer.c.id > 1))

    assert one.key == two.key
    assert one.key != other.key
    assert [bind.value for bind in two.bindparams] == [2]


def test_new_row_is_a_core_row():
    """A row made from metadata and a tuple has Core's names, order and mapping."""
    row = corelink.new_row(corelink.row_metadata(("id", "name")), (1, "Ann"))

    assert tuple(row) == (1, "Ann")
    assert row.name == "Ann"
    assert row._mapping["id"] == 1
    assert isinstance(row, sqlalchemy.Row)


def test_core_result_is_a_buffered_core_result():
    """A result made from rows answers as one that came from a cursor."""
    result = corelink.core_result(("id",), [(1,), (2,)])

    assert result.scalars().all() == [1, 2]


# -- mapping ----------------------------------------------------------------------------------


def test_annotate_attribute_names_the_result_column():
    """A column annotated as an attribute is called after the attribute in a result."""
    mapper = object()
    annotated = corelink.annotate_attribute(customer.c.name, mapper, "title")

    assert corelink.notes_on(annotated)[corelink.ATTRIBUTE] is mapper
    assert corelink.column_name(annotated) == "title"
    assert select(annotated).selected_columns.keys() == ["title"]


def test_column_name_is_none_for_what_has_no_name():
    """A plain column has its key, a label its label, an operation no name."""
    assert corelink.column_name(customer.c.id) == "id"
    assert corelink.column_name(customer.c.id.label("n")) == "n"
    assert corelink.column_name(customer.c.id + 1) is None


def test_copy_column_is_free_to_join_another_table():
    """A copied column has its own foreign key and belongs to no table."""
    original = Column("owner", ForeignKey("customer.id"), nullable=False)
    copied = corelink.copy_column(original)

    assert copied.table is None
    assert [key.target_fullname for key in copied.foreign_keys] == ["customer.id"]
    assert copied.foreign_keys.isdisjoint(original.foreign_keys)
    assert copied.nullable is False


def test_merge_column_fills_what_the_target_does_not_say():
    """The target keeps its own words and takes the rest."""
    target = Column("id", index=True)
    corelink.merge_column(Column(String(10), default="x", index=False), target)

    assert isinstance(target.type, String)
    assert target.default.arg == "x"
    assert target.index is True


def test_set_column_type_brings_the_types_constraints():
    """A type set later behaves as one given at once: its table events still come."""
    column = Column("flag", nullable=False)

    assert not corelink.has_type(column)

    corelink.set_column_type(column, Boolean(create_constraint=True))
    table = Table("t", MetaData(), column)

    assert corelink.has_type(column)
    assert [
        type(c).__name__ for c in table.constraints if c.name is None and not hasattr(c, "columns_autoinc")
    ]
    assert any(isinstance(c, sqlalchemy.CheckConstraint) for c in table.constraints)


def test_has_nullable_tells_said_from_derived():
    """Only a column that was told about NULL has it said."""
    assert corelink.has_nullable(Column("a", Integer, nullable=True))
    assert not corelink.has_nullable(Column("a", Integer))
    assert not corelink.has_nullable(Column("a", Integer, primary_key=True))


def test_named_columns_is_a_column_collection():
    """Columns are found by the name of the pair, and cannot be changed."""
    found = corelink.named_columns([("key", customer.c.id)])

    assert found["key"] is customer.c.id
    assert found.keys() == ["key"]


def test_type_for_fits_a_type_to_a_python_type():
    """An Enum without values takes those of the Python enum."""
    import enum

    class Color(enum.Enum):
        RED = 1

    fitted = corelink.type_for(Enum(enum.Enum), Color, enum.Enum)

    assert fitted.enum_class is Color


# -- statements and plans ---------------------------------------------------------------------


def test_resolve_type_knows_the_type_of_a_literal():
    """A literal's type follows from its value alone."""
    assert isinstance(corelink.resolve_type(1), Integer)
    assert isinstance(corelink.resolve_type("x"), String)


def test_type_key_is_equal_for_equal_types():
    """Two types that compile alike have one key."""
    assert corelink.type_key(String(10)) == corelink.type_key(String(10))
    assert corelink.type_key(String(10)) != corelink.type_key(String(11))


def test_raw_columns_keeps_entities_whole():
    """What was asked for is not spread into columns; other statements ask for nothing."""
    asked = corelink.raw_columns(select(customer, customer.c.id))

    assert asked[0] is customer
    assert asked[1] is customer.c.id
    assert corelink.raw_columns(text("SELECT 1")) == []


def test_returning_can_be_read_and_replaced():
    """A copy returns other columns; the original still returns its own."""
    original = insert(customer).returning(customer)
    changed = corelink.with_returning(original, [customer.c.id])

    assert corelink.returning(original) == [customer]
    assert corelink.returning(changed) == [customer.c.id]
    assert str(changed).endswith("RETURNING customer.id")
    assert corelink.returning(insert(customer)) == []


def test_limit_binds_are_the_binds_of_limit_and_offset():
    """The binds carry the numbers; where there is none there is None."""
    limit, offset = corelink.limit_binds(select(customer).limit(5).offset(7))

    assert (limit.value, offset.value) == (5, 7)
    assert corelink.limit_binds(select(customer)) == [None, None]


def test_limit_value_is_a_number_that_was_given():
    """A LIMIT given a number has it; a bind of the user's or an expression has none."""
    plain, own = select(customer).limit(5), select(customer).limit(bindparam("n", 5))

    assert corelink.limit_value(corelink.limit_binds(plain)[0]) == 5
    assert corelink.limit_value(corelink.limit_binds(own)[0]) is None
    assert corelink.limit_value(None) is None


@pytest.mark.parametrize("value", [7, [7, 8]])
def test_a_comparison_is_made_after_a_sample(value):
    """It compiles, is cached and is told apart from its sample as if Core had made it anew."""
    column = customer.c.id
    sample, anew = (
        (column.in_([1]), column.in_(value)) if isinstance(value, list) else (column == 1, column == 7)
    )
    made = corelink.compare_with(sample, value)
    both = select(customer).where(sample, made)

    assert corelink.compares_with(sample, sample.right)
    assert not corelink.compares_with(sample & anew, sample.right)
    assert not corelink.compares_with(column == bindparam("own"), sample.right)
    assert str(made) == str(anew)
    assert corelink.cache_key(made).key == corelink.cache_key(anew).key
    assert [bind.value for bind in corelink.cache_key(made).bindparams] == [value]
    assert len(set(both.compile().params)) == 2


def test_with_value_leaves_the_bind_as_it_was():
    """The copy has the new value and the type."""
    bind = bindparam("x", 1, type_=Integer)
    changed = corelink.with_value(bind, 2)

    assert (bind.value, changed.value) == (1, 2)
    assert isinstance(changed.type, Integer)


def test_bind_processors_are_listed_by_name():
    """A type that converts has a processor under the name of its bind; others have none."""
    statement = select(customer).where(literal_column("t", DateTime) == bindparam("t", type_=DateTime))
    compiled = statement.where(customer.c.id == bindparam("n")).compile(dialect=sqlite.dialect())

    assert set(corelink.bind_processors(compiled)) == {"t"}


def test_expanded_writes_one_mark_per_value():
    """A list of three becomes three marks and three values, in order."""
    compiled = (
        select(customer)
        .where(customer.c.id.in_(bindparam("ids", expanding=True)))
        .compile(dialect=sqlite.dialect())
    )
    state = corelink.expanded(compiled, {"ids": [4, 5, 6]})

    assert "IN (?, ?, ?)" in state.statement
    assert [state.parameters[name] for name in state.positiontup] == [4, 5, 6]


def test_result_columns_are_known_by_position():
    """A SELECT knows name and type of each column by position; a text does not."""
    found = corelink.result_columns(select(customer).compile())

    assert [name for name, _ in found] == ["id", "name"]
    assert isinstance(found[1][1], String)
    assert not corelink.result_columns(text("SELECT 1").compile())


def test_textual_columns_are_known_by_name():
    """A text with typed columns knows their types by name."""
    found = corelink.textual_columns(text("SELECT id FROM customer").columns(id=Integer).compile())

    assert isinstance(found["id"], Integer)
    assert corelink.textual_columns(text("SELECT 1").compile()) == {}


def test_result_processor_converts_or_is_none():
    """A type that converts gives a callable, another None."""
    dialect = sqlite.dialect()
    convert = corelink.result_processor(DateTime(), dialect, None)

    assert convert("2024-01-02 03:04:05.000000").year == 2024
    assert corelink.result_processor(Integer(), dialect, None) is None


def test_is_from_clause_tells_tables_from_columns():
    """A table and a subquery are; a column and a scalar subquery are not."""
    assert corelink.is_from_clause(customer)
    assert corelink.is_from_clause(select(customer).subquery())
    assert not corelink.is_from_clause(customer.c.id)
    assert not corelink.is_from_clause(select(customer.c.id).scalar_subquery())


def test_given_values_can_be_read_and_replaced():
    """What a statement was given is read as one row or as several, and put into a copy."""
    one, several = insert(customer).values(id=1), insert(customer).values([{"id": 1}, {"id": 2}])
    values, rows = corelink.given_values(several)
    changed = corelink.with_given_values(insert(customer), values, rows)

    assert corelink.given_values(insert(customer)) == ({}, [])
    assert [getattr(key, "name", key) for key in corelink.given_values(one)[0]] == ["id"]
    assert len(rows) == 2
    assert str(changed) == str(several)
    assert str(corelink.with_given_values(insert(customer), {"name": "x"}, [])).startswith(
        "INSERT INTO customer (name)"
    )


def test_row_maker_makes_rows_that_answer_to_more_than_names():
    """A row is asked by name, by position, and by what else its column may be called."""
    row = corelink.row_maker(("id",), [(customer.c.id,)])((7,))

    assert row.id == 7
    assert row._mapping[customer.c.id] == 7


def test_is_tuple_type_knows_row_values():
    """The bind of `tuple_(...).in_(...)` is one, that of a column is not."""
    statement = tuple_(customer.c.id, customer.c.name).in_([(1, "x")])

    assert corelink.is_tuple_type(statement.right.type)
    assert not corelink.is_tuple_type(Integer())


def test_all_binds_finds_binds_at_every_depth():
    """Binds inside functions, subqueries and comparisons are found, each once."""
    statement = select(func.lower("A")).where(
        customer.c.id.in_(select(customer.c.id).where(customer.c.id > 3))
    )

    assert sorted(str(bind.value) for bind in corelink.all_binds(statement)) == ["3", "A"]


def test_has_extensions_sees_more_than_values():
    """A plain INSERT has none; ON CONFLICT, a SELECT, a CTE and a prefix are seen."""
    other = select(customer.c.id)

    assert not corelink.has_extensions(insert(customer).values(id=1))
    assert corelink.has_extensions(sqlite.insert(customer).values(id=1).on_conflict_do_nothing())
    assert corelink.has_extensions(insert(customer).from_select(["id"], other))
    assert corelink.has_extensions(insert(customer).add_cte(other.cte()))
    assert corelink.has_extensions(insert(customer).prefix_with("OR IGNORE"))


def test_originals_lead_from_a_copied_bind_to_its_source():
    """The bind of a negated IN is a copy; what it was copied from is found."""
    inside = customer.c.id.in_([1, 2])

    assert inside.right in corelink.originals((~inside).right)


def test_end_result_closes_for_good():
    """Asking an ended result for rows is refused."""
    result = corelink.core_result(("id",), [(1,)])
    corelink.end_result(result)

    with pytest.raises(sqlalchemy.exc.ResourceClosedError):
        result.all()


def test_from_statement_is_a_usable_execution_option():
    """Core accepts and keeps the option by which we say what rows become."""
    statement = text("SELECT 1").execution_options(**{corelink.FROM_STATEMENT: "x"})

    assert statement.get_execution_options()[corelink.FROM_STATEMENT] == "x"


def test_originals_are_known_by_a_negated_list():
    """Negating IN copies the list's bind under another key; the copy knows what it was made of."""
    listed = customer.c.id.in_([1, 2])
    negated = ~listed

    assert negated.right.key != listed.right.key
    assert listed.right.key in [bind.key for bind in corelink.originals(negated.right)]


def test_sources_lists_what_was_asked_for_and_joined():
    """Selected elements, explicit FROMs and join targets are told as they were given."""
    other = Table("other", MetaData(), Column("id", Integer))
    statement = select(customer.c.name).select_from(customer).join(other, other.c.id == customer.c.id)

    assert corelink.sources(statement) == [customer.c.name, customer, other]
