"""Sessions on every database: life, transactions, reading, changing (scenarios B1, G1-G5, I1)."""

from __future__ import annotations

import gc
import weakref

import pytest
import sqlalchemy as sa
from sqlalchemy import exc

from sojourn import delete, errors, func, insert, inspect, select, text, update
from sojourn.orm import Session, scoped_session, sessionmaker
from tests.models import Base, Colour, Customer, Item, Order, Token, Versioned


@pytest.fixture
def engine(db):
    """An engine on an empty shop."""
    engine = db.create_engine()
    Base.metadata.create_all(engine)
    yield engine
    Base.metadata.drop_all(engine)


@pytest.fixture
def session(engine):
    """A session that is closed at the end."""
    with Session(engine) as session:
        yield session


@pytest.fixture
def sent(engine):
    """The statements an engine sends, as a list that grows."""
    statements = []

    def note(connection, cursor, statement, parameters, context, executemany):
        statements.append(statement)

    sa.event.listen(engine, "before_cursor_execute", note)
    yield statements
    sa.event.remove(engine, "before_cursor_execute", note)


def people(session, *names):
    """Store customers of these names and return them."""
    stored = [Customer(name=name, age=index) for index, name in enumerate(names)]
    session.add_all(stored)
    session.commit()
    return stored


def test_b1_no_connection_before_the_first_statement(engine):
    """B1: creating and adding open nothing; the first statement does; commit and close return it."""
    session = Session(engine)
    session.add(Customer(name="ada"))
    assert engine.pool.checkedout() == 0

    session.flush()
    assert engine.pool.checkedout() == 1
    session.commit()
    assert engine.pool.checkedout() == 0

    session.scalars(select(Customer)).all()
    assert engine.pool.checkedout() == 1
    session.rollback()
    assert engine.pool.checkedout() == 0

    session.get(Customer, 1)
    assert engine.pool.checkedout() == 1
    session.close()
    assert engine.pool.checkedout() == 0


def test_a_stored_entity_comes_back_as_it_was(session):
    """What is added and committed is read back with its generated key and defaults."""
    customer = Customer(name="ada", age=36)
    session.add(customer)
    session.commit()
    key = customer.id
    session.expunge_all()

    found = session.get(Customer, key)

    assert found is not customer
    assert (found.name, found.age, found.note) == ("ada", 36, None)
    assert found.created is not None


def test_g1_one_key_one_entity(session, sent):
    """G1: two look-ups of one key give one entity; the second sends nothing while the first is referenced."""
    (ada,) = people(session, "ada")
    key = ada.id
    sent.clear()

    first = session.get(Customer, key)
    count = len(sent)
    second = session.get(Customer, key)
    by_query = session.scalars(select(Customer).where(Customer.id == key)).one()

    assert first is second is by_query is ada
    assert len([each for each in sent[:count] if each.startswith("SELECT")]) <= 1
    assert len([each for each in sent[count:] if each.startswith("SELECT")]) == 1


def test_g2_many_keys_one_statement(session, sent):
    """G2: fetching many keys sends one statement, keeps the order and marks the missing."""
    keys = [each.id for each in people(session, "ada", "bob", "cyd")]
    session.expunge_all()
    sent.clear()

    found = session.get_many(Customer, [keys[2], 999_999, keys[0]])

    assert [each and each.name for each in found] == ["cyd", None, "ada"]
    assert len([each for each in sent if each.startswith("SELECT")]) == 1


def test_g4_clean_entities_leave_memory_changed_ones_stay(session):
    """G4: unreferenced clean entities leave memory; modified ones stay until flushed."""
    people(session, "ada", "bob")
    session.expunge_all()
    ada, bob = session.scalars(select(Customer).order_by(Customer.name)).all()
    ada.note = "changed"
    gone, stays = weakref.ref(bob), weakref.ref(ada)
    key = ada.id
    del ada, bob
    gc.collect()

    assert gone() is None
    assert stays() is not None

    session.commit()
    gc.collect()
    assert stays() is None
    assert session.get(Customer, key).note == "changed"


