"""Driving flows: results, errors at the line that asked, and cancellation."""

from __future__ import annotations

from typing import Any

import pytest

from sojourn.kernel.drive import drive


def echo(request: Any) -> Any:
    if isinstance(request, BaseException):
        raise request
    return request


def test_a_flow_returns_its_result() -> None:
    """Replies are sent to the line that asked; the return value is the result."""

    def inner() -> Any:
        return (yield 1) + (yield 2)

    def flow() -> Any:
        total = yield from inner()
        return total + (yield 3)

    assert drive(flow(), echo) == 6


def test_a_flow_without_requests() -> None:
    """A flow may return at once, also nothing."""

    def flow(result: Any) -> Any:
        return result
        yield

    assert drive(flow(5), echo) == 5
    assert drive(flow(None), echo) is None


def test_errors_are_raised_where_the_flow_asked() -> None:
    """A failed request can be caught in the flow, which then goes on; more than once."""

    def flow() -> Any:
        seen = []
        for error in (ValueError("a"), KeyError("b")):
            try:
                yield error
            except (ValueError, KeyError) as caught:
                seen.append(caught)
        seen.append((yield "end"))
        return seen

    first, second, end = drive(flow(), echo)
    assert (str(first), second.args, end) == ("a", ("b",), "end")


def test_uncaught_errors_come_out() -> None:
    """What the flow does not catch leaves drive, with finally blocks run; so do the flow's own errors."""
    cleaned = []

    def flow() -> Any:
        try:
            yield ValueError("a")
        finally:
            cleaned.append((yield "rollback"))

    with pytest.raises(ValueError, match="a"):
        drive(flow(), echo)
    assert cleaned == ["rollback"]

    def broken() -> Any:
        yield 1
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        drive(broken(), echo)


def test_a_flow_that_raises_stop_iteration() -> None:
    """A StopIteration out of a flow is an error, as Python has it."""

    def flow() -> Any:
        yield 1
        raise StopIteration

    with pytest.raises(RuntimeError):
        drive(flow(), echo)


@pytest.mark.parametrize("late", [False, True])
def test_a_cancelled_flow_may_clean_up(late: bool) -> None:
    """After KeyboardInterrupt the flow's finally blocks run, and the interrupt comes out."""
    cleaned = []

    def flow() -> Any:
        try:
            if late:
                try:
                    yield ValueError()
                except ValueError:
                    pass
            yield KeyboardInterrupt()
        finally:
            cleaned.append(True)

    with pytest.raises(KeyboardInterrupt):
        drive(flow(), echo)
    assert cleaned == [True]


def test_a_cancelled_flow_may_not_swallow_it() -> None:
    """A flow that ends as if nothing had happened does not end the cancellation."""

    def flow() -> Any:
        try:
            yield KeyboardInterrupt()
        except KeyboardInterrupt:
            return "swallowed"

    with pytest.raises(KeyboardInterrupt):
        drive(flow(), echo)


def test_a_cancelled_flow_may_not_ask_again() -> None:
    """The state of the connection is unknown then."""

    def flow() -> Any:
        try:
            yield KeyboardInterrupt()
        finally:
            yield "rollback"

    with pytest.raises(RuntimeError, match="asked for 'rollback' after it was cancelled"):
        drive(flow(), echo)


def test_thousands_of_requests_do_not_leak() -> None:
    """Requests and replies are released: the last reply is the only one alive."""

    class Reply:
        pass

    import gc
    import weakref

    refs: list[Any] = []

    def perform(request: Any) -> Any:
        reply = Reply()
        refs.append(weakref.ref(reply))
        return reply

    def flow() -> Any:
        for n in range(1000):  # noqa: UP028 - a range cannot be sent replies
            yield n

    drive(flow(), perform)
    gc.collect()
    assert [ref for ref in refs if ref() is not None] == []
