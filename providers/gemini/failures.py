"""What Gemini says when something fails, in our words.

The reasons and the status in the body decide, then the status of HTTP; never a message. Refusals
are no failures to Gemini: they are in `wire.py`.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from domain.errors import GenerationErrorCode, GenerationFailed, NotSubmitted
from providers.http import MAX_RETRY_AFTER_SECONDS, Answer, quoted

_NOT_TAKEN: Final = frozenset({429, 500, 503, 529})
"""Answers that say for certain that nothing was made."""
_UNCLEAR: Final = frozenset({408, 499})
_CREDENTIALS: Final = frozenset({401, 402, 403})
_GONE: Final = frozenset({404, 410})
_BAD_KEY: Final = "API_KEY_INVALID"
_FOR_THE_OPERATOR: Final = "FAILED_PRECONDITION"
"""Google does not serve this account: its country, or its bill."""
_PER_DAY: Final = "PerDay"
_DELAY: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)s")
_MAX_DETAILS: Final = 20

Fields = Mapping[str, object]
_Code = GenerationErrorCode


def of_answer(answer: Answer, leave_out: Iterable[str]) -> GenerationFailed:
    """Why a request was answered without a result. In doubt, nobody knows whether it was made."""
    error = error_in(_object(answer)) or {}
    status = answer.status
    detail = _detail(answer, error, leave_out)
    if status == 429 and _is_over_for_today(error):
        return GenerationFailed(_Code.PROVIDER_RATE_LIMITED, retryable=True, detail=detail)
    if status in _NOT_TAKEN:
        return NotSubmitted(
            _Code.PROVIDER_RATE_LIMITED if status == 429 else _Code.PROVIDER_UNAVAILABLE,
            retry_after_seconds=_wish(error, answer),
            detail=detail,
        )
    if status < 400 or status in _UNCLEAR or status >= 500:
        return GenerationFailed(_Code.OUTCOME_UNKNOWN, retryable=True, detail=detail)
    code, retryable = _meaning(error, status)
    return GenerationFailed(code, retryable=retryable, detail=detail)


def of_error(error: Fields, leave_out: Iterable[str]) -> GenerationFailed:
    """What an error means that stands inside of a good answer: it ends the run."""
    told = error.get("code")
    status = told if isinstance(told, int) and not isinstance(told, bool) else 500
    code, retryable = _meaning(error, status)
    return GenerationFailed(
        code, retryable=retryable, detail=quoted(_words(status, error), leave_out=leave_out)
    )


def error_in(fields: Fields | None) -> Fields | None:
    """The error that an object tells of, if it does."""
    error = fields.get("error") if fields is not None else None
    return error if isinstance(error, dict) else None


def _meaning(error: Fields, status: int) -> tuple[GenerationErrorCode, bool]:
    reasons = {detail.get("reason") for detail in _details(error)}
    if status in _CREDENTIALS or _BAD_KEY in reasons or error.get("status") == _FOR_THE_OPERATOR:
        return _Code.PROVIDER_AUTHENTICATION, False
    if status in _GONE:
        return _Code.MODEL_RETIRED, False
    if status == 429:
        return _Code.PROVIDER_RATE_LIMITED, True
    if status in _UNCLEAR or status >= 500:
        return _Code.PROVIDER_UNAVAILABLE, True
    return _Code.PROVIDER_REJECTED_INPUT, False


def _is_over_for_today(error: Fields) -> bool:
    violations = [
        violation
        for detail in _details(error)
        if isinstance(listed := detail.get("violations"), list)
        for violation in listed[:_MAX_DETAILS]
        if isinstance(violation, dict)
    ]
    return any(_PER_DAY in str(violation.get("quotaId", "")) for violation in violations)


def _wish(error: Fields, answer: Answer) -> float | None:
    for detail in _details(error):
        delay = _DELAY.fullmatch(str(detail.get("retryDelay", "")))
        if delay is not None:
            return min(float(delay[1]), MAX_RETRY_AFTER_SECONDS)
    return answer.retry_after_seconds


def _details(error: Fields) -> list[Fields]:
    found = error.get("details")
    listed = found[:_MAX_DETAILS] if isinstance(found, list) else []
    return [detail for detail in listed if isinstance(detail, dict)]


def _object(answer: Answer) -> Fields | None:
    """The body's fields; a stream's error is the only element of a list."""
    return (
        answer.fields()
        or Answer(
            answer.status, answer.headers, answer.body.strip().removeprefix(b"[").removesuffix(b"]")
        ).fields()
    )


def _detail(answer: Answer, error: Fields, leave_out: Iterable[str]) -> str:
    if error:
        return quoted(_words(answer.status, error), leave_out=leave_out)
    # Such a body is not Google's, and may be anything.
    kind = answer.headers.get("content-type", "unnamed")
    return quoted(f"HTTP {answer.status}: {len(answer.body)} bytes of {kind}", leave_out=leave_out)


def _words(status: int, error: Fields) -> str:
    reasons = [str(detail.get("reason", "")) for detail in _details(error)]
    told = [str(error.get("status", "")), *reasons, str(error.get("message", ""))]
    return f"HTTP {status}: {', '.join(filter(None, told))}"