def test_g5_no_autoflush_sends_no_insert(session, sent):
    """G5: inside the block no INSERT is sent, a query on that table is flagged, the setting returns."""
    with session.no_autoflush:
        session.add(Customer(name="ada"))
        with pytest.warns(errors.UnflushedRows, match="reads customer, but 1 new row"):
            assert session.scalars(select(Customer)).all() == []
        with pytest.warns(errors.UnflushedRows):
            assert session.query(Customer).filter_by(name="ada").first() is None
        assert session.scalars(select(Token)).all() == []
        assert not [each for each in sent if each.startswith("INSERT")]
    with pytest.raises(ZeroDivisionError), session.no_autoflush:
        1 / 0
    assert session.autoflush
    assert len(session.scalars(select(Customer)).all()) == 1


def test_i1_many_objects_few_statements(session, sent, db):
    """I1: thousands of added objects reach the server in far fewer executions than rows; keys are right."""
    added = [Customer(name=f"n{number}", age=number) for number in range(2_000)]
    session.add_all(added)
    session.commit()
    statements = len([each for each in sent if each.startswith("INSERT")])
    if db.dialect != "sqlite":  # which has no round trip: the compiled loop executes row by row in process
        assert statements < 50

    keys = {customer.id: customer.name for customer in added}
    assert len(keys) == 2_000
    stored = dict(session.execute(select(Customer.id, Customer.name)).tuples().all())
    assert stored == keys


def test_rollback_makes_new_entities_transient_and_restores_deleted(session):
    """After a rollback what was inserted is transient, what was deleted persistent, changes are reloaded."""
    ada, bob = people(session, "ada", "bob")
    ada.name = "eve"
    session.delete(bob)
    cyd = Customer(name="cyd")
    session.add(cyd)
    session.flush()
    assert inspect(bob).deleted

    session.rollback()

    assert ada.name == "ada"
    assert bob in session
    assert inspect(bob).persistent
    assert inspect(cyd).transient
    assert cyd.name == "cyd"


def test_savepoint_keeps_the_outer_work(session):
    """A failing savepoint block leaves the outer work intact (C1)."""
    session.add(Token(code="a"))
    with pytest.raises(exc.IntegrityError), session.begin_nested():
        session.add(Token(code="b"))
        session.flush()
        session.execute(insert(Token.__table__).values(code="a", value=1))
    session.add(Token(code="c"))
    session.commit()

    assert session.scalars(select(Token.code).order_by(Token.code)).all() == ["a", "c"]


def test_c7_a_released_savepoint_disappears_with_the_outer_rollback(engine):
    """C7: after a read, write or savepoint, the outer rollback takes a released savepoint along."""
    for first in ("read", "write", "savepoint"):
        with Session(engine) as session:
            if first == "read":
                session.scalars(select(Token)).all()
            elif first == "write":
                session.add(Token(code=f"outer {first}"))
                session.flush()
            with session.begin_nested():
                session.add(Token(code=f"inner {first}"))
            session.rollback()
            assert session.scalars(select(Token)).all() == []


def test_inside_a_savepoint_block_rollback_and_commit_mean_that_savepoint(session):
    """CF-3: session.rollback() inside the block undoes the savepoint only; the outer work is stored."""
    session.add(Token(code="outer"))
    with session.begin_nested():
        session.add(Token(code="inner"))
        session.rollback()
    with session.begin_nested():
        session.add(Token(code="kept"))
        session.commit()
    session.commit()

    assert session.scalars(select(Token.code).order_by(Token.code)).all() == ["kept", "outer"]


def test_a_failed_flush_asks_for_rollback_and_names_the_first_cause(session):
    """After a failed flush the session refuses work with the first cause until rollback()."""
    session.add(Token(code="a"))
    session.commit()
    session.add(Token(code="a"))
    session.expunge_all()
    session.add(Token(code="a"))
    with pytest.raises(exc.IntegrityError):
        session.flush()

    assert not session.is_active
    with pytest.raises(exc.PendingRollbackError, match="IntegrityError"):
        session.scalars(select(Token)).all()

    session.rollback()
    assert session.is_active
    assert len(session.scalars(select(Token)).all()) == 1


def test_begin_block_commits_and_rolls_back(engine):
    """`with session.begin()` commits at the end and rolls back on errors."""
    maker = sessionmaker(engine)
    with maker.begin() as session:
        session.add(Token(code="kept"))
    with pytest.raises(ValueError, match="stop"), maker.begin() as session:
        session.add(Token(code="lost"))
        session.flush()
        raise ValueError("stop")
    with maker() as session:
        assert session.scalars(select(Token.code)).all() == ["kept"]
        session.rollback()
        with session.begin(), pytest.raises(exc.InvalidRequestError, match="already begun"):
            session.begin()


