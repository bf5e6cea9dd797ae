"""Borrowers of an engine's connections: one who looks, many at once, one who has to wait."""

from __future__ import annotations

import threading

from sojourn import text
from tests.serverside import WHO


def whoami(connection):
    """The connection's number on its server; on SQLite, which has none, the driver's connection's."""
    if connection.dialect.name == "sqlite":
        return id(connection.connection.driver_connection)
    return connection.execute(text(WHO[connection.dialect.name])).scalar_one()


def fill(engine, number):
    """Leave *number* idle connections in the pool; return their numbers."""
    lent = [engine.connect() for _ in range(number)]
    numbers = {whoami(each) for each in lent}
    for each in lent:
        each.close()
    assert len(numbers) == number
    return numbers


def in_threads(number, act):
    """Run `act(n)` in *number* threads at once; return the results, or raise the first error."""
    results, failures = {}, []

    def run(n):
        try:
            results[n] = act(n)
        except BaseException as error:  # noqa: BLE001 - raised below
            failures.append(error)

    threads = [threading.Thread(target=run, args=(n,), daemon=True) for n in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    if failures:
        raise failures[0]
    return results


class Waiting:
    """A thread that wants a connection, and what it got."""

    def __init__(self, engine):
        self.engine = engine
        self.connection = self.error = None
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        try:
            self.connection = self.engine.connect()
        except BaseException as error:  # noqa: BLE001 - looked at by the test
            self.error = error
        self.ended.set()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.thread.join(30)
        if self.connection is not None:
            self.connection.close()
