"""The table of lifecycle moves, walked against what a session really does (no server)."""

from __future__ import annotations

import pytest

import sojourn
from sojourn import errors, inspect
from sojourn.orm import Session, make_transient, make_transient_to_detached, object_session, was_deleted
from sojourn.session.lifecycle import MOVES, WORDS
from tests.models import Base, Token


@pytest.fixture
def session():
    """A session on an empty in-memory shop."""
    engine = sojourn.create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        yield session
    engine.dispose()


def in_state(session, word):
    """Return an entity of the session in the state *word*."""
    token = Token(code=f"a {word} token")
    if word == "transient":
        return token
    session.add(token)
    if word == "pending":
        return token
    session.flush()
    if word == "deleted":
        session.delete(token)
        session.flush()
    if word == "detached":
        session.commit()
        session.expunge(token)
    return token


def add(session, token):
    session.add(token)


def delete(session, token):
    session.delete(token)


def flush(session, token):
    session.flush()


def flush_delete(session, token):
    session.delete(token)
    session.flush()


def expunge(session, token):
    session.expunge(token)


def rollback(session, token):
    session.rollback()


def commit(session, token):
    session.commit()


def close(session, token):
    session.close()


OPERATIONS = {
    "add": add,
    "delete": delete,
    "flush": flush,
    "flush delete": flush_delete,
    "expunge": expunge,
    "rollback": rollback,
    "commit": commit,
    "close": close,
}

#: A rollback takes the insert itself back in these; the table tells of an entity stored before.
STORED_BEFORE = {("persistent", "rollback"), ("deleted", "rollback")}


@pytest.mark.parametrize(("before", "operation"), [(WORDS[life], name) for life, name in MOVES])
def test_each_move_of_the_table_happens(session, before, operation):
    """Each line of the table is what the session does."""
    token = in_state(session, before)
    if (before, operation) in STORED_BEFORE:
        if before == "deleted":
            session.rollback()
            session.add(token := Token(code="stored"))
            session.commit()
            session.delete(token)
            session.flush()
        else:
            session.commit()
    life = next(life for life, word in WORDS.items() if word == before)

    OPERATIONS[operation](session, token)

    assert WORDS[inspect(token).life] == WORDS[MOVES[life, operation]]


@pytest.mark.parametrize(
    ("before", "operation"),
    [(word, name) for life, word in WORDS.items() for name in ("add", "delete") if (life, name) not in MOVES],
)
def test_what_is_not_in_the_table_is_refused(session, before, operation):
    """A move that the table does not have raises, or is no move at all for a deleted entity."""
    token = in_state(session, before)
    if (before, operation) == ("deleted", "delete"):
        session.delete(token)
        assert inspect(token).deleted
        return
    with pytest.raises(errors.NotPersistent, match=before):
        OPERATIONS[operation](session, token)


def test_an_entity_can_forget_its_row_or_stand_for_one(session):
    """make_transient and make_transient_to_detached change what an entity stands for, asking nobody."""
    token = in_state(session, "persistent")
    session.commit()
    assert token.value == 0
    make_transient(token)
    assert inspect(token).transient
    assert object_session(token) is None

    stand_in = Token(code="a persistent token")
    make_transient_to_detached(stand_in)
    session.add(stand_in)
    assert stand_in.value == 0
    assert not was_deleted(stand_in)
    with pytest.raises(errors.KeyIsNone):
        make_transient_to_detached(Token())


def test_what_counts_as_modified_is_what_a_flush_would_write(session):
    """is_modified asks as the flush does: net changes, a deleted value, and for new entities any value."""
    token = in_state(session, "persistent")
    session.commit()
    token.value = token.value
    assert not session.is_modified(token)
    token.value = 5
    assert session.is_modified(token)
    token.value = 0
    assert not session.is_modified(token)
    del token.value
    assert session.is_modified(token)
    assert session.is_modified(Token(code="new"))
    assert not session.is_modified(Token())
