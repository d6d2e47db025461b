"""What a transport gives to the executor, and what it gets back to write."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final, TypeAlias

import orjson
from graphql import ExecutionResult, OperationType

from domain.ports.changes import Receiver
from edge.errors import ErrorBody, present_errors
from edge.query_limits import Cost

ALL_KINDS: Final = frozenset(OperationType)
MAX_ANSWER_BYTES: Final = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What a client asks for, and the kinds of operations that its transport can answer."""

    document: str | None
    """None where the client names a document instead."""
    persisted: str | None = None
    """The digest or id by which the client names the document."""
    variables: Mapping[str, Any] | None = None
    excessive_parts: int = 0
    """The number of objects and lists in the variables where it is too large. Then `variables` is
    None, so that an operation that waits takes little memory.
    """
    name: str | None = None
    kinds: frozenset[OperationType] = ALL_KINDS
    wants_cost: bool = False
    """Whether the answer is to include the cost of the operation."""


@dataclass(frozen=True, slots=True)
class Result:
    """One answer to an operation; a subscription has many."""

    data: dict[str, Any] | None
    errors: tuple[ErrorBody, ...] = ()
    extensions: Mapping[str, object] | None = None
    _written: dict[str, bytes] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def encoded(self) -> bytes:
        """The body as JSON, encoded once for all clients that it is written to. A body that is too
        large is replaced by an error.
        """
        if "body" not in self._written:
            encoded = orjson.dumps(self.body)
            if len(encoded) > MAX_ANSWER_BYTES:
                encoded = orjson.dumps({"data": None, "errors": [_too_large(self.data or {})]})
            self._written["body"] = encoded
        return self._written["body"]

    def framed(self, head: bytes, frame: Callable[[bytes], bytes]) -> bytes:
        """A frame of the head and the encoded body, made once for all that use this head."""
        if self._written.get("head") != head:
            self._written["head"] = head
            self._written["frame"] = frame(b"%b%b}" % (head, self.encoded))
        return self._written["frame"]

    @property
    def has_run(self) -> bool:
        """Whether any field has run. If none has, there is no data, and no result follows."""
        return self.data is not None or any("path" in error for error in self.errors)

    @property
    def codes(self) -> tuple[str, ...]:
        return tuple(str(error["extensions"]["code"]) for error in self.errors)

    @property
    def body(self) -> dict[str, Any]:
        """The result in the form in which every transport writes it."""
        body: dict[str, Any] = {"data": self.data} if self.has_run else {}
        if self.errors:
            body["errors"] = self.errors
        if self.extensions:
            body["extensions"] = self.extensions
        return body


def present_result(result: ExecutionResult, request_id: str) -> Result:
    """What graphql-core has answered, as a client sees it."""
    return Result(result.data, present_errors(result.errors or (), request_id=request_id))


def _too_large(data: Mapping[str, Any]) -> ErrorBody:
    return {
        "message": f"The answer is larger than {MAX_ANSWER_BYTES} bytes.",
        "path": list(data)[:1],
        "extensions": {"code": "RESPONSE_TOO_LARGE"},
    }


class Reason(Enum):
    """Why an operation is rejected before it runs."""

    PERSISTED = auto()
    """The client names a document that is not known."""
    DIGEST = auto()
    """The client sends a document with the digest of another one."""
    UNTRUSTED = auto()
    """Only listed documents are allowed, and this one is not listed."""
    SYNTAX = auto()
    UNKNOWN_OPERATION = auto()
    """The document has no operation of this name, or none at all."""
    KIND = auto()
    """The transport cannot answer a mutation, or a subscription."""
    INVALID = auto()
    NAME_MISSING = auto()
    """The document has several operations, and the client does not say which."""
    COST = auto()
    TIME = auto()
    """It took too long to read the document."""
    RATE = auto()
    """The client has run too many operations, or too costly ones."""
    SUBSCRIPTIONS = auto()
    """The viewer has too many subscriptions."""
    CAPACITY = auto()
    """Too many operations are running in this process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """The operation has not run."""

    reason: Reason
    result: Result
    kind: OperationType | None = None
    """None where the document does not say it."""
    cost: Cost | None = None
    """None where the cost was not measured: only that of valid documents is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """The operation has one result, and has ended."""

    kind: OperationType
    result: Result
    cost: Cost


Deliver: TypeAlias = Callable[[Receiver[Result]], Awaitable[Result | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Streaming:
    """The operation has results until its stream ends. The transport opens and closes it."""

    open: Callable[[], AsyncGenerator[Result, None]]
    """Opens the stream of results. Called at most once."""
    cost: Cost
    deliver: Deliver | None = None
    """Gives the same results to a receiver, which costs less with many subscribers. A transport
    calls either this or `open`. Returns a last result with an error, or None at the end.
    """
    release: Callable[[], None] = lambda: None
    """Called by the transport when the stream has ended, for whatever reason."""


Outcome: TypeAlias = Rejected | Answered | Streaming


async def read_results(outcome: Outcome) -> AsyncGenerator[Result, None]:
    """Read every result of an outcome, for transports that write all of them in one way."""
    if not isinstance(outcome, Streaming):
        yield outcome.result
        return
    async with aclosing(outcome.open()) as results:
        async for result in results:
            yield result
