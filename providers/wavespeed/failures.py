"""What Wavespeed says when something fails, in our words.

A code of its own decides, then the status; a message only where a failed prediction has no code.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from domain.errors import GenerationErrorCode, GenerationFailed
from providers.failures import described, meaning_of, sounds_like_refusal
from providers.http import Answer, quoted

_Code = GenerationErrorCode

ENDS: Final[Mapping[str, tuple[GenerationErrorCode, bool]]] = {
    "failed": (_Code.PROVIDER_UNAVAILABLE, True),
    "cancelled": (_Code.PROVIDER_UNAVAILABLE, True),
    "deleted": (_Code.PROVIDER_UNAVAILABLE, True),
    "timeout": (_Code.TIMED_OUT, True),
}
"""How a prediction can end without pictures: the code, and whether trying again can help."""
_BY_CODE: Final[Mapping[int, tuple[GenerationErrorCode, bool]]] = {
    1200: (_Code.CONTENT_REFUSED, False),
    1400: (_Code.PROVIDER_REJECTED_INPUT, False),
    1401: (_Code.PROVIDER_REJECTED_INPUT, False),
    1402: (_Code.PROVIDER_REJECTED_INPUT, False),
    1403: (_Code.PROVIDER_UNAVAILABLE, True),
    1405: (_Code.PROVIDER_UNAVAILABLE, True),
    5000: (_Code.PROVIDER_UNAVAILABLE, True),
    5003: (_Code.PROVIDER_UNAVAILABLE, True),
    5004: (_Code.TIMED_OUT, True),
}


def data_of(answer: Answer) -> Mapping[str, object]:
    """What is in the envelope; empty where there is none."""
    data = (answer.fields() or {}).get("data")
    return data if isinstance(data, dict) else {}


def of_prediction(data: Mapping[str, object], *, leave_out: Iterable[str]) -> GenerationFailed:
    """Why a prediction has ended without pictures."""
    words = quoted(f"{data.get('error', '')}", leave_out=leave_out)
    known = _known([data.get("code")])
    code, retryable = known or ENDS[str(data.get("status"))]
    if known is None and sounds_like_refusal(words):
        code, retryable = _Code.CONTENT_REFUSED, False
    told = f"{data.get('status')}, {data.get('code')}, {words}"
    return GenerationFailed(code, retryable=retryable, detail=quoted(told))


def of_answer(answer: Answer, *, leave_out: Sequence[str]) -> GenerationFailed:
    """What an error means that a call was answered with."""
    fields = answer.fields() or {}
    told = [fields.get("error_code"), fields.get("code"), data_of(answer).get("code")]
    code, retryable = _known(told) or meaning_of(answer.status)
    detail = described(answer, [*told, fields.get("message")], leave_out=leave_out)
    return GenerationFailed(code, retryable=retryable, detail=detail)


def _known(codes: Iterable[object]) -> tuple[GenerationErrorCode, bool] | None:
    return next(
        (_BY_CODE[code] for code in codes if isinstance(code, int) and code in _BY_CODE), None
    )
