"""What an answer's status means, where nothing in the answer says more, and what silence means."""

import re
from collections.abc import Iterable
from typing import Final

from domain.errors import GenerationErrorCode, GenerationFailed, NotSubmitted
from providers.http import Answer, NotSent, Unanswered, quoted

_NOT_TAKEN: Final = frozenset({429, 500, 503, 529})
"""Answers to a submission that say for certain that no job was taken."""
_UNCLEAR: Final = frozenset({408, 499})
_TRANSIENT: Final = frozenset({408, 409, 425, 429})
_CREDENTIALS: Final = frozenset({401, 402, 403})
_GONE: Final = frozenset({404, 410})
_CANCELLED: Final = 499

_REFUSAL: Final = re.compile(
    r"\bnsfw\b|(?<![-\w])sensitive\b|\bE005\b|\bflagged\b|\bprohibited\b|\bsafety\b"
    r"|\bcontent (?:policy|moderation|filter)",
    re.IGNORECASE,
)

_Code = GenerationErrorCode


def is_transient(status: int) -> bool:
    """Whether a call that costs nothing is worth repeating after this answer."""
    return status in _TRANSIENT or status >= 500


def is_credentials(status: int) -> bool:
    """Whether it is our key that is not taken, or has no credit."""
    return status in _CREDENTIALS


def is_gone(status: int) -> bool:
    """Whether what was asked for is not there, or not any more."""
    return status in _GONE


def meaning_of(status: int) -> tuple[GenerationErrorCode, bool]:
    """The code, and whether trying again can help."""
    if is_credentials(status):
        return _Code.PROVIDER_AUTHENTICATION, False
    if is_gone(status):
        return _Code.MODEL_RETIRED, False
    if status == 429:
        return _Code.PROVIDER_RATE_LIMITED, True
    if status in _TRANSIENT or status == _CANCELLED or status >= 500:
        return _Code.PROVIDER_UNAVAILABLE, True
    if status >= 400:
        return _Code.PROVIDER_REJECTED_INPUT, False
    return _Code.PROVIDER_BAD_RESPONSE, True


def of_submission(
    status: int, failure: GenerationFailed, *, wish: float | None
) -> GenerationFailed:
    """Why a submission was answered without a job, where elsewhere the answer means `failure`.

    In doubt, nobody knows whether it was taken. `wish` is for how long the provider wants to be
    left alone, in seconds.
    """
    if status in _NOT_TAKEN:
        return NotSubmitted(
            _Code.PROVIDER_RATE_LIMITED if status == 429 else _Code.PROVIDER_UNAVAILABLE,
            retry_after_seconds=wish,
            detail=str(failure),
        )
    if status < 400 or status in _UNCLEAR or status >= 500:
        return GenerationFailed(_Code.OUTCOME_UNKNOWN, retryable=True, detail=str(failure))
    return failure


def of_silence(silence: Unanswered) -> GenerationFailed:
    """Why a request that costs something got no answer: `NotSubmitted` where it was never sent,
    else nobody knows whether it was obeyed.
    """
    if isinstance(silence, NotSent):
        return NotSubmitted(_Code.PROVIDER_UNAVAILABLE, detail=f"not connected: {silence}")
    return unknown(f"no answer: {silence}")


def unavailable(silence: Unanswered) -> GenerationFailed:
    return GenerationFailed(_Code.PROVIDER_UNAVAILABLE, retryable=True, detail=str(silence))


def unknown(detail: str) -> GenerationFailed:
    return GenerationFailed(_Code.OUTCOME_UNKNOWN, retryable=True, detail=detail)


def bad(detail: str) -> GenerationFailed:
    return GenerationFailed(_Code.PROVIDER_BAD_RESPONSE, retryable=True, detail=detail)


def described(answer: Answer, words: Iterable[object], *, leave_out: Iterable[str]) -> str:
    """An answer for the log: its status, and what it says in the provider's own shape."""
    if answer.fields() is None:
        # Such a body is not the provider's, and may be anything.
        kind = answer.headers.get("content-type", "unnamed")
        told = f"{len(answer.body)} bytes of {kind}"
    else:
        told = ", ".join(str(word) for word in words if word)
    return quoted(f"HTTP {answer.status}: {told}", leave_out=leave_out)


def sounds_like_refusal(words: str) -> bool:
    """Whether something was refused for its content, by the words of a provider that has no code
    for it. What they repeat of the prompt must have been taken out.
    """
    return _REFUSAL.search(words) is not None
