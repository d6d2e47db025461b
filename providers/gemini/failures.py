"""The meaning of Gemini's errors.

The reasons and the status in the body decide, then the status of HTTP; never a message. Refusals
are not errors for Gemini: `wire.py` reads them.
"""

import re
from collections.abc import Iterable
from typing import Final

from domain.errors import GenerationFailed
from outbound.retry_after import MAX_RETRY_AFTER_SECONDS
from providers.failures import (
    NO_CREDENTIALS,
    RATE_LIMITED,
    Meaning,
    describe,
    explain_error_inside,
    explain_submission,
    mark_not_taken,
    meaning_of,
)
from providers.http import Answer
from providers.lenient import Fields, count_of, objects_of

_BAD_KEY: Final = "API_KEY_INVALID"
_FOR_THE_OPERATOR: Final = "FAILED_PRECONDITION"
"""Google does not serve this account, because of its country or its billing."""
_PER_DAY: Final = "PerDay"
_DELAY: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)s")
_MAX_DETAILS: Final = 20


def explain_answer(answer: Answer, leave_out: Iterable[str]) -> GenerationFailed:
    """The failure of a request that was answered without a result; OUTCOME_UNKNOWN if it may have
    run.
    """
    error = error_in(_object(answer)) or {}
    meaning = _meaning(error, answer.status)
    failure = meaning.failure(describe(answer, _words(error), leave_out=leave_out))
    if meaning == RATE_LIMITED and _is_quota_of_the_day(error):
        return mark_not_taken(answer.status, failure)
    return explain_submission(answer.status, failure, retry_after=_retry_hint(error, answer))


def explain_error(error: Fields, leave_out: Iterable[str]) -> GenerationFailed:
    """The meaning of an error inside a successful response."""
    status = count_of(error.get("code")) or 500
    meaning = _meaning(error, status)
    return explain_error_inside(meaning, [status, *_words(error)], leave_out=leave_out)


def error_in(fields: Fields | None) -> Fields | None:
    """The error in an object, if there is one."""
    return next(iter(objects_of((fields or {}).get("error"))), None)


def _meaning(error: Fields, status: int) -> Meaning:
    reasons = [detail.get("reason") for detail in _details(error)]
    if _BAD_KEY in reasons or error.get("status") == _FOR_THE_OPERATOR:
        return NO_CREDENTIALS
    return meaning_of(status)


def _is_quota_of_the_day(error: Fields) -> bool:
    violations = [
        violation
        for detail in _details(error)
        for violation in objects_of(detail.get("violations"))[:_MAX_DETAILS]
    ]
    return any(_PER_DAY in str(violation.get("quotaId", "")) for violation in violations)


def _retry_hint(error: Fields, answer: Answer) -> float | None:
    for detail in _details(error):
        delay = _DELAY.fullmatch(str(detail.get("retryDelay", "")))
        if delay is not None:
            return min(float(delay[1]), MAX_RETRY_AFTER_SECONDS)
    return answer.retry_after_seconds


def _details(error: Fields) -> list[Fields]:
    return objects_of(error.get("details"))[:_MAX_DETAILS]


def _object(answer: Answer) -> Fields | None:
    """The body's fields; a stream's error is the only element of a list."""
    inner = answer.body.strip().removeprefix(b"[").removesuffix(b"]")
    return Answer(answer.status, answer.headers, inner).fields()


def _words(error: Fields) -> list[str]:
    reasons = [str(detail.get("reason", "")) for detail in _details(error)]
    text = [str(error.get("status", "")), *reasons, str(error.get("message", ""))]
    return [word for word in text if word]
