"""For which request something is done: what logs, webhooks and traces of all processes name.

A request, or an operation on a socket, has one; what it leaves behind, such as an output that waits
for a worker, keeps it. Where operators want traces, a stretch of work is a span of it.
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
    """A stretch of work that is being traced."""

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
    """Of the request that the current task works for, if it does for one."""
    return _current.get()


class following:  # noqa: N801 (reads as a phrase: `with following(trace):`)
    """Work for a request. `tracer` makes the spans of what is done within, if any are made."""

    __slots__ = ("_token", "_token_of_tracer", "_trace", "_tracer")

    def __init__(self, trace: Trace | None, tracer: Tracer | None = None) -> None:
        self._trace, self._tracer = trace, tracer

    def __enter__(self) -> None:
        self._token = _current.set(self._trace)
        self._token_of_tracer = _tracer.set(self._tracer or _tracer.get())

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)
        _tracer.reset(self._token_of_tracer)


def follow(trace: Trace) -> None:
    """Work for a request until the current task ends."""
    _current.set(trace)


def span(
    name: str,
    facts: Mapping[str, str | int] = _NO_FACTS,
    *,
    outwards: bool = False,
    inwards: bool = False,
) -> AbstractContextManager[Span]:
    """Trace what is done within, if anybody wants to know.

    `inwards`: it answers somebody else's request; `outwards`: it asks somebody else.
    """
    tracer = _tracer.get()
    if tracer is None:
        return _UNTRACED
    return tracer.span(name, facts, outwards=outwards, inwards=inwards)
