"""What Gemini says when something fails, in our words.

The reasons and the status in the body decide, then the status of HTTP; never a message. Refusals
are no failures to Gemini: they are in `wire.py`.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from domain.errors import GenerationErrorCode, GenerationFailed
from providers.failures import described, meaning_of, of_submission
from providers.http import MAX_RETRY_AFTER_SECONDS, Answer, quoted

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
    detail = described(answer, _words(error), leave_out=leave_out)
    code, retryable = _meaning(error, answer.status)
    failure = GenerationFailed(code, retryable=retryable, detail=detail)
    if code is _Code.PROVIDER_RATE_LIMITED and _is_over_for_today(error):
        return failure
    return of_submission(answer.status, failure, wish=_wish(error, answer))


def of_error(error: Fields, leave_out: Iterable[str]) -> GenerationFailed:
    """What an error means that stands inside of a good answer: it ends the run."""
    told = error.get("code")
    status = told if isinstance(told, int) and not isinstance(told, bool) else 500
    code, retryable = _meaning(error, status)
    words = f"an error inside: {status}, {', '.join(_words(error))}"
    return GenerationFailed(code, retryable=retryable, detail=quoted(words, leave_out=leave_out))


def error_in(fields: Fields | None) -> Fields | None:
    """The error that an object tells of, if it does."""
    error = fields.get("error") if fields is not None else None
    return error if isinstance(error, dict) else None


def _meaning(error: Fields, status: int) -> tuple[GenerationErrorCode, bool]:
    reasons = {detail.get("reason") for detail in _details(error)}
    if _BAD_KEY in reasons or error.get("status") == _FOR_THE_OPERATOR:
        return _Code.PROVIDER_AUTHENTICATION, False
    return meaning_of(status)


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
    inner = answer.body.strip().removeprefix(b"[").removesuffix(b"]")
    return Answer(answer.status, answer.headers, inner).fields()


def _words(error: Fields) -> list[str]:
    reasons = [str(detail.get("reason", "")) for detail in _details(error)]
    told = [str(error.get("status", "")), *reasons, str(error.get("message", ""))]
    return [word for word in told if word]
