"""What Gemini's image models are sent by `generateContent`, and what they answer.

An answer comes whole or as a stream of its parts. Pictures stand between texts, and pictures that
the model makes while it thinks stand between the results.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from domain.errors import GenerationFailed
from domain.generation import DeliveredImage, Delivery, GenerationRequest
from domain.outputs import Usage
from providers.base64 import looks_like_picture
from providers.endpoints import endpoint_of
from providers.failures import (
    BAD_RESPONSE,
    NO_CREDENTIALS,
    NO_IMAGE,
    REFUSED,
    REJECTED_INPUT,
    Meaning,
)
from providers.gemini.failures import error_in, explain_error
from providers.http import quote
from providers.lenient import Fields, is_yes, object_of, objects_of, pick, text_of
from providers.references import Reference
from providers.seeds import seed_of
from providers.streaming_json import InlineJson
from providers.synchronous.dialect import LeaveOut, Partial
from providers.usage import usage_of
from providers.vocabulary import RESOLUTIONS

PICTURES: Final = frozenset({"data"})
MAX_REQUEST_BYTES: Final = 20_000_000
"""Google's limit of a request that carries its references itself."""

_IMAGE: Final = "image/"
_MAX_TEXT_LENGTH: Final = 10_000
_SPARE_BYTES: Final = 200_000
"""For all that is not a reference: mainly the prompt."""

