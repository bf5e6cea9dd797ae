"""Mapping: what classes mean. Class bodies and tables become finished mappers; no I/O happens here."""

from sojourn.mapping.annotations import Mapped
from sojourn.mapping.columns import (
    MappedColumn,
    MappedSQLExpression,
    column_property,
    declared_attr,
    deferred,
    mapped_column,
)
from sojourn.mapping.configure import configure_mappers
from sojourn.mapping.declarative import (
    DeclarativeBase,
    DeclarativeBaseNoMeta,
    MappedAsDataclass,
    as_declarative,
    declarative_base,
    declarative_mixin,
    has_inherited_table,
)
from sojourn.mapping.inspection import class_mapper, inspect, object_mapper
from sojourn.mapping.mapper import ColumnProperty, Mapper
from sojourn.mapping.meta import DeclarativeMeta, add_mapped_attribute
from sojourn.mapping.registry import clear_mappers, registry

__all__ = [
    "ColumnProperty",
    "DeclarativeBase",
    "DeclarativeBaseNoMeta",
    "DeclarativeMeta",
    "Mapped",
    "MappedAsDataclass",
    "MappedColumn",
    "MappedSQLExpression",
    "Mapper",
    "add_mapped_attribute",
    "as_declarative",
    "class_mapper",
    "clear_mappers",
    "column_property",
    "configure_mappers",
    "declarative_base",
    "declarative_mixin",
    "declared_attr",
    "deferred",
    "has_inherited_table",
    "inspect",
    "mapped_column",
    "object_mapper",
    "registry",
]