def test_expire_on_commit_reads_anew(engine, session):
    """After commit values are read again; with expire_on_commit=False they stay."""
    (ada,) = people(session, "ada")
    key = ada.id
    session.commit()
    with Session(engine) as other:
        other.get(Customer, key).name = "eve"
        other.commit()
    assert ada.name == "eve"
    session.commit()

    with Session(engine, expire_on_commit=False) as keeping:
        kept = keeping.get(Customer, ada.id)
        keeping.commit()
        assert "name" in vars(kept)


def test_refresh_expire_and_expunge(engine, session):
    """refresh() reads now, expire() at the next access, expunge() lets go."""
    (ada,) = people(session, "ada")
    assert ada.name == "ada"
    session.commit()
    with Session(engine) as other:
        other.execute(update(Customer).values(name="eve"))
        other.commit()
    session.rollback()
    session.refresh(ada)
    assert ada.name == "eve"
    ada.note = "dropped"
    session.expire(ada, ["note"])
    assert ada.note is None
    session.expunge(ada)
    assert ada not in session
    assert inspect(ada).detached


def test_delete_removes_the_row(session):
    """delete() removes the row at the flush and the entity is detached after commit."""
    ada, bob = people(session, "ada", "bob")
    session.delete(ada)
    assert ada in session.deleted
    session.commit()

    assert inspect(ada).detached
    assert session.scalars(select(Customer)).all() == [bob]


def test_changed_row_gone_is_stale(engine, session):
    """Changing a row that somebody deleted raises StaleDataError naming it."""
    (ada,) = people(session, "ada")
    session.expire_on_commit = False
    session.refresh(ada)
    session.commit()
    with Session(engine) as other:
        other.execute(delete(Customer))
        other.commit()
    ada.name = "changed"
    with pytest.raises(errors.StaleData, match="Customer"):
        session.commit()


def test_version_counter_refuses_the_second_writer(engine):
    """G8: with a version column the second of two writers gets StaleDataError, and nothing is lost."""
    with Session(engine) as session:
        session.add(Versioned(name="a"))
        session.commit()
    with Session(engine) as one:
        mine = one.scalars(select(Versioned)).one()
        assert mine.version == 1
        one.expire_on_commit = False
        one.commit()
        with Session(engine) as two:
            two.scalars(select(Versioned)).one().name = "theirs"
            two.commit()
        mine.name = "mine"
        with pytest.raises(errors.StaleData):
            one.commit()
        one.rollback()
        assert one.scalars(select(Versioned)).one().name == "theirs"


def test_query_interface(session):
    """The 1.x interface reads, counts, pages and changes."""
    people(session, "ada", "bob", "cyd", "dan")
    query = session.query(Customer)

    assert query.count() == 4
    assert query.filter_by(name="bob").one().age == 1
    assert query.filter(Customer.age > 1).order_by(Customer.age.desc()).first().name == "dan"
    assert [each.name for each in query.order_by(Customer.name).limit(2).offset(1)] == ["bob", "cyd"]
    assert [each.name for each in query.order_by(Customer.name)[1:3]] == ["bob", "cyd"]
    assert query.filter_by(name="nobody").one_or_none() is None
    assert query.filter_by(name="nobody").first() is None
    with pytest.raises(exc.NoResultFound):
        query.filter_by(name="nobody").one()
    with pytest.raises(exc.MultipleResultsFound):
        query.one()
    assert session.query(Customer.name, Customer.age).order_by(Customer.id).first() == ("ada", 0)
    assert session.query(func.max(Customer.age)).scalar() == 3
    assert query.filter(Customer.age < 2).update({"note": "young"}) == 2
    assert query.filter(Customer.note == "young").count() == 2
    assert query.filter(Customer.age >= 2).delete() == 2
    assert query.count() == 2
    session.commit()


