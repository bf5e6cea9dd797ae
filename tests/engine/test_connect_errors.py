"""How errors of drivers are sorted: worth another try, hopeless, the end of a session; D5, E5."""

from __future__ import annotations

import errno
import socket

import pytest
import sqlalchemy as sa

from sojourn.engine.health import Health, is_lost
from tests.databases import mysql_only, server_only
from tests.servers import free_port


def connect_error(db, **parts):
    """Return the driver's error for a connection that cannot be opened."""
    url = sa.make_url(db.url).set(**parts)
    engine = sa.create_engine(url, poolclass=sa.pool.NullPool)  # Core's own: ours would try again
    with pytest.raises(sa.exc.DBAPIError) as caught:
        engine.connect()
    return Health(engine.dialect), caught.value.orig


@server_only
def test_a_refused_connection_is_worth_another_try(db):
    """E5: the server may be starting."""
    health, error = connect_error(db, port=free_port())

    assert health.is_transient(error)
    assert not health.is_hopeless(error)


@server_only
@pytest.mark.parametrize("parts", [{"database": "no_such_database"}, {"username": "nobody_we_know"}])
def test_a_wrong_name_is_hopeless(db, parts):
    """E5: an unknown database or account stays unknown."""
    health, error = connect_error(db, **parts)

    assert health.is_hopeless(error)
    assert not health.is_transient(error)


@server_only
def test_a_host_that_nobody_knows_is_not_refused(db):
    """It is hopeless, or the name service is out of order, which may pass."""
    health, error = connect_error(db, host="no-such-host.invalid")

    assert health.is_hopeless(error) != health.is_transient(error)


@mysql_only
def test_a_wrong_password_is_hopeless(db):
    """E5."""
    health, error = connect_error(db, password="wrong")

    assert health.is_hopeless(error)


class Coded(Exception):
    """An error with PostgreSQL's code."""

    def __init__(self, text="", sqlstate=None):
        super().__init__(text)
        self.sqlstate = sqlstate


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Coded(sqlstate="57P03"), True),
        (Coded(sqlstate="53300"), True),
        (Coded(sqlstate="28P01"), False),
        (Coded(sqlstate="3D000"), False),
        (Coded("FATAL:  the database system is starting up"), True),
        (Coded("FATAL:  sorry, too many clients already"), True),
        (Coded('FATAL:  password authentication failed for user "x"'), False),
        (Coded('FATAL:  no pg_hba.conf entry for host "::1"'), False),
        (Exception(1040, "Too many connections"), True),
        (Exception(2002, "Can't connect to local server"), True),
        (Exception(2003, "Can't connect to server"), True),
        (Exception(1045, "Access denied"), False),
        (Exception(1049, "Unknown database"), False),
        (Exception(2005, "Unknown server host"), False),
        (ConnectionResetError(errno.ECONNRESET, "reset"), True),
        (TimeoutError(), True),
        (socket.gaierror(socket.EAI_AGAIN, "try again"), True),
        (socket.gaierror(socket.EAI_NONAME, "unknown"), False),
        (Exception("something else"), None),
        (Exception(), None),
    ],
)
def test_connect_errors_are_sorted(error, expected):
    """E5: worth another try, hopeless, or unknown: then neither is claimed."""
    health = Health(sa.create_engine("sqlite://").dialect)

    assert health.is_transient(error) is (expected is True)
    assert health.is_hopeless(error) is (expected is False)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Coded(sqlstate="57P01"), True),
        (Coded(sqlstate="57P05"), True),
        (Coded(sqlstate="25P03"), True),
        (Coded(sqlstate="08006"), True),
        (Coded(sqlstate="57014"), False),
        (Coded(sqlstate="40001"), False),
        (Exception(1053, "Server shutdown in progress"), True),
        (Exception(4031, "disconnected by the server because of inactivity"), True),
        (Exception(1205, "Lock wait timeout"), False),
        (Exception(), False),
    ],
)
def test_d5_the_end_of_a_session_is_recognised_by_its_number(error, expected):
    """D5: in whatever language the server speaks, and before its stream ends."""
    assert is_lost(error) is expected
