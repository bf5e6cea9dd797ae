"""The blocking front over an async session: what `AsyncSession.run_sync` hands to blocking code.

The code runs in a thread. Its session shares everything with the async one; each request is handed to the
event loop, whose answer the thread awaits.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from typing import TYPE_CHECKING, Any, TypeVar

from sojourn import errors
from sojourn.flow import drive
from sojourn.session.session import Session, SessionTransaction
from sojourn.session.transaction import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from concurrent.futures import Future

    from sojourn.session.core import SessionCore

T = TypeVar("T")


class Gate:
    """Where requests of a thread cross over to the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop: asyncio.AbstractEventLoop | None = loop
        self._pending: Future[Any] | None = None

    def perform(self, request: Any) -> Any:
        """Have a request carried out by the event loop, and wait for the reply."""
        loop = self._loop
        if loop is None:
            raise errors.BlockingCall
        pending = self._pending = asyncio.run_coroutine_threadsafe(request.lane.perform(request), loop)
        try:
            return pending.result()
        finally:
            self._pending = None

    def run(self, flow: Generator[Any, Any, T]) -> T:
        """Drive a flow in the thread."""
        done: T = drive(flow, self.perform)
        return done

    def load(self, instance: Any, state: Any, name: str) -> Any:
        """Load an attribute that was read and is not there."""
        session = state.session
        if session is None:
            raise errors.DetachedRead(type(instance).__name__, name)
        return self.run(session.load_flow(state, instance, name))

    def shut(self) -> None:
        """Refuse everything from now on and cancel what is under way."""
        self._loop = None
        if self._pending is not None:
            self._pending.cancel()


class BlockingTransaction(SessionTransaction):
    """A transaction or savepoint begun by blocking code."""

    @property
    def session(self) -> Any:
        """The session this transaction belongs to."""
        return self.core

    def _run(self, flow: Generator[Any, Any, T]) -> T:
        gate: Gate = self.core.__dict__["_gate"]
        return gate.run(flow)

    def commit(self) -> None:
        """Commit this level and whatever is open inside it."""
        self.check("commit")
        self._run(self.core.commit_flow(self))

    def rollback(self) -> None:
        """Roll this level back, with whatever is open inside it."""
        self.check("rollback")
        self._run(self.core.rollback_flow(self))

    def prepare(self) -> None:
        """Prepare for two-phase commit."""
        self._run(self.core.prepare_flow())

    def close(self, invalidate: bool = False) -> None:
        """End this level without a word: what was not committed is rolled back."""
        if self.stage in (Stage.ACTIVE, Stage.PREPARED, Stage.DEACTIVE):
            self._run(self.core.rollback_flow(self))

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        core = self.core
        self.leave_block()
        if kind is None and self.stage in (Stage.ACTIVE, Stage.PREPARED):
            self._run(core.commit_flow(self))
        elif self.stage in (Stage.ACTIVE, Stage.PREPARED, Stage.DEACTIVE):
            cause = self.cause if self.stage is Stage.DEACTIVE else None
            self._run(core.rollback_flow(self))
            if kind is None and cause is not None:
                raise errors.PendingRollback(cause) from cause


class BlockingSession(Session):
    """A `Session` whose requests are carried out by the event loop of an async session."""

    transaction_class = BlockingTransaction
    is_async = True  # its engine is

    def _run(self, flow: Generator[Any, Any, T]) -> T:
        gate: Gate = self.__dict__["_gate"]
        return gate.run(flow)

    def _ask(self, request: Any) -> Any:
        gate: Gate = self.__dict__["_gate"]
        return gate.perform(request)

    def close(self) -> None:
        """End the transaction, give the connection back, let go of every entity."""
        self._run(self.close_flow())

    def reset(self) -> None:
        """Do as close() does."""
        self._run(self.close_flow())

    def pull_from(self, stream: Any) -> Any:
        """Return what a streamed result calls for its next batch."""
        return lambda size: self._run(stream.more_flow(size))


async def run_blocking(session: SessionCore, fn: Callable[..., T], args: Any, kwargs: Any) -> T:
    """Run blocking code in a thread with a blocking front over *session*; the caller sees to cancellation."""
    loop = asyncio.get_running_loop()
    gate = Gate(loop)
    front = BlockingSession.__new__(BlockingSession)
    front.__dict__ = session.__dict__
    front.__dict__["_gate"] = gate
    session.identity.loader = gate.load
    context = contextvars.copy_context()
    work = functools.partial(fn, front, *args, **kwargs)
    try:
        return await loop.run_in_executor(None, context.run, work)
    except Exception:
        raise
    except BaseException:
        gate.shut()
        raise
    finally:
        front.__dict__ = {}  # it must not end what it shares when it is collected
        del session.__dict__["_gate"]
