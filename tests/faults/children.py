"""Forked children of a test, which report what they found.

A child reports over a pipe and leaves by `os._exit`, so that nothing of the test run is done twice; an
alarm ends it where it would hang.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

ALARM = 30  # seconds


def in_child(act: Callable[[], Any]) -> Callable[[], Any]:
    """Run *act* in a forked child; return a function that waits for its end and returns what it returned."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            faulthandler.register(signal.SIGALRM, sys.__stderr__, chain=True)
            signal.alarm(ALARM)  # says where the child is stuck, and ends it
            os.close(reader)
            try:
                reply = {"result": act()}
            except BaseException as error:  # noqa: BLE001 - told to the parent
                reply = {"error": f"{type(error).__name__}: {error}"}
            with os.fdopen(writer, "w") as pipe:
                json.dump(reply, pipe)
            status = 0
        finally:
            os._exit(status)
    os.close(writer)

    def result() -> Any:
        with os.fdopen(reader) as pipe:
            said = pipe.read()
        _, status = os.waitpid(pid, 0)
        assert status == 0, f"the child ended with status {status}"
        reply = json.loads(said)
        assert "error" not in reply, reply["error"]
        return reply["result"]

    return result
