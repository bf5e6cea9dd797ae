"""The fault proxy does what the fault tests rely on."""

from __future__ import annotations

import socket
import threading

import pytest

from tests.faults.proxy import FaultProxy


@pytest.fixture
def echo():
    """The port of a server that sends back what it receives."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection):
        with connection:
            try:
                while data := connection.recv(1000):
                    connection.sendall(data)
            except OSError:
                pass

    def accept():
        try:
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
        except OSError:
            pass

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(10)


@pytest.fixture
def proxy(echo):
    with FaultProxy(echo) as proxy:
        yield proxy


@pytest.fixture
def client(proxy):
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as client:
        client.sendall(b"one")
        assert client.recv(100) == b"one"
        yield client


def test_it_forwards_and_counts(proxy, client):
    """Bytes pass in both directions, and are counted."""
    assert (proxy.accepted, proxy.sent, proxy.links[0].received) == (1, 3, 3)


def test_drop_closes(proxy, client):
    """After `drop` the client reads the end."""
    proxy.drop()

    assert client.recv(100) == b""


def test_reset_resets(proxy, client):
    """After `reset` the client's next read fails."""
    proxy.reset()

    with pytest.raises(ConnectionResetError):
        client.recv(100)


def test_freeze_is_silence_until_thaw(proxy, client):
    """A frozen proxy forwards nothing and closes nothing; thawed, it forwards what waited."""
    proxy.freeze()
    client.sendall(b"two")
    client.settimeout(0.05)
    with pytest.raises(TimeoutError):
        client.recv(100)
    client.settimeout(5)
    proxy.thaw()

    assert client.recv(100) == b"two"


def test_half_close_ends_one_direction(proxy, client):
    """After `half_close` the client reads the end and may still send."""
    proxy.half_close()
    assert client.recv(100) == b""

    client.sendall(b"more")


def test_a_reply_is_cut_in_the_middle(proxy, client):
    """After `cut_replies` the client gets so many bytes more, and then the end."""
    proxy.cut_replies(after=2)
    client.sendall(b"three")
    assert client.recv(100) == b"th"

    assert client.recv(100) == b""


def test_frozen_links_do_not_keep_new_ones_from_passing(proxy, client):
    """Only with `new` a freeze holds for connections that are made later."""
    proxy.freeze()
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as other:
        other.sendall(b"two")
        assert other.recv(100) == b"two"


def test_refuse_and_accept(proxy, client):
    """A refusing proxy keeps the connections it has, and takes new ones again when told."""
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", proxy.port), timeout=5)
    client.sendall(b"two")
    assert client.recv(100) == b"two"
    proxy.accept()

    socket.create_connection(("127.0.0.1", proxy.port), timeout=5).close()
