"""Answers of Gemini, complete or as a stream: why they end, and how many tokens they used."""

from collections.abc import Mapping
from typing import Final, Generic, TypeVar

from domain.errors import GenerationFailed
from domain.outputs import Usage
from providers.failures import (
    BAD_RESPONSE,
    NO_CREDENTIALS,
    REFUSED,
    REFUSING_ENDS,
    REJECTED_INPUT,
    Meaning,
)
from providers.gemini.failures import error_in, explain_error
from providers.http import quote
from providers.lenient import Fields, object_of, objects_of, pick, text_of
from providers.streaming_json import InlineJson
from providers.synchronous.dialect import LeaveOut
from providers.usage import usage_of

_FINISHES: Final[Mapping[str, Meaning]] = {
    **dict.fromkeys(REFUSING_ENDS, REFUSED),
    "LANGUAGE": REJECTED_INPUT,
    "PUP_LIMITED_DISABLED": NO_CREDENTIALS,
}
"""The meaning of reasons for which an answer ends without a result. With all others, the model has
made none.
"""

PartialT = TypeVar("PartialT")


class GeminiAnswer(Generic[PartialT]):
    """The answer to one run. Subclasses read its content."""

    def __init__(self, leave_out: LeaveOut) -> None:
        self._leave_out = leave_out
        self._texts: list[str] = []
        self._block = ""
        self._finishes: list[str] = []
        """The reason why the answer ends, which may come several times and before its result."""
        self._messages: list[str] = []
        """Gemini's explanation of it."""
        self._has_candidates = False
        self._is_answered = False
        """Whether anything has come that Gemini has written."""
        self.usage: Usage | None = None

    @property
    def has_result(self) -> bool:
        raise NotImplementedError

    @property
    def is_empty(self) -> bool:
        return not (self.has_result or self._block or self._finishes)

    @property
    def is_whole(self) -> bool:
        # Without any candidate there is nothing that could have been cut off.
        return not self.is_empty or (self._is_answered and not self._has_candidates)

    @property
    def is_ending(self) -> bool:
        return bool(self._block or self._finishes)

    def take(self, document: InlineJson, fields: Fields, /) -> list[PartialT]:
        """Take in an answer, or a part of a stream. Return its partial results."""
        partials: list[PartialT] = []
        for candidate in objects_of(fields.get("candidates")):
            self._has_candidates = True
            self._take_reason(candidate)
            for content in objects_of(candidate.get("content")):
                for part in objects_of(content.get("parts")):
                    partials += self._take_part(document, part)
        self._take_feedback(object_of(pick(fields, "promptFeedback", "prompt_feedback")))
        usage = pick(fields, "usageMetadata", "usage_metadata")
        self._is_answered = self._is_answered or "candidates" in fields or usage is not None
        self.usage = (
            usage_of(
                usage,
                input_name="promptTokenCount",
                output_names=("candidatesTokenCount", "thoughtsTokenCount"),
                total_name="totalTokenCount",
            )
            or self.usage
        )
        error = error_in(fields)
        if error is not None and not self.has_result:
            raise explain_error(error, self._leave_out)
        return partials

    def end(self) -> None:
        """Gemini's streams have no end mark."""

    def explain_end(self, otherwise: Meaning) -> GenerationFailed:
        """Why there is no result, with what the model has said about it."""
        if self._block:
            return REFUSED.failure(self._say(f"prompt blocked: {self._block}"))
        if not self._is_answered:
            return BAD_RESPONSE.failure("no candidates")
        # What the model says instead may repeat the prompt.
        count = len("".join(self._texts).strip())
        reasons = ", ".join(dict.fromkeys(self._finishes)) or "no reason"
        candidates = "" if self._has_candidates else "no candidates, "
        text = self._say(f"{candidates}{reasons}, {count} characters of text")
        return (self._known_end or otherwise).failure(text)

    @property
    def _known_end(self) -> Meaning | None:
        return next((_FINISHES[finish] for finish in self._finishes if finish in _FINISHES), None)

    def _take_part(self, document: InlineJson, part: Fields, /) -> list[PartialT]:
        """Take in a part of the result. Return the partial results in it."""
        raise NotImplementedError

    def _take_reason(self, candidate: Fields) -> None:
        reason = pick(candidate, "finishReason", "finish_reason")
        if reason:
            self._finishes.append(str(reason))
        self._messages.append(text_of(pick(candidate, "finishMessage", "finish_message")))

    def _take_feedback(self, feedback: Fields) -> None:
        reason = pick(feedback, "blockReason", "block_reason")
        if reason:
            self._block = str(reason)
            self._is_answered = True
        message = pick(feedback, "blockReasonMessage", "block_reason_message")
        self._messages.append(text_of(message))

    def _say(self, words: str) -> str:
        """A message with Gemini's own explanation, for the log."""
        text = [words, *filter(None, self._messages)]
        return quote("; ".join(text), leave_out=self._leave_out)
