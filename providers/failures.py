"""What an answer's status means, where nothing in the answer says more."""

from collections.abc import Iterable
from typing import Final

from domain.errors import GenerationErrorCode, GenerationFailed, NotSubmitted
from providers.http import Answer, quoted

_NOT_TAKEN: Final = frozenset({429, 500, 503, 529})
"""Answers to a submission that say for certain that no job was taken."""
_UNCLEAR: Final = frozenset({408, 499})
_TRANSIENT: Final = frozenset({408, 409, 425, 429})
_CREDENTIALS: Final = frozenset({401, 402, 403})
_GONE: Final = frozenset({404, 410})
_CANCELLED: Final = 499

_Code = GenerationErrorCode


def is_transient(status: int) -> bool:
    """Whether a call that costs nothing is worth repeating after this answer."""
    return status in _TRANSIENT or status >= 500


def is_credentials(status: int) -> bool:
    """Whether it is our key that is not taken, or has no credit."""
    return status in _CREDENTIALS


def meaning_of(status: int) -> tuple[GenerationErrorCode, bool]:
    """The code, and whether trying again can help."""
    if is_credentials(status):
        return _Code.PROVIDER_AUTHENTICATION, False
    if status in _GONE:
        return _Code.MODEL_RETIRED, False
    if status == 429:
        return _Code.PROVIDER_RATE_LIMITED, True
    if status in _TRANSIENT or status == _CANCELLED or status >= 500:
        return _Code.PROVIDER_UNAVAILABLE, True
    if status >= 400:
        return _Code.PROVIDER_REJECTED_INPUT, False
    return _Code.PROVIDER_BAD_RESPONSE, True


def of_submission(
    status: int, failure: GenerationFailed, *, detail: str, wish: float | None
) -> GenerationFailed:
    """Why a submission was answered without a job, where elsewhere the answer means `failure`.

    In doubt, nobody knows whether it was taken. `wish` is for how long the provider wants to be
    left alone, in seconds.
    """
    if status in _NOT_TAKEN:
        return NotSubmitted(
            _Code.PROVIDER_RATE_LIMITED if status == 429 else _Code.PROVIDER_UNAVAILABLE,
            retry_after_seconds=wish,
            detail=detail,
        )
    if status < 400 or status in _UNCLEAR or status >= 500:
        return GenerationFailed(_Code.OUTCOME_UNKNOWN, retryable=True, detail=detail)
    return failure


def described(answer: Answer, words: Iterable[object], *, leave_out: Iterable[str]) -> str:
    """An answer for the log: its status, and what it says in the provider's own shape."""
    if answer.fields() is None:
        # Such a body is not the provider's, and may be anything.
        kind = answer.headers.get("content-type", "unnamed")
        told = f"{len(answer.body)} bytes of {kind}"
    else:
        told = ", ".join(str(word) for word in words if word)
    return quoted(f"HTTP {answer.status}: {told}", leave_out=leave_out)
