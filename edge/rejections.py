"""Why an operation is rejected before it runs, with the code that a client sees."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from graphql import GraphQLError, OperationType

from domain.errors import QueryTooComplex, RateLimited, TryLater
from edge.errors import present_errors
from edge.outcomes import Reason, Rejected, Result
from edge.persisted import DigestWrong, DocumentNotKnown, DocumentNotTrusted
from edge.query_limits import Cost

_CODES: Final[Mapping[Reason, str]] = {
    Reason.PERSISTED: "PERSISTED_QUERY_NOT_FOUND",
    Reason.DIGEST: "BAD_REQUEST",
    Reason.UNTRUSTED: "DOCUMENT_NOT_TRUSTED",
    Reason.SYNTAX: "GRAPHQL_PARSE_FAILED",
    Reason.UNKNOWN_OPERATION: "OPERATION_RESOLUTION_FAILED",
    Reason.KIND: "OPERATION_KIND_NOT_SUPPORTED",
    Reason.INVALID: "GRAPHQL_VALIDATION_FAILED",
    Reason.NAME_MISSING: "OPERATION_RESOLUTION_FAILED",
    Reason.COST: QueryTooComplex.code,
    Reason.TIME: "DEADLINE_EXCEEDED",
    Reason.RATE: RateLimited.code,
    Reason.CAPACITY: RateLimited.code,
    Reason.SUBSCRIPTIONS: "TOO_MANY_SUBSCRIPTIONS",
}
_PERSISTED: Final[Mapping[type[Exception], tuple[Reason, str]]] = {
    # Apollo Client and urql look for these words.
    DocumentNotKnown: (Reason.PERSISTED, "PersistedQueryNotFound"),
    DigestWrong: (Reason.DIGEST, "The digest is not that of the document."),
    DocumentNotTrusted: (Reason.UNTRUSTED, "Only listed documents can be executed here."),
}
TOO_SLOW: Final = GraphQLError(
    "The operation took too long.", extensions={"code": "DEADLINE_EXCEEDED"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """Why an operation may not run."""

    reason: Reason
    errors: Iterable[GraphQLError]
    kind: OperationType | None = None
    """None where the document does not say."""
    cost: Cost | None = None
    """None where it was not measured."""


def reject(
    rejection: Rejection, *, request_id: str, extensions: Mapping[str, object] | None = None
) -> Rejected:
    """The outcome of an operation that may not run."""
    errors = present_errors(
        rejection.errors, request_id=request_id, invalid_code=_CODES[rejection.reason]
    )
    return Rejected(
        reason=rejection.reason,
        result=Result(None, errors, extensions),
        kind=rejection.kind,
        cost=rejection.cost,
    )


def reject_late() -> Rejection:
    return Rejection(reason=Reason.TIME, errors=[TOO_SLOW])


def reject_persisted(error: DocumentNotKnown | DigestWrong | DocumentNotTrusted) -> Rejection:
    reason, message = _PERSISTED[type(error)]
    return Rejection(reason=reason, errors=[GraphQLError(message)])


def reject_excess(error: TryLater) -> Rejection:
    """Too many operations are running in this process, or for this client."""
    return Rejection(reason=Reason.CAPACITY, errors=[_wrap(error)])


def reject_rate(
    error: RateLimited, kind: OperationType | None = None, cost: Cost | None = None
) -> Rejection:
    return Rejection(reason=Reason.RATE, errors=[_wrap(error)], kind=kind, cost=cost)


def reject_too_complex(
    error: QueryTooComplex, kind: OperationType | None = None, cost: Cost | None = None
) -> Rejection:
    return Rejection(reason=Reason.COST, errors=[_wrap(error)], kind=kind, cost=cost)


def _wrap(error: Exception) -> GraphQLError:
    return GraphQLError(str(error), original_error=error)
