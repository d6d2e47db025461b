"""What a transport hands to the executor, and what it gets back to write."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final, TypeAlias

from graphql import OperationType

from edge.errors import ErrorBody
from edge.query_cost import Cost

ALL_KINDS: Final = frozenset(OperationType)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What a client asks for, and the kinds of operation that its transport can answer."""

    document: str
    variables: Mapping[str, Any] | None = None
    name: str | None = None
    kinds: frozenset[OperationType] = ALL_KINDS


@dataclass(frozen=True, slots=True)
class Result:
    """One answer to an operation; a subscription has many."""

    data: dict[str, Any] | None
    errors: tuple[ErrorBody, ...] = ()

    @property
    def has_run(self) -> bool:
        """Whether any field has run. If none has, there is no data, and no result follows."""
        return self.data is not None or any("path" in error for error in self.errors)

    @property
    def codes(self) -> tuple[str, ...]:
        return tuple(str(error["extensions"]["code"]) for error in self.errors)

    @property
    def body(self) -> dict[str, Any]:
        """The result as every transport writes it."""
        body: dict[str, Any] = {"data": self.data} if self.has_run else {}
        return {**body, "errors": self.errors} if self.errors else body


class Reason(Enum):
    """Why an operation is rejected before it runs."""

    SYNTAX = auto()
    UNKNOWN_OPERATION = auto()
    """The document has none of this name, or none at all."""
    KIND = auto()
    """The transport cannot answer a mutation, or a subscription."""
    INVALID = auto()
    NAME_MISSING = auto()
    """The document has several operations, and the client does not say which."""
    COST = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """The operation has not run."""

    reason: Reason
    result: Result
    kind: OperationType | None = None
    """None where the document does not say."""
    cost: Cost | None = None
    """None where it was not measured: only valid documents are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """The operation has one result, and has ended."""

    result: Result
    cost: Cost


@dataclass(frozen=True, slots=True, kw_only=True)
class Streaming:
    """The operation has results until its stream ends. The transport closes the stream."""

    results: AsyncGenerator[Result, None]
    cost: Cost


Outcome: TypeAlias = Rejected | Answered | Streaming


async def read_results(outcome: Outcome) -> AsyncGenerator[Result, None]:
    """Read every result of an outcome, for transports that write all of them in one way."""
    if not isinstance(outcome, Streaming):
        yield outcome.result
        return
    async with aclosing(outcome.results) as results:
        async for result in results:
            yield result
