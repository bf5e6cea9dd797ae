"""Do to a driver's socket what the driver cannot: cut it off, or put nothing in its place."""

from __future__ import annotations

import os
import socket


def shut_down(fd: int | None) -> None:
    """Shut a socket down without closing it: whoever waits for it fails, and the number stays taken."""
    if fd is None or fd < 0:
        return
    try:
        sock = socket.socket(fileno=fd)
    except OSError:
        return  # closed meanwhile
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # the other side was faster
    finally:
        sock.detach()


def replace_by_nothing(fd: int | None) -> None:
    """Put something that swallows everything in the place of a socket that is not ours."""
    if fd is None or fd < 0:
        return
    try:
        nowhere = os.open(os.devnull, os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
        try:
            os.dup2(nowhere, fd, inheritable=False)
        finally:
            os.close(nowhere)
    except OSError:
        pass
