"""The flush flow against scripted replies: what it sends, what it settles, and what a failure leaves."""

from __future__ import annotations

import pytest

from sojourn.errors import KeysUnmatched, StaleData
from sojourn.flow import drive
from sojourn.kernel.state import PENDING, PERSISTENT, state_of
from sojourn.unitofwork.flush import FlushRecord, flush_flow, plan_flush
from sojourn.unitofwork.mappings import bulk_insert_flow
from tests.unitofwork.scripted import TRAITS, Failed, Lane, engine_like, map_of
from tests.unitofwork.shop import Keyed, Plain, Thing


def flush(identity, lane, record=None):
    """Plan and drive a flush of *identity* through *lane*."""
    plan = plan_flush(identity, lane.engine)
    drive(flush_flow(lane, identity, plan, record), lane.perform)


def work():
    """Return an identity map with inserts, updates and deletions waiting, and its entities."""
    changed = [Thing(id=100 + n, name="old") for n in range(3)]
    gone = [Plain(code=f"gone {n}") for n in range(3)]
    identity = map_of()
    for entity in (*changed, *gone):
        state = state_of(entity)
        state.key = state.layout.key_of(entity.__dict__)
        identity.add(state, entity)
    new = [Thing(name=f"n{n}") for n in range(60)] + [Plain(code=f"c{n}") for n in range(3)]
    for entity in new:
        identity.add(state_of(entity), entity)
    for entity in changed:
        entity.name = "new"
    for entity in gone:
        identity.deleted[state_of(entity)] = entity
    return identity, new, changed, gone


@pytest.mark.parametrize("name", ["sqlite", "psycopg", "psycopg2", "mariadb"])
def test_settled_entities(name):
    """After a flush everything is persistent under its key, clean, or out of the map."""
    identity, new, changed, gone = work()
    record = FlushRecord()
    flush(identity, Lane(engine_like(name)), record)
    assert [thing.id for thing in new[:60]] == list(range(1, 61))
    assert all(identity.find(state_of(e).layout, state_of(e).key) is e for e in (*new, *changed))
    assert all(identity.find(state_of(e).layout, state_of(e).key) is None for e in gone)
    assert not identity.new
    assert not identity.dirty
    assert not identity.deleted
    assert {*record.inserted} == {state_of(e) for e in new}
    assert record.changed == [state_of(e) for e in changed]
    assert [entity for _, entity in record.deleted] == gone


@pytest.mark.parametrize("name", ["sqlite", "psycopg", "psycopg2", "mariadb"])
def test_every_request_failed_in_turn(name):
    """Whichever statement fails: what came before is on record, what comes after is as it was."""
    whole = Lane(engine_like(name))
    flush(work()[0], whole)
    for place in range(len(whole.sent)):
        identity, new, changed, gone = work()
        record = FlushRecord()
        with pytest.raises(Failed):
            flush(identity, Lane(engine_like(name), fail_at=place), record)
        done = {*record.inserted}
        assert {state_of(e) for e in new} - done == {*identity.new}
        assert all(state_of(e).life == (PERSISTENT if state_of(e) in done else PENDING) for e in new)
        assert all(e.id is None for e in new[:60] if state_of(e) not in done)
        assert {state_of(e) for e in changed} == {*record.changed} | {*identity.dirty}
        assert {state_of(e) for e in gone} == {state for state, _ in record.deleted} | {*identity.deleted}


def test_no_statement_per_entity():
    """The number of statements does not grow with the number of entities (I1)."""
    for name in set(TRAITS) - {"mysql"}:
        lane = Lane(engine_like(name))
        flush(map_of(*(Thing(name="x") for _ in range(1000))), lane)
        assert len(lane.sent) <= 5, name


def test_one_entity_is_one_statement():
    """A single row takes the short way the second time, and says the same."""
    lane = Lane(engine_like("sqlite"))
    engine = lane.engine
    for expected in (1, 2, 3):
        thing = Thing(name="x")
        identity = map_of(thing)
        plan = plan_flush(identity, engine)
        assert plan.lean is (expected > 1)
        assert str(plan) == "FlushPlan  1 batch, 1 row\n  1  INSERT thing  (name, rank)  1 row  -> thing.id"
        drive(flush_flow(lane, identity, plan), lane.perform)
        assert thing.id == expected
    assert len(lane.sent) == 3


def test_wrong_count_is_stale(monkeypatch):
    """An UPDATE that matches another number of rows raises, and names the missing."""
    engine = engine_like("sqlite")
    for _ in range(2):  # the long way, then the short one
        thing = Thing(id=5, name="a")
        state = state_of(thing)
        state.key = 5
        identity = map_of()
        identity.add(state, thing)
        thing.name = "b"

        class Missing(Lane):
            def rows_in(self, request):
                return [] if hasattr(request, "statement") else 0

        with pytest.raises(StaleData, match="gone: Thing 5"):
            flush(identity, Missing(engine))
        assert state in identity.dirty


def test_replies_in_disorder_are_sorted():
    """Keys that arrive in another order are matched by counting, if they leave no gap."""

    class Disordered(Lane):
        def perform(self, request):
            reply = super().perform(request)
            return reply[::-1] if isinstance(reply, list) else reply

    things = [Thing(name=f"n{n}") for n in range(20)]
    flush(map_of(*things), Disordered(engine_like("aiosqlite")))
    assert [thing.id for thing in things] == list(range(1, 21))


def test_a_row_too_few_is_never_guessed():
    """A reply with fewer keys than rows is refused."""

    class Short(Lane):
        def perform(self, request):
            reply = super().perform(request)
            return reply[:-1] if isinstance(reply, list) else reply

    for name in ("psycopg", "aiosqlite", "mariadb", "sqlite"):
        with pytest.raises(KeysUnmatched):
            flush(map_of(*(Thing(name="x") for _ in range(20))), Short(engine_like(name)))


def test_bulk_rows_are_checked_before_the_first_is_sent():
    """A refused row late in the list leaves the lane untouched."""
    lane = Lane(engine_like("sqlite"))
    rows = [{"name": "x"}] * 500 + [{"id": object()}]
    with pytest.raises(Exception, match="Keyed"):
        drive(bulk_insert_flow(lane, Keyed.__mapper__, rows), lane.perform)
    assert lane.sent == []
