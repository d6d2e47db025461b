"""Translates failures, for all providers: by the status of a response, by words that several
providers share, and where no response came.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from domain.errors import GenerationErrorCode, GenerationFailed, NotSubmitted
from providers.http import Answer, NotSent, Unanswered, quote

_Code = GenerationErrorCode


class Meaning(NamedTuple):
    """A failure in Darkroom's terms."""

    code: GenerationErrorCode
    retryable: bool
    """Whether trying again may help."""

    def failure(self, detail: str) -> GenerationFailed:
        return GenerationFailed(self.code, retryable=self.retryable, detail=detail)


REFUSED: Final = Meaning(_Code.CONTENT_REFUSED, False)
NO_CREDENTIALS: Final = Meaning(_Code.PROVIDER_AUTHENTICATION, False)
RETIRED: Final = Meaning(_Code.MODEL_RETIRED, False)
REJECTED_INPUT: Final = Meaning(_Code.PROVIDER_REJECTED_INPUT, False)
RATE_LIMITED: Final = Meaning(_Code.PROVIDER_RATE_LIMITED, True)
UNAVAILABLE: Final = Meaning(_Code.PROVIDER_UNAVAILABLE, True)
BAD_RESPONSE: Final = Meaning(_Code.PROVIDER_BAD_RESPONSE, True)
OUTCOME_UNKNOWN: Final = Meaning(_Code.OUTCOME_UNKNOWN, True)
TIMED_OUT: Final = Meaning(_Code.TIMED_OUT, True)
NO_IMAGE: Final = Meaning(_Code.NO_IMAGE, True)
MISCONFIGURED: Final = Meaning(_Code.INTERNAL, False)
"""The catalogue and the provider's code do not agree."""

KINDS: Final[Mapping[str, Meaning]] = {
    "content_policy_violation": REFUSED,
    "moderation_blocked": REFUSED,
    "content_filter": REFUSED,
    "insufficient_quota": NO_CREDENTIALS,
    "model_not_found": RETIRED,
}
"""Names of errors that mean the same at every provider that uses them."""

REFUSING_ENDS: Final = frozenset(
    {
        *("content_filter", "refusal"),
        *("SAFETY", "IMAGE_SAFETY", "PROHIBITED_CONTENT", "IMAGE_PROHIBITED_CONTENT"),
        *("BLOCKLIST", "SPII", "RECITATION", "IMAGE_RECITATION", "ESCALATION", "MODEL_ARMOR"),
    }
)
"""Reasons for which an answer ends as refused, in the words of OpenAI, Anthropic and Gemini."""

_NOT_TAKEN: Final = frozenset({429, 500, 503, 529})
"""Statuses of responses to a submission after which it is certain that no job was accepted."""
_ONLY_HERE: Final = frozenset(
    {_Code.PROVIDER_AUTHENTICATION, _Code.PROVIDER_RATE_LIMITED, _Code.MODEL_RETIRED}
)
"""Failures that say nothing about what another provider of the model answers."""
_UNCLEAR: Final = frozenset({408, 499})
_TRANSIENT: Final = frozenset({408, 409, 425, 429})
_CREDENTIALS: Final = frozenset({401, 402, 403})
_GONE: Final = frozenset({404, 410})
_CANCELLED: Final = 499

_REFUSAL: Final = re.compile(
    r"\bnsfw\b|(?<![-\w])sensitive\b|\bE005\b|\bflagged\b|\bprohibited\b|\bsafety\b"
    r"|\bcontent (?:policy|moderation|filter)",
    re.IGNORECASE,
)


def is_transient(status: int) -> bool:
    """Whether a call without cost is worth repeating after this response."""
    return status in _TRANSIENT or status >= 500


def is_credentials(status: int) -> bool:
    """Whether the provider rejects the key, or the account has no credit."""
    return status in _CREDENTIALS


