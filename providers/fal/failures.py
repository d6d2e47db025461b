"""What fal says when something fails, in our words.

`error_type` and `detail[].type` decide, then the status; never a message. What fal says itself goes
into `detail`, which is for the log.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from domain.errors import GenerationErrorCode, GenerationFailed
from providers import failures
from providers.failures import described, is_credentials, is_transient, meaning_of
from providers.http import Answer

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


def is_unclear(answer: Answer) -> bool:
    """Whether it gives no reason at all, as fal does where a result is asked for too early."""
    return answer.status == 400 and not _types(answer)


def is_the_jobs(answer: Answer, *, failed: bool) -> bool:
    """Whether this is what a job ended with, and no trouble on the way to it.

    `failed` is whether the job's status has told of an error. Not every fal server does that.
    """
    if not is_transient(answer.status):
        return True
    if failed and is_in_fals_words(answer):
        return True
    return answer.status >= 500 and bool(_types(answer))


def is_in_fals_words(answer: Answer) -> bool:
    fields = answer.fields()
    return fields is not None and ("detail" in fields or "error_type" in fields)


def of_submission(answer: Answer, *, leave_out: Iterable[str]) -> GenerationFailed:
    """Why a submission was answered without a job."""
    return failures.of_submission(
        answer.status,
        of_answer(answer, leave_out=leave_out),
        detail=_detail(answer, leave_out),
        wish=answer.retry_after_seconds,
    )


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
    if is_credentials(answer.status):
        return meaning_of(answer.status)
    if answer.headers.get("x-fal-request-timeout-type", "").lower() == "user":
        # Our own limit for how long it may wait to be started.
        return _Code.TIMED_OUT, True
    known = [_BY_TYPE[kind] for kind in _types(answer) if kind in _BY_TYPE]
    if known:
        refused = _BY_TYPE["content_policy_violation"]
        return refused if refused in known else known[0]
    return meaning_of(answer.status)


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
    fields = answer.fields() or {}
    words = list(dict.fromkeys(_types(answer)))
    for detail in _details(fields)[:_MAX_DETAILS]:
        location = detail.get("loc")
        if isinstance(location, list):
            words.append(".".join(str(part) for part in location))
        words.append(str(detail.get("msg", "")))
    if isinstance(fields.get("detail"), str):
        words.append(str(fields["detail"]))
    words.append(answer.headers.get("x-fal-request-id", ""))
    return described(answer, words, leave_out=leave_out)
