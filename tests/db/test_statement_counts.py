"""How many statements each operation sends, on every database: a number that may not grow unseen."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from sojourn import select
from sojourn.orm import Session
from tests.models import Base, Customer, Token


@pytest.fixture
def engine(db):
    """An engine on an empty shop."""
    engine = db.create_engine()
    Base.metadata.create_all(engine)
    yield engine
    Base.metadata.drop_all(engine)


class Counter:
    """Counts statements and executions for the length of a block."""

    def __init__(self, engine):
        self.engine = engine
        self.statements = []

    def __enter__(self):
        sa.event.listen(self.engine, "before_cursor_execute", self.note)
        return self.statements

    def __exit__(self, *exc):
        sa.event.remove(self.engine, "before_cursor_execute", self.note)

    def note(self, connection, cursor, statement, parameters, context, executemany):
        self.statements.append(statement.split(None, 1)[0].upper())


#: entities -> the most INSERT statements; SQLite executes row by row in process, where nothing travels
INSERTS = {1: 1, 10: 2, 100: 2, 1_000: 5}


@pytest.mark.parametrize("count", INSERTS)
def test_a_flush_of_many_entities_sends_few_statements(engine, db, count):
    """I1: N new entities take a number of INSERTs that does not grow with N, except in process on SQLite."""
    with Session(engine) as session, Counter(engine) as sent:
        session.add_all([Token(code=f"t{number}") for number in range(count)])
        session.flush()
    assert sent.count("INSERT") <= INSERTS[count]


@pytest.mark.parametrize("count", [1, 100])
def test_updates_and_deletes_travel_together(engine, db, count):
    """N changed or deleted entities take few statements."""
    with Session(engine) as session:
        session.add_all([Customer(name=f"n{number}", age=number) for number in range(count)])
        session.commit()
        customers = session.scalars(select(Customer)).all()
        for customer in customers:
            customer.age += 1
        with Counter(engine) as sent:
            session.flush()
        many = sent.count("UPDATE") + sent.count("WITH")
        assert many <= (3 if db.dialect != "mysql" or count == 1 else count)
        for customer in customers:
            session.delete(customer)
        with Counter(engine) as sent:
            session.flush()
        assert sent.count("DELETE") <= 3


def test_reads_send_one_statement_and_hits_none(engine):
    """get() sends one SELECT, a hit none; a commit without changes sends nothing that is not the commit."""
    with Session(engine) as session:
        session.add(Token(code="a"))
        session.commit()
        with Counter(engine) as sent:
            token = session.get(Token, "a")
            assert session.get(Token, "a") is token
            assert session.scalars(select(Token).where(Token.code == "a")).one() is token
        assert sent.count("SELECT") == 2
        token.value = token.value
        with Counter(engine) as sent:
            session.commit()
        assert [each for each in sent if each != "COMMIT"] == []


def test_an_expired_entity_is_read_once(engine):
    """After commit the first attribute read loads all of them, in one SELECT."""
    with Session(engine) as session:
        customer = Customer(name="ada", age=3)
        session.add(customer)
        session.commit()
        with Counter(engine) as sent:
            assert (customer.name, customer.age, customer.note) == ("ada", 3, None)
        assert sent.count("SELECT") == 1
