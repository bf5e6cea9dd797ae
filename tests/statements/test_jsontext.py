"""JSON text read as `json.loads` reads it, and only where Core would have done that."""

from __future__ import annotations

import json
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects import mysql, postgresql, sqlite

from sojourn.statements.jsontext import read_json, reads_text

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES, st.sampled_from(["", " ", "\n\t"]), st.booleans())
def test_values_come_back(value: Any, blanks: str, as_bytes: bool) -> None:
    """Whatever was written is read, with blanks around it and as bytes too."""
    text = f"{blanks}{json.dumps(value)}{blanks}"
    assert read_json(text.encode() if as_bytes else text) == value


@pytest.mark.parametrize("text", ["", " ", "x", "[1", "{} {}", "1 2", "\ufeff1", "nul", '"\\x"'])
def test_malformed_text_raises_what_json_raises(text: str) -> None:
    """Errors are those of json.loads, word for word."""
    with pytest.raises(json.JSONDecodeError) as theirs:
        json.loads(text)
    with pytest.raises(json.JSONDecodeError) as ours:
        read_json(text)
    assert str(ours.value) == str(theirs.value)


def test_what_is_no_text_is_a_value() -> None:
    """SQLite hands out bare numbers as numbers; NULL is None."""
    assert read_json(None) is None
    assert read_json(1.5) == 1.5


class OwnJSON(mysql.JSON):
    """Reads in its own way."""

    def result_processor(self, dialect: Any, coltype: Any) -> Any:
        return lambda value: ("own", value)


class Decorated(sa.TypeDecorator[Any]):
    """Stores JSON."""

    impl = sa.JSON
    cache_ok = True


def test_only_core_s_own_reading_is_replaced() -> None:
    """Types that read in their own way, native JSON and an engine's json_deserializer stay as they are."""
    assert reads_text(sa.JSON(), sqlite.dialect())
    assert reads_text(sa.JSON(), mysql.dialect())
    assert not reads_text(sa.JSON(), postgresql.dialect())
    assert not reads_text(OwnJSON(), mysql.dialect())
    assert not reads_text(Decorated(), sqlite.dialect())
    assert not reads_text(sa.String(), sqlite.dialect())
    assert not reads_text(sa.JSON(), sqlite.dialect(json_deserializer=json.loads))
