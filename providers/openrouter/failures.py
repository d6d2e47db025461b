"""What OpenRouter's errors mean.

What it calls the error decides, then why the model is not available, then the status; never a
message. The status of HTTP counts only where nothing had begun: later errors stand inside an answer
that looks good, with a number or a word instead of a status.
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
    # Our own setting on what others may do with our data excludes all of the model's providers.
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
"""What stands where a status should."""


def explain_answer(answer: Answer, leave_out: Iterable[str]) -> GenerationFailed:
    """Why a request was answered without a result; OUTCOME_UNKNOWN where it may have been run."""
    error = error_in(answer.fields()) or {}
    detail = describe(answer, _words(error), leave_out=leave_out)
    certain = _certain(error, answer.status)
    if certain is not None:
        return mark_not_taken(answer.status, certain.failure(detail))
    failure = meaning_of(answer.status).failure(detail)
    return explain_submission(answer.status, failure, retry_after=_retry_hint(error, answer))


def explain_error(error: Fields, leave_out: Iterable[str]) -> GenerationFailed:
    """What an error inside a good answer means."""
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
    """What the error's own words mean, where they leave no doubt."""
    metadata = object_of(error.get("metadata"))
    if status == 403 and ("reasons" in metadata or "flagged_input" in metadata):
        return REFUSED
    return known_meaning(_names(error), _FINAL)


def _names(error: Fields) -> list[str]:
    """All that it calls itself."""
    words = [
        object_of(error.get("metadata")).get("error_type"),
        error.get("code"),
        error.get("type"),
        object_of(error.get("availability")).get("code"),
        object_of(object_of(error.get("metadata")).get("availability")).get("code"),
    ]
    return [word for word in words if isinstance(word, str)]


def _status_in(error: Fields) -> int:
    """An error's status, where it stands inside of a good answer. In doubt, it is a server's."""
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
    said = [*dict.fromkeys(_names(error)), str(provider), str(error.get("message", ""))]
    return [word for word in said if word]
