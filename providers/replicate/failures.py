"""The meaning of Replicate's errors. Calls fail with a status. Runs fail with only a text, so the
text decides.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from domain.errors import GenerationFailed
from outbound.retry_after import MAX_RETRY_AFTER_SECONDS
from providers.failures import (
    REFUSED,
    REJECTED_INPUT,
    RETIRED,
    TIMED_OUT,
    UNAVAILABLE,
    Meaning,
    describe,
    explain_end,
    meaning_of,
    sounds_like_refusal,
)
from providers.http import Answer, quote
from providers.lenient import state_of

ENDS: Final[Mapping[str, Meaning]] = {
    "failed": UNAVAILABLE,
    "canceled": UNAVAILABLE,
    # The limit for the start, which Darkroom sets, had passed.
    "aborted": TIMED_OUT,
}
"""How a prediction can end without images."""
_NO_VERSION: Final = "invalid version or not permitted"
_RESETS_IN: Final = re.compile(r"resets in ~?(\d{1,6})\s?s")


def explain_prediction(
    fields: Mapping[str, object], *, leave_out: Iterable[str]
) -> GenerationFailed:
    """The failure of a prediction that has ended without images."""
    words = str(fields.get("error") or "")
    return explain_end(state_of(fields), words, ENDS, leave_out=leave_out)


def explain_answer(answer: Answer, *, leave_out: Sequence[str]) -> GenerationFailed:
    """The meaning of an error in a response."""
    fields = answer.fields() or {}
    title = str(fields.get("title", ""))
    words = quote(f"{title}, {fields.get('detail', '')}", leave_out=leave_out)
    meaning = meaning_of(answer.status)
    if answer.status == 422 and title.lower() == _NO_VERSION:
        meaning = RETIRED
    elif meaning == REJECTED_INPUT and sounds_like_refusal(words):
        meaning = REFUSED
    return meaning.failure(describe(answer, [words], leave_out=leave_out))


def retry_hint(answer: Answer) -> float | None:
    """How many seconds Replicate asks to wait. Usually only its text says so."""
    if answer.retry_after_seconds is not None or answer.status != 429:
        return answer.retry_after_seconds
    found = _RESETS_IN.search(str((answer.fields() or {}).get("detail", ""))[:1000])
    return min(float(found[1]), MAX_RETRY_AFTER_SECONDS) if found else None
