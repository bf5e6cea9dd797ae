"""The golden texts of the errors of mapping: what users read."""
# ruff: noqa: E501  -- texts as they are shown

import pytest

from sojourn import errors

TEXTS = [
    (
        "MappedTwice",
        ("User", "user"),
        "User is already mapped, to user.",
        "Map another class: class UserView: ..., or undo the first mapping: registry.dispose().",
    ),
    (
        "NoPrimaryKey",
        ("User", "user", ["name"], True),
        "User cannot be mapped: user has no primary key, which tells its entities apart.",
        "Mark it: name: Mapped[int] = mapped_column(primary_key=True).",
    ),
    (
        "NoPrimaryKey",
        ("Log", "log", ["line"], False),
        "Log cannot be mapped: log has no primary key, which tells its entities apart.",
        "Name the columns that are unique together: primary_key=[log.c.line].",
    ),
    (
        "NoTable",
        ("User",),
        "User cannot be mapped: it names no table.",
        'Write __tablename__ = "user" or __table__ = Table(...) into User; if it is only a base of others, __abstract__ = True.',
    ),
    (
        "UnknownType",
        ("User", "tags", list[str]),
        "User.tags is Mapped[list[str]], and no column type is known for list[str].",
        "Give it one: tags: Mapped[list[str]] = mapped_column(JSON), or for all: class Base(DeclarativeBase): type_annotation_map = {list[str]: JSON}.",
    ),
    (
        "NotMapped",
        ("User", "name", str),
        "User.name is annotated with str, which does not say whether it is mapped.",
        "A column: name: Mapped[str]; no column: name: ClassVar[str]; leave annotations alone in this class: __allow_unmapped__ = True.",
    ),
    (
        "UnresolvedAnnotation",
        ("User", "boss", "Boss", NameError("name 'Boss' is not defined")),
        "The annotation 'Boss' of User.boss cannot be read: name 'Boss' is not defined.",
        "Import what it names at the head of the module (not under TYPE_CHECKING), or give the type: boss: Mapped[...] = mapped_column(Integer).",
    ),
    (
        "UnknownMapperArgument",
        ("User", "eager_default", ["eager_defaults", "batch"]),
        "User is mapped with the unknown argument 'eager_default'. Did you mean 'eager_defaults'?",
        "Known: batch, eager_defaults.",
    ),
    (
        "ColumnTwice",
        ("User", "name", "name", "title"),
        "User.name and User.title both stand for the column 'name'.",
        'Remove one, or name another column: title = mapped_column("title_2", ...).',
    ),
    (
        "NotAColumn",
        ("User", "name", 5),
        "User.name is mapped to 5, which is no column.",
        'Write name = mapped_column(...); in map_imperatively(): properties={"name": table.c.name}.',
    ),
    (
        "ReservedName",
        ("User", "metadata"),
        "User.metadata cannot be a column attribute: declarative classes keep their metadata there.",
        'Name the attribute otherwise, the column may stay: metadata_ = mapped_column("metadata", ...).',
    ),
    (
        "TrailingComma",
        ("User", "name"),
        "User.name is a tuple holding a column: its line ends with a comma.",
        "Remove the comma: name = mapped_column(...)",
    ),
    (
        "NotYet",
        ("Boss(User)", "mapped hierarchies are", "Share columns through a mixin."),
        "Boss(User): mapped hierarchies are not there yet in this version of sojourn.",
        "Share columns through a mixin.",
    ),
    (
        "TableTaken",
        ("User", "user", "Person"),
        "User declares the table 'user', which Person already declared in the same MetaData.",
        'Name another: __tablename__ = "user_2", or map the existing one: __table__ = Base.metadata.tables["user"].',
    ),
    (
        "UnknownColumn",
        ("User", "version_id_col", "versoin", ["id", "version"]),
        "version_id_col of User names versoin, which is no mapped column of it. Did you mean 'version'?",
        "Its columns are: id, version.",
    ),
    (
        "DataclassArgument",
        ("User", "id", ["init"]),
        "User.id has dataclass argument(s) init, but User is no mapped dataclass.",
        "Remove them; a Python-side default of the column is insert_default=... or default=...",
    ),
    (
        "FrozenMapper",
        ("User", "columns"),
        "The mapper of User is finished: its columns cannot be set.",
        "Add a column: User.name = mapped_column(...); say the rest in __mapper_args__.",
    ),
    (
        "NotInspectable",
        (5,),
        "5 is not a mapped class.",
        "Map it first: class User(Base): ..., or registry.map_imperatively(cls, table).",
    ),
]


@pytest.mark.parametrize(("name", "facts", "what", "remedy"), TEXTS)
def test_each_error_says_what_and_what_to_do(name, facts, what, remedy):
    """An error has three lines: what happened, the remedy as code, the number to ask for more."""
    error = getattr(errors, name)(*facts)

    number = error.number
    assert str(error) == f"{what}\n  {remedy}\n  [{number}] sojourn doctor --explain {number}"
