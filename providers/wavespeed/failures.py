"""The meaning of Wavespeed's errors. Its own code decides, then the status; a message only if a
failed prediction has no code.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from domain.errors import GenerationFailed
from providers.failures import (
    REFUSED,
    REJECTED_INPUT,
    TIMED_OUT,
    UNAVAILABLE,
    Meaning,
    describe,
    explain_end,
    meaning_of,
)
from providers.http import Answer, quote
from providers.lenient import count_of, object_of, state_of

ENDS: Final[Mapping[str, Meaning]] = {
    "failed": UNAVAILABLE,
    "cancelled": UNAVAILABLE,
    "deleted": UNAVAILABLE,
    "timeout": TIMED_OUT,
}
"""How a prediction can end without images."""
_BY_CODE: Final[Mapping[int, Meaning]] = {
    1200: REFUSED,
    **dict.fromkeys((1400, 1401, 1402), REJECTED_INPUT),
    **dict.fromkeys((1403, 1405, 5000, 5003), UNAVAILABLE),
    5004: TIMED_OUT,
}


def data_of(answer: Answer) -> Mapping[str, object]:
    """The content of the envelope; empty where there is none."""
    return object_of((answer.fields() or {}).get("data"))


def explain_prediction(data: Mapping[str, object], *, leave_out: Iterable[str]) -> GenerationFailed:
    """The failure of a prediction that has ended without images."""
    status, words = state_of(data), str(data.get("error", ""))
    known = _known([data.get("code")])
    if known is None:
        return explain_end(status, words, ENDS, leave_out=leave_out)
    return known.failure(quote(f"{status}, {data.get('code')}, {words}", leave_out=leave_out))


def explain_answer(answer: Answer, *, leave_out: Sequence[str]) -> GenerationFailed:
    """The meaning of an error in a response."""
    fields = answer.fields() or {}
    text = [fields.get("error_code"), fields.get("code"), data_of(answer).get("code")]
    meaning = _known(text) or meaning_of(answer.status)
    return meaning.failure(describe(answer, [*text, fields.get("message")], leave_out=leave_out))


def _known(codes: Iterable[object]) -> Meaning | None:
    numbers = (count_of(code) or 0 for code in codes)
    return next((_BY_CODE[number] for number in numbers if number in _BY_CODE), None)
