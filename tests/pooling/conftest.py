"""Fixtures of the pool's tests."""

from __future__ import annotations

import contextlib
import signal
import threading

import pytest

from tests.pooling.threads import wait_until


@pytest.fixture
def interrupt_main():
    """Return a context in which Ctrl-C is pressed as soon as a condition is true."""
    main = threading.main_thread()

    @contextlib.contextmanager
    def interrupt(condition):
        def press():
            wait_until(condition)
            signal.pthread_kill(main.ident, signal.SIGINT)

        thread = threading.Thread(target=press)
        thread.start()
        try:
            yield
        finally:
            thread.join()

    return interrupt