def test_rows_are_rows(session):
    """Rows have SQLAlchemy's interface: names, positions, mappings, scalars, unique."""
    people(session, "ada", "bob")
    result = session.execute(select(Customer.name, Customer.age.label("years")).order_by(Customer.id))
    row = result.first()
    assert isinstance(row, sa.Row)
    assert (row.name, row.years, row[0], row._mapping["years"]) == ("ada", 0, "ada", 0)
    mapped = session.execute(select(Customer.name).order_by(Customer.id)).mappings().all()
    assert [dict(each) for each in mapped] == [{"name": "ada"}, {"name": "bob"}]
    mixed = session.execute(select(Customer, Customer.name).order_by(Customer.id)).all()
    assert [(row.Customer.name, row.name) for row in mixed] == [("ada", "ada"), ("bob", "bob")]
    assert (
        session.execute(select(Customer)).scalars().unique().all() == session.scalars(select(Customer)).all()
    )
    assert session.scalar(select(func.count()).select_from(Customer)) == 2
    assert session.execute(text("select name from customer order by id")).scalars().all() == ["ada", "bob"]


def test_streams_hand_over_in_parts(session):
    """yield_per streams; partitions come in the asked size; the stream may be left early."""
    session.add_all([Customer(name=f"n{number:03}") for number in range(25)])
    session.commit()
    statement = select(Customer).order_by(Customer.name).execution_options(yield_per=10)
    sizes = [len(part) for part in session.scalars(statement).partitions()]
    assert sizes == [10, 10, 5]
    assert [each.name for each in session.scalars(statement)][-1] == "n024"
    stream = session.scalars(statement)
    assert stream.fetchmany(3)[2].name == "n002"
    stream.close()
    assert session.scalar(select(func.count()).select_from(Customer)) == 25


def test_entity_changes_by_statement(session):
    """insert/update/delete of a class keep loaded entities true, with RETURNING where it exists."""
    ada, bob = people(session, "ada", "bob")
    session.execute(insert(Customer), [{"name": "cyd", "age": 7}, {"name": "dan", "age": 8}])
    assert session.scalar(select(func.count()).select_from(Customer)) == 4
    assert ada.age == 0
    session.execute(update(Customer).where(Customer.name == "ada").values(age=50))
    assert ada.age == 50
    assert bob.name == "bob"  # loaded, so that the criterion can be told to be met
    session.execute(delete(Customer).where(Customer.name == "bob"))
    assert bob not in session
    session.commit()
    if session.get_bind().traits.returning:
        made = session.scalars(insert(Customer).returning(Customer), [{"name": "eve"}, {"name": "fay"}]).all()
        assert sorted(each.name for each in made) == ["eve", "fay"]
        assert all(each in session for each in made)


def test_merge_copies_onto_the_present_one(engine, session):
    """merge() copies set attributes onto the entity of that key, or makes a new one (H2)."""
    (ada,) = people(session, "ada")
    key = ada.id
    session.close()

    merged = session.merge(Customer(id=key, name="eve"))
    assert merged.name == "eve"
    assert merged.age == 0
    fresh = session.merge(Customer(name="new"))
    assert fresh in session.new
    session.commit()
    assert {each.name for each in session.scalars(select(Customer))} == {"eve", "new"}


def test_composite_keys(session):
    """Composite keys are given as tuple or by name, and refused in any other shape."""
    people(session, "ada")
    order = Order(customer_id=session.scalars(select(Customer.id)).one())
    session.add(order)
    session.flush()
    session.add_all(
        [Item(order_id=order.id, line=number, title=f"t{number}", colour=Colour.RED) for number in (1, 2)]
    )
    session.commit()

    assert session.get(Item, (order.id, 2)).title == "t2"
    assert session.get(Item, {"order_id": order.id, "line": 1}).colour is Colour.RED
    with pytest.raises(errors.KeyArity, match="order_id, line"):
        session.get(Item, 1)
    with pytest.raises(errors.KeyArity):
        session.get(Customer, (1, 2))
    with pytest.raises(errors.KeyIsNone):
        session.get(Customer, None)


def test_bad_input_is_named_and_nothing_is_lost(engine, session):
    """Bad input gets a clear error with a stable code before anything is sent; pending work stays."""
    session.add(Token(code="kept"))
    with pytest.raises(errors.UnknownKeyword, match=r"Did you mean 'name'"):
        Customer(nam="x")
    with pytest.raises(errors.UnmappedInstance, match="SJ102"):
        session.add(object())
    with pytest.raises(errors.UnmappedClass):
        session.get(dict, 1)
    with pytest.raises(errors.WrongStatement, match="text"):
        session.execute("select 1")
    with pytest.raises(errors.SojournError):
        session.scalars(select(Customer).filter_by(nam="x"))
    with Session(engine) as other:
        token = Token(code="other")
        other.add(token)
        with pytest.raises(errors.OtherSession):
            session.add(token)
    assert len(session.new) == 1
    order = Order(customer_id=1, total="not a number")
    if engine.dialect.name == "sqlite":
        session.add(order)
        with pytest.raises(errors.ValueRefused, match=r"Order\.total"):
            session.flush()
        assert len(session.new) == 2
        session.expunge(order)
    session.commit()
    assert session.get(Token, "kept") is not None


