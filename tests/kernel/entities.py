"""Make entity classes without a mapper, for the kernel's tests."""

from __future__ import annotations

from typing import Any

from sojourn.kernel.attributes import Attribute, construct
from sojourn.kernel.layout import Layout


def instrument(cls: type[Any], names: str, keys: str = "id", root: Layout | None = None) -> Layout:
    """Give a class attributes of these names, as a mapper does."""
    layout = Layout(cls, None, tuple(names.split()), tuple(keys.split()), root)
    for name in layout.names:
        layout.attributes[name] = Attribute(name, layout)
        setattr(cls, name, layout.attributes[name])
    if cls.__init__ is object.__init__:
        cls.__init__ = construct
    layout.install()
    layout.prime()
    return layout


def make_class(names: str = "id name age", keys: str = "id") -> tuple[type[Any], Layout]:
    """Make a plain class `User` with these attributes."""
    cls: type[Any] = type("User", (), {"__module__": __name__})
    return cls, instrument(cls, names, keys)


class Person:
    """An entity class that pickle can find."""


class Point:
    """An entity class with a key of two columns."""


PERSON = instrument(Person, "id name age")
POINT = instrument(Point, "x y label", "x y")
