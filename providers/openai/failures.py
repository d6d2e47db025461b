"""What OpenAI and Azure say when something fails, in our words.

`error.code` and `error.type` decide, then the status; never a message. What they say themselves
goes into `detail`, which is for the log.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from domain.errors import GenerationErrorCode, GenerationFailed
from providers import failures
from providers.failures import described, meaning_of
from providers.http import MAX_RETRY_AFTER_SECONDS, Answer, quoted, retry_after_seconds

Fields = Mapping[str, object]

_Code = GenerationErrorCode
_REFUSED: Final = (_Code.CONTENT_REFUSED, False)
_NO_CREDENTIALS: Final = (_Code.PROVIDER_AUTHENTICATION, False)
_BY_KIND: Final[Mapping[str, tuple[GenerationErrorCode, bool]]] = {
    "moderation_blocked": _REFUSED,
    "content_policy_violation": _REFUSED,
    "image_content_policy_violation": _REFUSED,
    "contentfilter": _REFUSED,
    "content_filter": _REFUSED,
    "responsibleaipolicyviolation": _REFUSED,
    "insufficient_quota": _NO_CREDENTIALS,
    "billing_hard_limit_reached": _NO_CREDENTIALS,
    "deploymentnotfound": _NO_CREDENTIALS,
    "model_not_found": (_Code.MODEL_RETIRED, False),
}
"""The code, and whether trying again can help, whatever the status is. Azure is not of one mind on
how it spells its codes: they are compared in small letters.
"""
_INSIDE: Final[Mapping[str, tuple[GenerationErrorCode, bool]]] = {
    "rate_limit_exceeded": (_Code.PROVIDER_RATE_LIMITED, True),
    "server_error": (_Code.PROVIDER_UNAVAILABLE, True),
    "invalid_request_error": (_Code.PROVIDER_REJECTED_INPUT, False),
    "image_generation_user_error": (_Code.PROVIDER_REJECTED_INPUT, False),
}
"""Of errors inside of a success, which has no status that would tell."""
_DURATION: Final = re.compile(r"(?:(\d{1,4})h)?(?:(\d{1,4})m(?!s))?(?:(\d{1,6}(?:\.\d+)?)(ms|s))?")


def of_answer(answer: Answer, leave_out: Iterable[str]) -> GenerationFailed:
    """Why a request was not answered with a success."""
    fields = error_in(answer.fields() or {}) or {}
    detail = described(answer, _words(fields, answer.headers), leave_out=leave_out)
    known = _known(fields)
    if known is not None:
        code, retryable = known
        return GenerationFailed(code, retryable=retryable, detail=detail)
    code, retryable = meaning_of(answer.status)
    return failures.of_submission(
        answer.status,
        GenerationFailed(code, retryable=retryable, detail=detail),
        wish=wish_in(answer.headers),
    )


def of_error(error: Fields, leave_out: Iterable[str]) -> GenerationFailed:
    """What an error means that came inside of a success."""
    known = [_known(error)]
    known += [_INSIDE[kind] for kind in _kinds(error) if kind in _INSIDE]
    status = _status_in(error)
    known += [meaning_of(status) if status is not None else (_Code.PROVIDER_BAD_RESPONSE, True)]
    code, retryable = next(filter(None, known))
    told = ", ".join(_words(error, {}))
    return GenerationFailed(
        code, retryable=retryable, detail=quoted(f"an error inside: {told}", leave_out=leave_out)
    )


def error_in(fields: Fields) -> Fields | None:
    """The error that an answer, or an event, tells of; None where it tells of none."""
    error = fields.get("error")
    if isinstance(error, dict):
        return error
    if error:
        return {"message": error}
    return fields if fields.get("type") == "error" else None


def is_filtered(item: Fields) -> bool:
    """Whether Azure says that it has kept this back."""
    results = item.get("content_filter_results")
    return isinstance(results, dict) and any(
        isinstance(result, dict) and result.get("filtered") is True for result in results.values()
    )


def wish_in(headers: Mapping[str, str]) -> float | None:
    """For how long we are asked to wait, in seconds; None where nothing is said.

    Azure says it in milliseconds too, which is more exact. OpenAI may only say when a limit that is
    used up begins anew.
    """
    milliseconds = headers.get("retry-after-ms", "")
    if milliseconds.isdecimal() and len(milliseconds) < 10:
        return min(int(milliseconds) / 1000, MAX_RETRY_AFTER_SECONDS)
    asked = retry_after_seconds(headers)
    if asked is not None:
        return asked
    resets = [
        _seconds(headers.get(f"x-ratelimit-reset-{what}", ""))
        for what in ("requests", "tokens")
        if headers.get(f"x-ratelimit-remaining-{what}") == "0"
    ]
    return max((seconds for seconds in resets if seconds is not None), default=None)


def _known(error: Fields) -> tuple[GenerationErrorCode, bool] | None:
    if any(is_filtered(inner) for inner in _inner(error)):
        return _REFUSED
    known = [_BY_KIND[kind] for kind in _kinds(error) if kind in _BY_KIND]
    return _REFUSED if _REFUSED in known else next(iter(known), None)


def _kinds(error: Fields) -> Iterator[str]:
    for part in (error, *_inner(error)):
        for name in ("code", "type"):
            kind = part.get(name)
            if isinstance(kind, str):
                yield kind.lower()


def _inner(error: Fields) -> Iterator[Fields]:
    """Azure's reasons, by either of its names for them."""
    for name in ("inner_error", "innererror"):
        inner = error.get(name)
        if isinstance(inner, dict):
            yield inner


def _status_in(error: Fields) -> int | None:
    """Azure's `code` may be a status, in digits."""
    code = str(error.get("code", ""))
    return int(code) if re.fullmatch(r"[45]\d\d", code) else None


def _words(error: Fields, headers: Mapping[str, str]) -> list[str]:
    words = [*dict.fromkeys(_kinds(error)), str(error.get("param") or "")]
    words += [str(error.get("message") or "")]
    words += [headers.get(name, "") for name in ("x-request-id", "apim-request-id")]
    return [word for word in words if word]


def _seconds(duration: str) -> float | None:
    """Such as `1s`, `6m0s` or `120ms`."""
    match = _DURATION.fullmatch(duration)
    if match is None or not duration:
        return None
    hours, minutes, amount, unit = match.groups()
    rest = float(amount or 0) / (1000 if unit == "ms" else 1)
    return min(int(hours or 0) * 3600 + int(minutes or 0) * 60 + rest, MAX_RETRY_AFTER_SECONDS)
