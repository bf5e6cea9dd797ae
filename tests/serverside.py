"""What a server itself knows of the connections to the test database: who is there, and how to end them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from tests import databases

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.servers import Server

LIST = {
    "postgresql": "SELECT pid FROM pg_stat_activity WHERE datname = 'sojourn_test'"
    " AND backend_type = 'client backend' AND pid <> pg_backend_pid()",
    "mysql": "SELECT id FROM information_schema.processlist WHERE db = 'sojourn_test'",
}
#: What a client asks for its own number in that list.
WHO = {"postgresql": "SELECT pg_backend_pid()", "mysql": "SELECT CONNECTION_ID()"}


def ask(db: databases.Database, statement: str) -> list[tuple[Any, ...]]:
    """Run *statement* from outside, through a connection that is in no list; return its rows."""
    assert db.server is not None, f"{db.name} has no server"
    try:
        return run(db.server, statement)
    except Exception:  # noqa: BLE001 - the server was restarted, or somebody ended every session: once more
        databases.forget_admin(db.server)
        return run(db.server, statement)


def run(server: Server, statement: str) -> list[tuple[Any, ...]]:
    """Run *statement* as the administrator of *server*."""
    cursor = databases.find_admin(server).cursor()
    try:
        cursor.execute(statement)
        return list(cursor.fetchall()) if cursor.description else []
    finally:
        cursor.close()


def sessions(db: databases.Database) -> set[int]:
    """Return the numbers of the connections the server has to the test database now."""
    return {row[0] for row in ask(db, LIST[db.dialect])}


def kill(db: databases.Database, *numbers: int) -> None:
    """End these connections from the server's side; return once the server does not list them."""
    for number in numbers:
        try:
            ask(
                db,
                f"SELECT pg_terminate_backend({number})" if db.dialect == "postgresql" else f"KILL {number}",
            )
        except Exception:
            if number in sessions(db):
                raise  # else it left by itself in between
    wait_until(lambda: not sessions(db) & set(numbers))


def wait_until(condition: Callable[[], Any], seconds: float = 10.0) -> Any:
    """Return what *condition* returns once that is true; fail after *seconds*."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {condition}"
        time.sleep(0.01)
    return found