_REFUSALS: Final = frozenset(
    {
        *("SAFETY", "IMAGE_SAFETY", "PROHIBITED_CONTENT", "IMAGE_PROHIBITED_CONTENT"),
        *("BLOCKLIST", "SPII", "RECITATION", "IMAGE_RECITATION", "ESCALATION", "MODEL_ARMOR"),
    }
)
_FINISHES: Final[Mapping[str, Meaning]] = {
    **dict.fromkeys(_REFUSALS, REFUSED),
    "LANGUAGE": REJECTED_INPUT,
    "PUP_LIMITED_DISABLED": NO_CREDENTIALS,
}
"""What the end of an answer without a picture means. All others: the model has made none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """How one model wants to be asked: the `wire` of a row."""

    takes_resolution: bool = True
    thinks: bool = True
    """Whether it makes pictures while it thinks, which can be shown as previews."""


def path_of(request: GenerationRequest) -> str:
    name, endpoint = endpoint_of(request, Endpoint)
    verb = (
        "streamGenerateContent?alt=sse" if _wants_thoughts(request, endpoint) else "generateContent"
    )
    return f"v1beta/models/{name}:{verb}"


def bytes_for_references(request: GenerationRequest) -> int:
    """How many all references may have together, before they are written as base64."""
    return max(0, MAX_REQUEST_BYTES - _SPARE_BYTES - 6 * len(request.prompt)) // 4 * 3


def body_of(request: GenerationRequest, references: Sequence[Reference]) -> Fields:
    """For one picture."""
    _, endpoint = endpoint_of(request, Endpoint)
    shape = {"aspectRatio": str(request.aspect_ratio)}
    if endpoint.takes_resolution:
        shape["imageSize"] = RESOLUTIONS[request.resolution]
    config: dict[str, object] = {
        # Without text a model that refuses in words would have nothing to say.
        "responseModalities": ["TEXT", "IMAGE"],
        "imageConfig": shape,
    }
    seed = seed_of(request)
    if seed is not None:
        config["seed"] = seed
    if _wants_thoughts(request, endpoint):
        config["thinkingConfig"] = {"includeThoughts": True}
    parts: list[Fields] = [{"text": request.prompt}]
    parts += [
        {"inlineData": {"mimeType": one.content_type, "data": one.as_base64()}}
        for one in references
    ]
    return {"contents": [{"role": "user", "parts": parts}], "generationConfig": config}


def _wants_thoughts(request: GenerationRequest, endpoint: Endpoint) -> bool:
    return endpoint.thinks and request.preview_count > 0


class GeminiReply:
    """The answer to one run."""

    def __init__(self, request: GenerationRequest, leave_out: LeaveOut) -> None:
        self._request = request
        self._leave_out = leave_out
        self._texts: list[str] = []
        self._block = ""
        self._finishes: list[str] = []
        """Why the answer ends, which may be said several times and before its picture."""
        self._messages: list[str] = []
        """What Gemini says of it."""
        self._has_candidates = False
        self._is_answered = False
        """Whether anything has come that is Gemini's."""
        self._has_empty_picture = False
        self._usage: Usage | None = None
        self._pictures: list[bytes] = []

    @property
    def pictures(self) -> Sequence[bytes]:
        return self._pictures[: self._request.image_count]

    @property
    def is_empty(self) -> bool:
        return not (self._pictures or self._block or self._finishes)

    @property
    def is_whole(self) -> bool:
        # Without any candidate there is nothing that could have been cut off.
        return not self.is_empty or (self._is_answered and not self._has_candidates)

    @property
    def is_ending(self) -> bool:
        return bool(self._block or self._finishes)

    @property
    def has_ended(self) -> bool:
        return self.is_ending and len(self._pictures) >= self._request.image_count

    def take(self, document: InlineJson, fields: Fields) -> list[Partial]:
        """Take in an answer, or a part of one that is streamed; the pictures of its thoughts."""
        thoughts: list[Partial] = []
        for candidate in objects_of(fields.get("candidates")):
            self._has_candidates = True
            self._take_reason(candidate)
            for content in objects_of(candidate.get("content")):
                for part in objects_of(content.get("parts")):
                    thoughts += self._take_part(document, part)
        self._take_feedback(object_of(pick(fields, "promptFeedback", "prompt_feedback")))
        usage = pick(fields, "usageMetadata", "usage_metadata")
        self._is_answered = self._is_answered or "candidates" in fields or usage is not None
        self._usage = (
            usage_of(
                usage,
                input_name="promptTokenCount",
                output_names=("candidatesTokenCount", "thoughtsTokenCount"),
                total_name="totalTokenCount",
            )
            or self._usage
        )
        error = error_in(fields)
        if error is not None and not self._pictures:
            raise explain_error(error, self._leave_out)
        return thoughts

    def failure(self) -> GenerationFailed:
        """Why there are no pictures, with what the model has said of it."""
        if self._block:
            return REFUSED.failure(self._say(f"prompt blocked: {self._block}"))
        known = next((_FINISHES[one] for one in self._finishes if one in _FINISHES), None)
        if known is None and self._has_empty_picture:
            return BAD_RESPONSE.failure("a picture without any bytes")
        if not self._is_answered:
            return BAD_RESPONSE.failure("no candidates")
        # What the model says instead may repeat what it was asked.
        count = len("".join(self._texts).strip())
        reasons = ", ".join(dict.fromkeys(self._finishes)) or "no reason"
        candidates = "" if self._has_candidates else "no candidates, "
        said = self._say(f"{candidates}{reasons}, {count} characters of text")
        return (known or NO_IMAGE).failure(said)

    def delivery(self, pictures: Sequence[bytes]) -> Delivery:
        seed = seed_of(self._request)
        text = "".join(self._texts).strip()
        return Delivery(
            images=tuple(
                DeliveredImage(picture, None if seed is None else str(seed)) for picture in pictures
            ),
            text=text[:_MAX_TEXT_LENGTH] or None,
            usage=self._usage,
        )

    def _take_part(self, document: InlineJson, part: Fields) -> list[Partial]:
        """Take in a part of the result; the picture of a thought."""
        is_thought = is_yes(part.get("thought"))
        thoughts: list[Partial] = []
        for inline in objects_of(pick(part, "inlineData", "inline_data")):
            kind = text_of(pick(inline, "mimeType", "mime_type")).strip().lower()
            data = document.take(inline.get("data")) or b""
            if not (kind.startswith(_IMAGE) or not kind or looks_like_picture(data)):
                continue
            if is_thought:
                thoughts += [Partial(data)] if data else []
            elif data:
                self._pictures.append(data)
            else:
                self._has_empty_picture = True
        if not is_thought:
            self._texts.append(text_of(part.get("text")))
        return thoughts

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
        """The words with Gemini's own, for the log."""
        said = [words, *filter(None, self._messages)]
        return quote("; ".join(said), leave_out=self._leave_out)
