"""What Replicate says when something fails, in our words.

Calls fail with a status. Runs fail with a text alone, so it decides; codes in it are looked for
first.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from domain.errors import GenerationErrorCode, GenerationFailed
from providers.failures import described, meaning_of, sounds_like_refusal
from providers.http import MAX_RETRY_AFTER_SECONDS, Answer, quoted

_Code = GenerationErrorCode

ENDS: Final[Mapping[str, tuple[GenerationErrorCode, bool]]] = {
    "failed": (_Code.PROVIDER_UNAVAILABLE, True),
    "canceled": (_Code.PROVIDER_UNAVAILABLE, True),
    # Our own limit was over before it was started.
    "aborted": (_Code.TIMED_OUT, True),
}
"""How a prediction can end without pictures: the code, and whether trying again can help."""
_NO_VERSION: Final = "invalid version or not permitted"
_RESETS_IN: Final = re.compile(r"resets in ~?(\d{1,6})\s?s")


def of_prediction(fields: Mapping[str, object], *, leave_out: Iterable[str]) -> GenerationFailed:
    """Why a prediction has ended without pictures."""
    status = str(fields.get("status"))
    words = quoted(f"{fields.get('error') or ''}", leave_out=leave_out)
    code, retryable = ENDS[status]
    if status == "failed" and sounds_like_refusal(words):
        code, retryable = _Code.CONTENT_REFUSED, False
    return GenerationFailed(code, retryable=retryable, detail=quoted(f"{status}: {words}"))


def of_answer(answer: Answer, *, leave_out: Sequence[str]) -> GenerationFailed:
    """What an error means that a call was answered with."""
    fields = answer.fields() or {}
    title = str(fields.get("title", ""))
    words = quoted(f"{title}, {fields.get('detail', '')}", leave_out=leave_out)
    code, retryable = meaning_of(answer.status)
    if answer.status == 422 and title.lower() == _NO_VERSION:
        code = _Code.MODEL_RETIRED
    elif code is _Code.PROVIDER_REJECTED_INPUT and sounds_like_refusal(words):
        code = _Code.CONTENT_REFUSED
    return GenerationFailed(
        code, retryable=retryable, detail=described(answer, [words], leave_out=leave_out)
    )


def wish_of(answer: Answer) -> float | None:
    """For how many seconds Replicate wants to be left alone. Mostly only its text says so."""
    if answer.retry_after_seconds is not None or answer.status != 429:
        return answer.retry_after_seconds
    found = _RESETS_IN.search(str((answer.fields() or {}).get("detail", ""))[:1000])
    return min(float(found[1]), MAX_RETRY_AFTER_SECONDS) if found else None
