"""What fal says when something fails, in our words.

`error_type` and `detail[].type` decide, then the status; never a message. What fal says itself goes
into `detail`, which is for the log.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from domain.errors import GenerationErrorCode, GenerationFailed, NotSubmitted
from providers.http import Answer, quoted

_NOT_TAKEN: Final = frozenset({429, 500, 503, 529})
"""Answers to a submission that say for certain that no job was taken."""
_TRANSIENT: Final = frozenset({408, 409, 425, 429})
_UNCLEAR: Final = frozenset({408, 499})
_CREDENTIALS: Final = frozenset({401, 402, 403})
_GONE: Final = frozenset({404, 410})
_CANCELLED: Final = 499
_MAX_DETAILS: Final = 3
_YES_OR_NO: Final = {"true": True, "1": True, "false": False, "0": False}

_Code = GenerationErrorCode
_BY_TYPE: Final[Mapping[str, tuple[GenerationErrorCode, bool]]] = {
    "content_policy_violation": (_Code.CONTENT_REFUSED, False),
    "no_media_generated": (_Code.NO_IMAGE, True),
    "internal_server_error": (_Code.PROVIDER_UNAVAILABLE, True),
    "downstream_service_unavailable": (_Code.PROVIDER_UNAVAILABLE, True),
    "downstream_service_error": (_Code.PROVIDER_UNAVAILABLE, False),
    "generation_timeout": (_Code.TIMED_OUT, True),
    "startup_timeout": (_Code.PROVIDER_UNAVAILABLE, True),
    "request_timeout": (_Code.PROVIDER_UNAVAILABLE, True),
}
"""The code, and whether trying again can help. Types that are not here follow their status."""
_FAL_KNOWS_BETTER: Final = frozenset(
    {_Code.PROVIDER_UNAVAILABLE, _Code.PROVIDER_REJECTED_INPUT, _Code.TIMED_OUT}
)
"""Codes for which fal's own word goes, on whether trying again can help."""


def is_transient(answer: Answer) -> bool:
    """Whether a call that costs nothing is worth repeating after this answer."""
    return answer.status in _TRANSIENT or answer.status >= 500


def is_unclear(answer: Answer) -> bool:
    """Whether it gives no reason at all, as fal does where a result is asked for too early."""
    return answer.status == 400 and not _types(answer)


def is_the_jobs(answer: Answer, *, failed: bool) -> bool:
    """Whether this is what a job ended with, and no trouble on the way to it.

    `failed` is whether the job's status has told of an error. Not every fal server does that.
    """
    if not is_transient(answer):
        return True
    if failed and is_in_fals_words(answer):
        return True
    return answer.status >= 500 and bool(_types(answer))


def is_in_fals_words(answer: Answer) -> bool:
    fields = answer.fields()
    return fields is not None and ("detail" in fields or "error_type" in fields)


def of_submission(answer: Answer, *, leave_out: Iterable[str]) -> GenerationFailed:
    """Why a submission was answered without a job. In doubt, nobody knows whether it was taken."""
    status = answer.status
    if status in _NOT_TAKEN:
        return NotSubmitted(
            _Code.PROVIDER_RATE_LIMITED if status == 429 else _Code.PROVIDER_UNAVAILABLE,
            retry_after_seconds=answer.retry_after_seconds,
            detail=_detail(answer, leave_out),
        )
    if status < 400 or status in _UNCLEAR or status >= 500:
        return GenerationFailed(
            _Code.OUTCOME_UNKNOWN, retryable=True, detail=_detail(answer, leave_out)
        )
    return of_answer(answer, leave_out=leave_out)


def of_answer(answer: Answer, *, leave_out: Iterable[str]) -> GenerationFailed:
    """What an error means that a job ended with, or that a call about it was answered with."""
    code, retryable = _meaning(answer)
    # fal's texts name the header in two ways.
    for header in ("x-fal-retryable", "x-fal-needs-retry"):
        hint = answer.headers.get(header, "").lower()
        if hint in _YES_OR_NO and code in _FAL_KNOWS_BETTER:
            retryable = _YES_OR_NO[hint]
            break
    return GenerationFailed(code, retryable=retryable, detail=_detail(answer, leave_out))


def _meaning(answer: Answer) -> tuple[GenerationErrorCode, bool]:
    status = answer.status
    if status in _CREDENTIALS:
        return _Code.PROVIDER_AUTHENTICATION, False
    if answer.headers.get("x-fal-request-timeout-type", "").lower() == "user":
        # Our own limit for how long it may wait to be started.
        return _Code.TIMED_OUT, True
    known = [_BY_TYPE[kind] for kind in _types(answer) if kind in _BY_TYPE]
    if known:
        refused = _BY_TYPE["content_policy_violation"]
        return refused if refused in known else known[0]
    if status in _GONE:
        return _Code.MODEL_RETIRED, False
    if status == 429:
        return _Code.PROVIDER_RATE_LIMITED, True
    if status in _TRANSIENT or status == _CANCELLED or status >= 500:
        return _Code.PROVIDER_UNAVAILABLE, True
    if status >= 400:
        return _Code.PROVIDER_REJECTED_INPUT, False
    return _Code.PROVIDER_BAD_RESPONSE, True


def _types(answer: Answer) -> list[str]:
    fields = answer.fields() or {}
    kinds = [fields.get("error_type"), answer.headers.get("x-fal-error-type")]
    kinds += [detail.get("type") for detail in _details(fields)]
    return [kind for kind in kinds if isinstance(kind, str)]


def _details(fields: Mapping[str, object]) -> list[Mapping[str, object]]:
    """`detail` as fal's models write it: mostly a list, sometimes its only element."""
    found = fields.get("detail")
    listed = found if isinstance(found, list) else [found]
    return [detail for detail in listed if isinstance(detail, dict)]


def _detail(answer: Answer, leave_out: Iterable[str]) -> str:
    fields = answer.fields()
    if fields is None:
        # Such a body is not fal's, and may be anything.
        kind = answer.headers.get("content-type", "unnamed")
        return quoted(
            f"HTTP {answer.status}: {len(answer.body)} bytes of {kind}", leave_out=leave_out
        )
    words = list(dict.fromkeys(_types(answer)))
    for detail in _details(fields)[:_MAX_DETAILS]:
        location = detail.get("loc")
        if isinstance(location, list):
            words.append(".".join(str(part) for part in location))
        words.append(str(detail.get("msg", "")))
    if isinstance(fields.get("detail"), str):
        words.append(str(fields["detail"]))
    request_id = answer.headers.get("x-fal-request-id", "")
    told = ", ".join(filter(None, [*words, request_id]))
    return quoted(f"HTTP {answer.status}: {told}", leave_out=leave_out)
