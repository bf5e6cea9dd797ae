"""`InstrumentedAttribute`: a mapped attribute as seen on the class, typed like `Mapped[T]`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from sojourn import corelink
from sojourn.kernel.attributes import Attribute
from sojourn.statements.shapes import attribute_shape

if TYPE_CHECKING:
    from sqlalchemy.sql.elements import SQLCoreOperations

    from sojourn.kernel.layout import Layout

    T_co = TypeVar("T_co", bound=Any, covariant=True)

    class _Typed(SQLCoreOperations[T_co]):
        """What a type checker sees: `User.name` is an expression of str, `user.name` is a str."""

        @overload
        def __get__(self, instance: None, owner: Any) -> InstrumentedAttribute[T_co]: ...
        @overload
        def __get__(self, instance: object, owner: Any) -> T_co: ...
        def __get__(self, instance: object | None, owner: Any) -> Any: ...
        def __set__(self, instance: object, value: Any) -> None: ...
        def __delete__(self, instance: object) -> None: ...
        def __init__(self, name: str, layout: Layout | None) -> None: ...

        name: str
        layout: Layout
        slow: bool
        active_history: bool
        shape: Any
        params: tuple[Any, ...]
else:
    T_co = TypeVar("T_co", covariant=True)

    class _Typed(Attribute):
        """The kernel's descriptor, subscriptable."""

        def __class_getitem__(cls, item: Any) -> type:
            return cls


class InstrumentedAttribute(_Typed[T_co]):
    """Be one attribute of a mapped class: a descriptor on entities, an expression on the class."""

    is_attribute = True
    is_instance = False
    is_mapper = False
    is_aliased_class = False

    def __init__(self, name: str, layout: Layout | None, prop: Any = None, parent: Any = None) -> None:
        super().__init__(name, layout)
        self.key = name
        self.property = prop
        self.parent = parent
        self.class_: type | None = layout.cls if layout is not None else None
        self.params = ()
        self.shape = attribute_shape(None, self)

    def bind_expression(self, element: Any) -> None:
        """Say which Core expression the attribute stands for; called once, when the class is mapped."""
        self.shape.arg = corelink.annotate_attribute(element, self.parent, self.key)

    @property
    def expression(self) -> Any:
        """The Core expression that the attribute stands for."""
        return self.shape.arg

    @property
    def comparator(self) -> Any:
        """The comparator of the Core expression."""
        return self.shape.arg.comparator

    @property
    def type(self) -> Any:
        """The SQL type."""
        return self.shape.arg.type

    @property
    def prop(self) -> Any:
        """The property of the mapper; another name of `property`."""
        return self.property

    def __str__(self) -> str:
        return f"{self.class_.__name__ if self.class_ is not None else '?'}.{self.key}"

    def __repr__(self) -> str:
        return f"<attribute {self}>"


# The name under which annotations speak of it.
QueryableAttribute = InstrumentedAttribute
__all__ = ["InstrumentedAttribute", "QueryableAttribute"]
