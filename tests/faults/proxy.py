"""A TCP proxy on loopback that does to a connection what networks do to it.

One thread forwards bytes between clients and one server port. A test calls `drop`, `reset`, `freeze`,
`half_close` or `refuse`; each returns once it is done. Nothing outlives `close()`, which `with` calls.
"""

from __future__ import annotations

import contextlib
import queue
import selectors
import socket
import struct
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable

#: What any single step may take; a test that waits longer than this has found something.
LIMIT = 10.0
#: Closing with this option set sends RST instead of FIN.
AT_ONCE = struct.pack("ii", 1, 0)


@dataclass(eq=False)
class Link:
    """One client's connection and ours to the server on its behalf."""

    client: socket.socket
    server: socket.socket
    sent: int = 0  # bytes the client sent
    received: int = 0  # bytes it was sent
    allowance: int | None = None  # bytes it will still be sent, where that is limited

    @property
    def both(self) -> tuple[socket.socket, socket.socket]:
        return self.client, self.server


class FaultProxy:
    """Forward connections to *upstream*, a port of 127.0.0.1, until told to misbehave."""

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self.links: list[Link] = []
        self.accepted = 0
        self.is_frozen = False
        self.melting: threading.Timer | None = None
        self.selector = selectors.DefaultSelector()
        self.orders: queue.SimpleQueue[tuple[Callable[[], None], threading.Event]] = queue.SimpleQueue()
        self.bell, self.rope = socket.socketpair()
        self.selector.register(self.bell, selectors.EVENT_READ)
        self.listener: socket.socket | None = None
        self.port = 0
        self._listen()
        self.ended = False
        self.thread = threading.Thread(target=self._serve, name="fault proxy", daemon=True)
        self.thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- what a test orders ----------------------------------------------------------------------

    def drop(self) -> None:
        """Close every connection on both sides."""
        self._order(lambda: self._end_all(reset=False))

    def reset(self) -> None:
        """Reset every connection: the client gets RST where it expected bytes or FIN."""
        self._order(lambda: self._end_all(reset=True))

    def freeze(self, *, new: bool = False) -> None:
        """Forward nothing any more, in either direction; *new* connections get the same silence.

        The ice melts by itself, so that what waits for ever is a failure and not the end of the run.
        """
        self._order(lambda: self._freeze(new=new))
        self.melting = threading.Timer(LIMIT, self.thaw)
        self.melting.daemon = True
        self.melting.start()

    def thaw(self) -> None:
        """Forward again, also what came in the meantime."""
        if self.melting is not None:
            self.melting.cancel()
            self.melting = None
            self._order(self._thaw)

    def cut_replies(self, after: int) -> None:
        """Close each connection once its client has got *after* more bytes: in the middle of a reply."""

        def arm() -> None:
            for link in self.links:
                link.allowance = after

        self._order(arm)

    def half_close(self) -> None:
        """Send FIN to the clients, and go on reading from them."""
        self._order(lambda: [quietly(link.client.shutdown, socket.SHUT_WR) for link in self.links] and None)

    def refuse(self) -> None:
        """Stop listening: new connections are refused; the present ones go on."""
        self._order(self._unlisten)

    def accept(self) -> None:
        """Listen again, on the same port."""
        self._order(self._listen)

    def close(self) -> None:
        """End every connection and the thread."""
        self.thaw()
        if self.thread.is_alive():
            self._order(self._end)
            self.thread.join(LIMIT)
        assert not self.thread.is_alive(), "the fault proxy does not end"

    @property
    def sent(self) -> int:
        """How many bytes the clients with an open connection have sent."""
        return sum(link.sent for link in self.links)

    def _order(self, what: Callable[[], None]) -> None:
        done = threading.Event()
        self.orders.put((what, done))
        self.rope.send(b"!")
        assert done.wait(LIMIT), "the fault proxy does not answer"

    # -- its thread ------------------------------------------------------------------------------

    def _serve(self) -> None:
        while not self.ended:
            for key, _ in self.selector.select(LIMIT):
                if key.fileobj is self.bell:
                    self.bell.recv(1)
                    what, done = self.orders.get()
                    what()
                    done.set()
                    break  # what else was ready may be closed by now
                if key.fileobj is self.listener:
                    self._take()
                else:
                    self._forward(key.data, key.fileobj)  # type: ignore[arg-type]  # only sockets are registered
                    if key.data not in self.links:
                        break
        for each in (self.selector, self.bell, self.rope):
            each.close()

    def _take(self) -> None:
        assert self.listener is not None
        client, _ = self.listener.accept()
        self.accepted += 1
        server = socket.socket()
        server.settimeout(LIMIT)
        link = Link(client, server)
        client.settimeout(LIMIT)
        try:
            server.connect(("127.0.0.1", self.upstream))
        except OSError:
            self._close(link, reset=True)
            return
        for each in link.both:
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.links.append(link)
        if not self.is_frozen:
            self._watch(link)

    def _forward(self, link: Link, source: socket.socket) -> None:
        target = link.server if source is link.client else link.client
        last = False
        try:
            data = source.recv(65536)
            if source is link.server and link.allowance is not None:
                last = len(data) >= link.allowance
                data = data[: link.allowance]
                link.allowance -= len(data)
            if source is link.client:  # counted first: who has the bytes may look at the count
                link.sent += len(data)
            else:
                link.received += len(data)
            if data:
                target.sendall(data)
        except OSError:
            data = b""
        if last or not data:
            self._forget(link, reset=False)

    def _watch(self, link: Link) -> None:
        for each in link.both:
            self.selector.register(each, selectors.EVENT_READ, link)

    def _unwatch(self, link: Link) -> None:
        for each in link.both:
            with contextlib.suppress(KeyError, ValueError):
                self.selector.unregister(each)

    def _freeze(self, *, new: bool) -> None:
        self.is_frozen = new
        for link in self.links:
            self._unwatch(link)

    def _thaw(self) -> None:
        self.is_frozen = False
        for link in self.links:
            self._unwatch(link)
            self._watch(link)

    def _forget(self, link: Link, *, reset: bool) -> None:
        self._unwatch(link)
        self.links.remove(link)
        self._close(link, reset=reset)

    def _close(self, link: Link, *, reset: bool) -> None:
        if reset:
            quietly(link.client.setsockopt, socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        for each in link.both:
            each.close()

    def _end_all(self, *, reset: bool) -> None:
        for link in list(self.links):
            self._forget(link, reset=reset)

    def _listen(self) -> None:
        if self.listener is None:
            self.listener = socket.create_server(("127.0.0.1", self.port), backlog=100)
            self.port = self.listener.getsockname()[1]
            self.selector.register(self.listener, selectors.EVENT_READ)

    def _unlisten(self) -> None:
        if self.listener is not None:
            self.selector.unregister(self.listener)
            self.listener.close()
            self.listener = None

    def _end(self) -> None:
        self._end_all(reset=False)
        self._unlisten()
        self.ended = True


def quietly(act: Callable[..., object], *arguments: object) -> None:
    """Call *act*; a socket that its other side closed already is as good as done."""
    with contextlib.suppress(OSError):
        act(*arguments)
