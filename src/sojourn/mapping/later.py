"""Say of each name of SQLAlchemy's mapping that is not there yet that it is missing, where it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

from sojourn.errors import NotYet
from sojourn.mapping.annotations import Mapped

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_JOIN = (
    "Keep the key column: user_id: Mapped[int] = mapped_column(ForeignKey('user.id')), and join in the query."
)
_MISSING: Final = {
    "backref": ("relationships are", _JOIN),
    "composite": ("composites are", "Map the columns, and make the value in a property."),
    "dynamic_loader": ("relationships are", _JOIN),
    "foreign": ("relationships are", _JOIN),
    "orm_insert_sentinel": ("insert sentinels are", "Leave it out: new keys find their entities without."),
    "polymorphic_union": ("inheritance is", "Select from the tables with union_all()."),
    "query_expression": (
        "query-time expressions are",
        "Select the expression too: select(User, x).",
    ),
    "reconstructor": ("mapper events are", "Compute the value in a property."),
    "relationship": ("relationships are", _JOIN),
    "remote": ("relationships are", _JOIN),
    "synonym": ("synonyms are", "Write a property that reads and sets the attribute."),
    "synonym_for": ("synonyms are", "Write a property that reads and sets the attribute."),
    "validates": ("validators are", "Check the value in a property, or in the class's __init__."),
}


def _refuse(name: str) -> Callable[..., Any]:
    feature, instead = _MISSING[name]

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise NotYet(f"{name}()", feature, instead)

    refuse.__name__ = refuse.__qualname__ = name
    refuse.__doc__ = "Raise NotYet."
    return refuse


backref = _refuse("backref")
composite = _refuse("composite")
dynamic_loader = _refuse("dynamic_loader")
foreign = _refuse("foreign")
orm_insert_sentinel = _refuse("orm_insert_sentinel")
polymorphic_union = _refuse("polymorphic_union")
query_expression = _refuse("query_expression")
reconstructor = _refuse("reconstructor")
relationship = _refuse("relationship")
remote = _refuse("remote")
synonym = _refuse("synonym")
synonym_for = _refuse("synonym_for")
validates = _refuse("validates")


class DynamicMapped(Mapped[T]):
    """Declare a dynamic relationship: not there yet."""

    not_yet = ("relationships are", _JOIN)


class WriteOnlyMapped(Mapped[T]):
    """Declare a write-only relationship: not there yet."""

    not_yet = ("relationships are", _JOIN)
