"""The meaning of errors of OpenAI and Azure.

`error.code` and `error.type` decide, then the status; never a message. Their own words go into
`detail`, which is for the log.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from domain.errors import GenerationFailed
from outbound.retry_after import MAX_RETRY_AFTER_SECONDS, retry_after_seconds
from providers import failures
from providers.failures import (
    BAD_RESPONSE,
    KINDS,
    NO_CREDENTIALS,
    RATE_LIMITED,
    REFUSED,
    REJECTED_INPUT,
    UNAVAILABLE,
    Meaning,
    describe,
    explain_error_inside,
    known_meaning,
    meaning_of,
)
from providers.http import Answer
from providers.lenient import Fields

_BY_KIND: Final[Mapping[str, Meaning]] = {
    **KINDS,
    "image_content_policy_violation": REFUSED,
    "contentfilter": REFUSED,
    "responsibleaipolicyviolation": REFUSED,
    "billing_hard_limit_reached": NO_CREDENTIALS,
    "deploymentnotfound": NO_CREDENTIALS,
}
"""Codes that decide whatever the status is, in lower case: Azure writes its codes in
several ways.
"""
_INSIDE: Final[Mapping[str, Meaning]] = {
    "rate_limit_exceeded": RATE_LIMITED,
    "server_error": UNAVAILABLE,
    "invalid_request_error": REJECTED_INPUT,
    "image_generation_user_error": REJECTED_INPUT,
}
"""For errors inside a successful response, where no status says what they mean."""
_DURATION: Final = re.compile(r"(?:(\d{1,4})h)?(?:(\d{1,4})m(?!s))?(?:(\d{1,6}(?:\.\d+)?)(ms|s))?")


def explain_answer(answer: Answer, leave_out: Iterable[str]) -> GenerationFailed:
    """The failure of a request that was not answered with a success."""
    fields = error_in(answer.fields() or {}) or {}
    detail = describe(answer, _words(fields, answer.headers), leave_out=leave_out)
    known = _known(fields)
    if known is not None:
        return failures.mark_not_taken(answer.status, known.failure(detail))
    failure = meaning_of(answer.status).failure(detail)
    return failures.explain_submission(
        answer.status, failure, retry_after=retry_hint(answer.headers)
    )


def explain_error(error: Fields, leave_out: Iterable[str]) -> GenerationFailed:
    """The meaning of an error inside a successful response."""
    meaning = _known(error) or next(
        (_INSIDE[kind] for kind in _kinds(error) if kind in _INSIDE), None
    )
    if meaning is None:
        status = _status_in(error)
        meaning = meaning_of(status) if status is not None else BAD_RESPONSE
    return explain_error_inside(meaning, _words(error, {}), leave_out=leave_out)


def error_in(fields: Fields) -> Fields | None:
    """The error in a response or an event; None where there is none."""
    error = fields.get("error")
    if isinstance(error, dict):
        return error
    if error:
        return {"message": error}
    return fields if fields.get("type") == "error" else None


def is_filtered(item: Fields) -> bool:
    """Whether Azure says that it has withheld this image."""
    results = item.get("content_filter_results")
    return isinstance(results, dict) and any(
        isinstance(result, dict) and result.get("filtered") is True for result in results.values()
    )


def retry_hint(headers: Mapping[str, str]) -> float | None:
    """How many seconds the provider asks to wait; None where it does not say.

    Azure gives milliseconds too, which is more exact. OpenAI may only say when an exhausted limit
    is reset.
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


def _known(error: Fields) -> Meaning | None:
    if any(is_filtered(inner) for inner in _inner(error)):
        return REFUSED
    return known_meaning(_kinds(error), _BY_KIND)


def _kinds(error: Fields) -> Iterator[str]:
    for part in (error, *_inner(error)):
        for name in ("code", "type"):
            kind = part.get(name)
            if isinstance(kind, str):
                yield kind.lower()


def _inner(error: Fields) -> Iterator[Fields]:
    """Azure's reasons, under either of its two names."""
    for name in ("inner_error", "innererror"):
        inner = error.get(name)
        if isinstance(inner, dict):
            yield inner


def _status_in(error: Fields) -> int | None:
    """Azure's `code` may be a status in digits."""
    code = str(error.get("code", ""))
    return int(code) if re.fullmatch(r"[45]\d\d", code) else None


def _words(error: Fields, headers: Mapping[str, str]) -> list[str]:
    words = [*dict.fromkeys(_kinds(error)), str(error.get("param") or "")]
    words += [str(error.get("message") or "")]
    words += [headers.get(name, "") for name in ("x-request-id", "apim-request-id")]
    return [word for word in words if word]


def _seconds(duration: str) -> float | None:
    """Parse a duration such as `1s`, `6m0s` or `120ms`."""
    match = _DURATION.fullmatch(duration)
    if match is None or not duration:
        return None
    hours, minutes, amount, unit = match.groups()
    rest = float(amount or 0) / (1000 if unit == "ms" else 1)
    return min(int(hours or 0) * 3600 + int(minutes or 0) * 60 + rest, MAX_RETRY_AFTER_SECONDS)
