"""What OpenRouter says when something fails, in our words.

What it calls the error decides, then why the model is not available, then the status; never a
message. A status is that of HTTP only where nothing had begun: later ones stand inside of an answer
that looks good, as a number or as a word.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from domain.errors import GenerationErrorCode, GenerationFailed
from providers.failures import described, meaning_of, of_submission
from providers.http import MAX_RETRY_AFTER_SECONDS, Answer, quoted

Fields = Mapping[str, object]
_Code = GenerationErrorCode
_REFUSED: Final = (_Code.CONTENT_REFUSED, False)
_OUR_ACCOUNT: Final = (_Code.PROVIDER_AUTHENTICATION, False)
_RETIRED: Final = (_Code.MODEL_RETIRED, False)
_REJECTED: Final = (_Code.PROVIDER_REJECTED_INPUT, False)
_FINAL: Final[Mapping[str, tuple[GenerationErrorCode, bool]]] = {
    **dict.fromkeys(
        ("content_policy_violation", "refusal", "moderation_blocked", "content_filter"), _REFUSED
    ),
    **dict.fromkeys(
        ("authentication", "permission_denied", "payment_required", "insufficient_quota"),
        _OUR_ACCOUNT,
    ),
    # What we allow others to do with our data keeps all of the model's providers out.
    "privacy_restricted": _OUR_ACCOUNT,
    **dict.fromkeys(("model_deprecated", "model_not_found"), _RETIRED),
    **dict.fromkeys(
        (
            *("context_length_exceeded", "max_tokens_exceeded", "string_too_long"),
            *("invalid_request", "invalid_prompt", "invalid_image", "image_too_large"),
            *("image_too_small", "unsupported_image_format", "image_not_found"),
            *("image_download_failed", "payload_too_large", "unprocessable"),
            "precondition_failed",
        ),
        _REJECTED,
    ),
}
"""Words that are as certain as anything, whatever the status: what they mean, and whether trying
again can help.
"""
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


def of_answer(answer: Answer, leave_out: Iterable[str]) -> GenerationFailed:
    """Why a request was answered without a result. In doubt, nobody knows whether it was made."""
    error = error_in(answer.fields()) or {}
    detail = described(answer, _words(error), leave_out=leave_out)
    certain = _certain(error, answer.status)
    code, retryable = certain or meaning_of(answer.status)
    failure = GenerationFailed(code, retryable=retryable, detail=detail)
    if certain is not None:
        return failure
    return of_submission(answer.status, failure, wish=_wish(error, answer))


def of_error(error: Fields, leave_out: Iterable[str]) -> GenerationFailed:
    """What an error means that stands inside of a good answer: it ends the run."""
    status = _status_in(error)
    code, retryable = _certain(error, status) or meaning_of(status)
    words = f"an error inside: {status}, {', '.join(_words(error))}"
    return GenerationFailed(code, retryable=retryable, detail=quoted(words, leave_out=leave_out))


def error_in(fields: Fields | None) -> Fields | None:
    """The error that an object tells of, if it does, wherever it is."""
    if fields is None:
        return None
    choices = fields.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    for place in (fields, first):
        error = place.get("error") if isinstance(place, dict) else None
        if isinstance(error, dict):
            return error
        if isinstance(error, str) and error:
            return {"message": error}
    return None


def _certain(error: Fields, status: int) -> tuple[GenerationErrorCode, bool] | None:
    """What the error's own words mean, where they leave no doubt."""
    known = [_FINAL[word] for word in _names(error) if word in _FINAL]
    metadata = _object(error.get("metadata"))
    flagged = status == 403 and ("reasons" in metadata or "flagged_input" in metadata)
    if flagged or _REFUSED in known:
        return _REFUSED
    return known[0] if known else None


def _names(error: Fields) -> list[str]:
    """All that it calls itself."""
    words = [
        _object(error.get("metadata")).get("error_type"),
        error.get("code"),
        error.get("type"),
        _object(error.get("availability")).get("code"),
        _object(_object(error.get("metadata")).get("availability")).get("code"),
    ]
    return [word for word in words if isinstance(word, str)]


def _status_in(error: Fields) -> int:
    """An error's status, where it stands inside of a good answer. In doubt, it is a server's."""
    code = error.get("code")
    if isinstance(code, int) and not isinstance(code, bool):
        return code
    if isinstance(code, str) and code.isascii() and code.isdecimal() and len(code) == 3:
        return int(code)
    return next((_STATUSES[word] for word in _names(error) if word in _STATUSES), 500)


def _wish(error: Fields, answer: Answer) -> float | None:
    wish = _object(error.get("availability")).get("retry_after")
    if isinstance(wish, int | float) and not isinstance(wish, bool) and wish >= 0:
        return min(float(wish), MAX_RETRY_AFTER_SECONDS)
    return answer.retry_after_seconds


def _object(value: object) -> Fields:
    return value if isinstance(value, dict) else {}


def _words(error: Fields) -> list[str]:
    provider = _object(error.get("metadata")).get("provider_name", "")
    told = [*dict.fromkeys(_names(error)), str(provider), str(error.get("message", ""))]
    return [word for word in told if word]
