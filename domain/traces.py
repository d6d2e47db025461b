"""For which request something is done: what logs, webhooks and traces of all processes name.

A request, or an operation on a socket, has one; what it leaves behind, such as an output that waits
for a worker, keeps it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Trace:
    request_id: str
    traceparent: str | None = None
    """The W3C Trace Context that it belongs to, if it belongs to one."""

    @property
    def trace_id(self) -> str | None:
        return None if self.traceparent is None else self.traceparent.split("-")[1]


_current: Final[ContextVar[Trace | None]] = ContextVar("trace", default=None)


def current_trace() -> Trace | None:
    """Of the request that the current task works for, if it does for one."""
    return _current.get()


@contextmanager
def following(trace: Trace | None) -> Iterator[None]:
    """Work for a request."""
    token = _current.set(trace)
    try:
        yield
    finally:
        _current.reset(token)


def follow(trace: Trace) -> None:
    """Work for a request until the current task ends."""
    _current.set(trace)
