"""Traces: for which request work is done, as logs, webhooks and spans of all processes name it.

Each request, and each operation on a socket, has a trace. What outlives the request, such as an
output that waits for a worker, keeps it. If operators have enabled traces, a part of the work is a
span.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, Protocol


@dataclass(frozen=True, slots=True)
class Trace:
    request_id: str
    traceparent: str | None = None
    """The W3C Trace Context that it belongs to, if it belongs to one."""

    @property
    def trace_id(self) -> str | None:
        return None if self.traceparent is None else self.traceparent.split("-")[1]


class Span(Protocol):
    """A part of the work that is being traced."""

    def add(self, facts: Mapping[str, str | int]) -> None:
        """Say more about it: ids, names and numbers, and nothing that a person wrote."""

    def fail(self, reason: str) -> None:
        """It has failed, with an error of this kind."""


class Tracer(Protocol):
    def span(
        self, name: str, facts: Mapping[str, str | int], *, outwards: bool, inwards: bool
    ) -> AbstractContextManager[Span]:
        """Trace what is done within, as a part of the current trace or as the first of a new one.
        What is done within follows the span.
        """


class _Untraced:
    def add(self, facts: Mapping[str, str | int]) -> None:
        pass

    def fail(self, reason: str) -> None:
        pass


_UNTRACED: Final[AbstractContextManager[Span]] = nullcontext(_Untraced())
_NO_FACTS: Final[Mapping[str, str | int]] = {}
_current: Final[ContextVar[Trace | None]] = ContextVar("trace", default=None)
_tracer: Final[ContextVar[Tracer | None]] = ContextVar("tracer", default=None)


def current_trace() -> Trace | None:
    """The trace of the request that the current task works for, if any."""
    return _current.get()


class use_trace:  # noqa: N801 (a context manager: `with use_trace(trace):`)
    """Do the work within the block for a trace. `tracer`, if given, makes the spans."""

    __slots__ = ("_token", "_token_of_tracer", "_trace", "_tracer")

    def __init__(self, trace: Trace | None, tracer: Tracer | None = None) -> None:
        self._trace, self._tracer = trace, tracer

    def __enter__(self) -> None:
        self._token = _current.set(self._trace)
        self._token_of_tracer = _tracer.set(self._tracer or _tracer.get())

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)
        _tracer.reset(self._token_of_tracer)


def set_trace(trace: Trace) -> None:
    """Work for this trace until the current task ends."""
    _current.set(trace)


def span(
    name: str,
    facts: Mapping[str, str | int] = _NO_FACTS,
    *,
    outwards: bool = False,
    inwards: bool = False,
) -> AbstractContextManager[Span]:
    """Trace the work within the block, if operators have enabled traces.

    `inwards`: it answers a request (a server span); `outwards`: it sends one (a client span).
    """
    tracer = _tracer.get()
    if tracer is None:
        return _UNTRACED
    return tracer.span(name, facts, outwards=outwards, inwards=inwards)