def test_a_session_closed_for_good_refuses_work(engine):
    """With close_resets_only=False a closed session refuses work and tells the way out."""
    session = Session(engine, close_resets_only=False)
    session.close()
    with pytest.raises(errors.SessionClosed, match="remove"):
        session.add(Token(code="x"))
    with pytest.raises(errors.SessionClosed):
        session.scalars(select(Token))


def test_scoped_session_is_one_per_thread(engine):
    """A1, A2: one session per thread; after remove() another one, the connection is back."""
    import threading

    registry = scoped_session(sessionmaker(engine))
    assert registry() is registry()
    registry.add(Token(code="x"))
    registry.commit()
    seen = []
    thread = threading.Thread(target=lambda: (seen.append(registry()), registry.remove()))
    thread.start()
    thread.join()
    first = registry()
    assert seen[0] is not first
    registry.scalars(select(Token)).all()
    registry.remove()
    registry.remove()
    assert engine.pool.checkedout() == 0
    assert registry() is not first
    registry.remove()


def test_a_dropped_session_gives_its_connection_back(engine):
    """B6: a session dropped without close returns its connection at once."""
    session = Session(engine)
    kept = Token(code="x")
    session.add(kept)
    session.flush()
    assert engine.pool.checkedout() == 1
    del session
    assert engine.pool.checkedout() == 0
    with Session(engine) as other:
        assert other.scalars(select(Token)).all() == []


def test_is_modified_knows_net_changes(session):
    """Setting the same value is no change; setting back is none either."""
    (ada,) = people(session, "ada")
    ada.name
    ada.name = "ada"
    assert ada in session.dirty
    assert not session.is_modified(ada)
    ada.name = "eve"
    assert session.is_modified(ada)
    ada.name = "ada"
    assert not session.is_modified(ada)
    history = inspect(ada).attrs.name.history
    assert not history.has_changes()


def test_core_connection_shares_the_transaction(session):
    """connection() gives Core's Connection on the same transaction."""
    session.add(Token(code="flushed"))
    session.flush()
    connection = session.connection()
    assert connection.execute(sa.select(Token.__table__.c.code)).scalars().all() == ["flushed"]
    connection.execute(Token.__table__.insert().values(code="raw", value=3))
    assert session.get(Token, "raw").value == 3
    session.rollback()
    assert session.scalars(select(Token)).all() == []


def test_the_plan_says_what_a_flush_would_do(session):
    """session.plan() prints the batches and sends nothing."""
    session.add_all([Token(code="a"), Token(code="b"), Customer(name="ada")])
    text_ = str(session.plan())
    assert "INSERT token" in text_
    assert "2 rows" in text_
    assert not session.in_transaction() or session.get_bind().pool.checkedout() == 0


def test_engines_by_class_or_table(db, engine):
    """With several engines each class, its table and statements about them use theirs; others are refused."""
    other = db.create_engine()
    with Session(binds={Customer: engine, Token.__table__: other}) as session:
        session.add(Customer(name="ada"))
        session.commit()
        session.add(Token(code="a"))  # apart, because both engines write to one SQLite file here
        session.commit()
        assert session.get_bind(Customer) is engine
        assert session.get_bind(Token) is other
        assert session.query(Customer).count() == 1
        assert session.scalar(select(func.count()).select_from(Token.__table__)) == 1
        assert session.scalars(select(Token)).one().code == "a"
        with pytest.raises(errors.NoBind, match="Order"):
            session.get(Order, 1)
        assert session.get(Order, 1, bind_arguments={"bind": engine}) is None


def test_a_session_wants_an_engine_of_its_kind(db, engine):
    """What is no engine of sojourn is refused by name, before anything is sent."""
    with (
        Session(sa.create_engine("sqlite://")) as session,
        pytest.raises(errors.NoBind, match="create_engine"),
    ):
        session.scalars(select(Token))