def is_gone(status: int) -> bool:
    """Whether the requested object does not exist."""
    return status in _GONE


def meaning_of(status: int) -> Meaning:
    if is_credentials(status):
        return NO_CREDENTIALS
    if is_gone(status):
        return RETIRED
    if status == 429:
        return RATE_LIMITED
    if is_transient(status) or status == _CANCELLED:
        return UNAVAILABLE
    return REJECTED_INPUT if status >= 400 else BAD_RESPONSE


def known_meaning(kinds: Iterable[str], meanings: Mapping[str, Meaning]) -> Meaning | None:
    """The meaning of an error that has several names. A refusal outweighs the others."""
    known = [meanings[kind] for kind in kinds if kind in meanings]
    return REFUSED if REFUSED in known else next(iter(known), None)


def explain_submission(
    status: int, failure: GenerationFailed, *, retry_after: float | None
) -> GenerationFailed:
    """The failure of a submission that was answered without a job, if the response usually means
    `failure`.

    OUTCOME_UNKNOWN if it is unclear whether the job was accepted. `retry_after` is how many seconds
    the provider asks to wait.
    """
    if status in _NOT_TAKEN:
        return NotSubmitted(
            _Code.PROVIDER_RATE_LIMITED if status == 429 else _Code.PROVIDER_UNAVAILABLE,
            retry_after_seconds=retry_after,
            detail=str(failure),
        )
    if status < 400 or status in _UNCLEAR or status >= 500:
        return OUTCOME_UNKNOWN.failure(str(failure))
    return mark_not_taken(status, failure)


def mark_not_taken(status: int, failure: GenerationFailed) -> GenerationFailed:
    """The failure of a submission. It is marked if its status makes it certain that no job was
    accepted and another provider may succeed: the fault is in the key or account at this provider,
    or in the provider, not in the input.
    """
    is_refused = status in _NOT_TAKEN or (400 <= status < 500 and status not in _UNCLEAR)
    failure.nothing_taken = is_refused and failure.code in _ONLY_HERE
    return failure


def explain_silence(silence: Unanswered) -> GenerationFailed:
    """The failure of a request that may be billed and got no response: `NotSubmitted` if it was
    never sent, else its outcome is unknown.
    """
    if isinstance(silence, NotSent):
        return NotSubmitted(_Code.PROVIDER_UNAVAILABLE, detail=f"not connected: {silence}")
    return OUTCOME_UNKNOWN.failure(f"no answer: {silence}")


def explain_error_inside(
    meaning: Meaning, words: Iterable[object], *, leave_out: Iterable[str]
) -> GenerationFailed:
    """An error inside a successful response: it ends the run."""
    text = ", ".join(str(word) for word in words)
    return meaning.failure(quote(f"an error inside: {text}", leave_out=leave_out))


def explain_end(
    status: str, words: str, ends: Mapping[str, Meaning], *, leave_out: Iterable[str]
) -> GenerationFailed:
    """The failure of a prediction that ended without images and says only in words why."""
    text = quote(words, leave_out=leave_out)
    meaning = REFUSED if sounds_like_refusal(text) else ends[status]
    return meaning.failure(quote(f"{status}: {text}"))


def describe(answer: Answer, words: Iterable[object], *, leave_out: Iterable[str]) -> str:
    """Describe a response for the log: its status, and what it says in the provider's own shape."""
    if answer.fields() is None:
        # Such a body is not the provider's, and may contain anything.
        kind = answer.headers.get("content-type", "unnamed")
        text = f"{len(answer.body)} bytes of {kind}"
    else:
        text = ", ".join(str(word) for word in words if word)
    return quote(f"HTTP {answer.status}: {text}", leave_out=leave_out)


def sounds_like_refusal(words: str) -> bool:
    """Whether a text says that something was refused for its content, for providers without a code
    for it. Quotations of the prompt must have been removed.
    """
    return _REFUSAL.search(words) is not None
