"""The meaning of OpenRouter's errors.

The error's own type decides, then why the model is not available, then the status; never a message.
The status of HTTP counts only if nothing had begun: later errors stand inside a successful
response, with a number or a word instead of a status.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from domain.errors import GenerationFailed
from outbound.retry_after import MAX_RETRY_AFTER_SECONDS
from providers.failures import (
    KINDS,
    NO_CREDENTIALS,
    REFUSED,
    REJECTED_INPUT,
    RETIRED,
    Meaning,
    describe,
    explain_error_inside,
    explain_submission,
    known_meaning,
    mark_not_taken,
    meaning_of,
)
from providers.http import Answer
from providers.lenient import Fields, count_of, object_of, objects_of

_FINAL: Final[Mapping[str, Meaning]] = {
    **KINDS,
    "refusal": REFUSED,
    **dict.fromkeys(("authentication", "permission_denied", "payment_required"), NO_CREDENTIALS),
    # The account's privacy setting excludes all providers of the model.
    "privacy_restricted": NO_CREDENTIALS,
    "model_deprecated": RETIRED,
    **dict.fromkeys(
        (
            *("context_length_exceeded", "max_tokens_exceeded", "string_too_long"),
            *("invalid_request", "invalid_prompt", "invalid_image", "image_too_large"),
            *("image_too_small", "unsupported_image_format", "image_not_found"),
            *("image_download_failed", "payload_too_large", "unprocessable"),
            "precondition_failed",
        ),
        REJECTED_INPUT,
    ),
}
"""Words that are certain, whatever the status is."""
_STATUSES: Final = {
    "not_found": 404,
    "rate_limit_exceeded": 429,
    "timeout": 504,
    "server": 500,
    "server_error": 500,
    "provider_overloaded": 529,
    "capacity_exhausted": 503,
    "provider_unavailable": 503,
    "temporarily_unavailable": 503,
}
"""Words in place of a status."""


def explain_answer(answer: Answer, leave_out: Iterable[str]) -> GenerationFailed:
    """The failure of a request that was answered without a result; OUTCOME_UNKNOWN if it may have
    run.
    """
    error = error_in(answer.fields()) or {}
    detail = describe(answer, _words(error), leave_out=leave_out)
    certain = _certain(error, answer.status)
    if certain is not None:
        return mark_not_taken(answer.status, certain.failure(detail))
    failure = meaning_of(answer.status).failure(detail)
    return explain_submission(answer.status, failure, retry_after=_retry_hint(error, answer))


def explain_error(error: Fields, leave_out: Iterable[str]) -> GenerationFailed:
    """The meaning of an error inside a successful response."""
    status = _status_in(error)
    meaning = _certain(error, status) or meaning_of(status)
    return explain_error_inside(meaning, [status, *_words(error)], leave_out=leave_out)


def error_in(fields: Fields | None) -> Fields | None:
    """The error in an object, wherever it stands; None where there is none."""
    if fields is None:
        return None
    for place in (fields, *objects_of(fields.get("choices"))[:1]):
        error = place.get("error")
        if isinstance(error, dict):
            return error
        if isinstance(error, str) and error:
            return {"message": error}
    return None


def _certain(error: Fields, status: int) -> Meaning | None:
    """The meaning of the error's own words, if they are unambiguous."""
    metadata = object_of(error.get("metadata"))
    if status == 403 and ("reasons" in metadata or "flagged_input" in metadata):
        return REFUSED
    return known_meaning(_names(error), _FINAL)


def _names(error: Fields) -> list[str]:
    """All names of the error."""
    words = [
        object_of(error.get("metadata")).get("error_type"),
        error.get("code"),
        error.get("type"),
        object_of(error.get("availability")).get("code"),
        object_of(object_of(error.get("metadata")).get("availability")).get("code"),
    ]
    return [word for word in words if isinstance(word, str)]


def _status_in(error: Fields) -> int:
    """The status of an error inside a successful response. In doubt, it is a server error."""
    code = count_of(error.get("code"))
    if code is not None:
        return code
    return next((_STATUSES[word] for word in _names(error) if word in _STATUSES), 500)


def _retry_hint(error: Fields, answer: Answer) -> float | None:
    retry_after = object_of(error.get("availability")).get("retry_after")
    if (
        isinstance(retry_after, int | float)
        and not isinstance(retry_after, bool)
        and retry_after >= 0
    ):
        return min(float(retry_after), MAX_RETRY_AFTER_SECONDS)
    return answer.retry_after_seconds


def _words(error: Fields) -> list[str]:
    provider = object_of(error.get("metadata")).get("provider_name", "")
    text = [*dict.fromkeys(_names(error)), str(provider), str(error.get("message", ""))]
    return [word for word in text if word]
