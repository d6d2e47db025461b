"""What Gemini's image models are sent by `generateContent`, and what they answer.

An answer comes whole or as a stream of its parts. Pictures stand between texts, and pictures that
the model makes while it thinks stand between the results.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from domain.generation import DeliveredImage, Delivery, GenerationRequest
from domain.outputs import Usage
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
from providers.references import Reference
from providers.seeds import seed_of
from providers.streaming_json import InlineJson
from providers.synchronous.dialect import Fields, Partial
from providers.usage import usage_of
from providers.vocabulary import RESOLUTIONS

PICTURES: Final = frozenset({"data"})
MAX_REQUEST_BYTES: Final = 20_000_000
"""Google's limit of a request that carries its references itself."""

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
    letters = len(request.prompt) + sum(map(len, request.earlier_messages))
    return max(0, MAX_REQUEST_BYTES - _SPARE_BYTES - 6 * letters) // 4 * 3


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
    # What the model answered is left out: without the signatures of its thoughts, which are not
    # kept, it does not accept its own pictures.
    turns = [[{"text": message}] for message in request.earlier_messages] + [parts]
    contents = [{"role": "user", "parts": one} for one in turns]
    return {"contents": contents, "generationConfig": config}


def _wants_thoughts(request: GenerationRequest, endpoint: Endpoint) -> bool:
    return endpoint.thinks and request.preview_count > 0


class GeminiReply:
    """The answer to one run."""

    def __init__(self, request: GenerationRequest, leave_out: tuple[str, ...]) -> None:
        self._request = request
        self._leave_out = leave_out
        self._pictures: list[bytes] = []
        self._texts: list[str] = []
        self._block = ""
        self._finish = ""
        self._usage: Usage | None = None

    @property
    def is_empty(self) -> bool:
        return not (self._pictures or self.has_ended)

    @property
    def has_ended(self) -> bool:
        return bool(self._block or self._finish)

    def take(self, document: InlineJson, fields: Fields) -> list[Partial]:
        """Take in an answer, or a part of one that is streamed; the pictures of its thoughts."""
        error = error_in(fields)
        if error is not None:
            raise explain_error(error, self._leave_out)
        feedback = fields.get("promptFeedback")
        if isinstance(feedback, dict) and feedback.get("blockReason"):
            self._block = str(feedback["blockReason"])
        candidates = fields.get("candidates")
        candidate = candidates[0] if isinstance(candidates, list) and candidates else None
        thoughts = []
        if isinstance(candidate, dict):
            if candidate.get("finishReason"):
                self._finish = str(candidate["finishReason"])
            for part in _parts_of(candidate):
                picture = _picture_in(document, part)
                if part.get("thought") is True:
                    thoughts += [Partial(picture)] if picture else []
                    continue
                if picture:
                    self._pictures.append(picture)
                text = part.get("text")
                if isinstance(text, str):
                    self._texts.append(text)
        elif (
            not self._block and not isinstance(candidates, list) and not fields.get("usageMetadata")
        ):
            raise BAD_RESPONSE.failure(f"no candidates, but {len(fields)} other fields")
        self._usage = (
            usage_of(
                fields.get("usageMetadata"),
                input_name="promptTokenCount",
                output_names=("candidatesTokenCount", "thoughtsTokenCount"),
                total_name="totalTokenCount",
            )
            or self._usage
        )
        return thoughts

    def delivery(self) -> Delivery:
        """The results, or raise `GenerationFailed` with what the model has said."""
        if self._block:
            raise REFUSED.failure(f"prompt blocked: {self._block}")
        text = "".join(self._texts).strip()
        if self._finish in _FINISHES or not self._pictures:
            meaning = _FINISHES.get(self._finish, NO_IMAGE)
            # What the model says instead may repeat what it was asked.
            said = f"{self._finish or 'no reason'}, {len(text)} characters of text"
            raise meaning.failure(said)
        seed = seed_of(self._request)
        images = tuple(
            DeliveredImage(picture, None if seed is None else str(seed))
            for picture in self._pictures[: self._request.image_count]
        )
        return Delivery(images=images, text=text[:_MAX_TEXT_LENGTH] or None, usage=self._usage)


def _parts_of(candidate: Fields) -> list[Fields]:
    content = candidate.get("content")
    parts = content.get("parts") if isinstance(content, dict) else None
    return [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []


def _picture_in(document: InlineJson, part: Fields) -> bytes | None:
    inline = part.get("inlineData")
    if not isinstance(inline, dict):
        return None
    picture = document.take(inline.get("data"))
    if not picture:
        raise BAD_RESPONSE.failure("a picture without any bytes")
    return picture
