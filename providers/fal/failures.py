"""The meaning of fal's errors.

`error_type` and `detail[].type` decide, then the status; never a message. fal's own words go into
`detail`, which is for the log.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from domain.errors import GenerationErrorCode, GenerationFailed
from providers import failures
from providers.failures import (
    KINDS,
    NO_IMAGE,
    TIMED_OUT,
    UNAVAILABLE,
    Meaning,
    describe,
    is_credentials,
    is_transient,
    known_meaning,
    meaning_of,
)
from providers.http import Answer
from providers.lenient import objects_of

_MAX_DETAILS: Final = 3
_YES_OR_NO: Final = {"true": True, "1": True, "false": False, "0": False}

_Code = GenerationErrorCode
_BY_TYPE: Final[Mapping[str, Meaning]] = {
    **KINDS,
    "no_media_generated": NO_IMAGE,
    "internal_server_error": UNAVAILABLE,
    "downstream_service_unavailable": UNAVAILABLE,
    "downstream_service_error": Meaning(_Code.PROVIDER_UNAVAILABLE, False),
    "generation_timeout": TIMED_OUT,
    "startup_timeout": UNAVAILABLE,
    "request_timeout": UNAVAILABLE,
}
"""Types that are not here follow their status."""
_FAL_KNOWS_BETTER: Final = frozenset(
    {_Code.PROVIDER_UNAVAILABLE, _Code.PROVIDER_REJECTED_INPUT, _Code.TIMED_OUT}
)
"""Codes for which fal's own word decides whether trying again can help."""


def is_unclear(answer: Answer) -> bool:
    """Whether the response gives no reason, as fal does when a result is requested too early."""
    return answer.status == 400 and not _types(answer)


def is_final(answer: Answer, *, failed: bool) -> bool:
    """Whether the response is the end of a job, not a fault on the way to its result.

    `failed` is whether the job's status has reported an error, which not every fal server does.
    """
    if not is_transient(answer.status):
        return True
    if failed and is_in_fals_words(answer):
        return True
    return answer.status >= 500 and bool(_types(answer))


def is_in_fals_words(answer: Answer) -> bool:
    fields = answer.fields()
    return fields is not None and ("detail" in fields or "error_type" in fields)


def explain_submission(answer: Answer, *, leave_out: Iterable[str]) -> GenerationFailed:
    """The failure of a submission that was answered without a job."""
    return failures.explain_submission(
        answer.status,
        explain_answer(answer, leave_out=leave_out),
        retry_after=answer.retry_after_seconds,
    )


def explain_answer(answer: Answer, *, leave_out: Iterable[str]) -> GenerationFailed:
    """The meaning of an error that ended a job, or answered a call about it."""
    code, retryable = _meaning(answer)
    # fal's texts name the header in two ways.
    for header in ("x-fal-retryable", "x-fal-needs-retry"):
        hint = answer.headers.get(header, "").lower()
        if hint in _YES_OR_NO and code in _FAL_KNOWS_BETTER:
            retryable = _YES_OR_NO[hint]
            break
    return Meaning(code, retryable).failure(_detail(answer, leave_out))


def _meaning(answer: Answer) -> Meaning:
    if is_credentials(answer.status):
        return meaning_of(answer.status)
    if answer.headers.get("x-fal-request-timeout-type", "").lower() == "user":
        # The job has waited in the queue for the allowed time.
        return TIMED_OUT
    return known_meaning(_types(answer), _BY_TYPE) or meaning_of(answer.status)


def _types(answer: Answer) -> list[str]:
    fields = answer.fields() or {}
    kinds = [fields.get("error_type"), answer.headers.get("x-fal-error-type")]
    kinds += [detail.get("type") for detail in _details(fields)]
    return [kind for kind in kinds if isinstance(kind, str)]


def _details(fields: Mapping[str, object]) -> list[Mapping[str, object]]:
    """`detail` as fal's models write it: mostly a list, sometimes its only element."""
    return objects_of(fields.get("detail"))


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
    return describe(answer, words, leave_out=leave_out)
