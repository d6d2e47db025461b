"""The wire format of Gemini's image models by `generateContent`.

An answer comes complete or as a stream of its parts. Images stand between texts, and images that
the model makes while it thinks stand between the results.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from domain.errors import GenerationFailed
from domain.generation import DeliveredImage, Delivery, GenerationRequest
from providers.endpoints import endpoint_of
from providers.failures import BAD_RESPONSE, NO_IMAGE
from providers.gemini.answers import GeminiAnswer
from providers.lenient import Fields, is_yes, objects_of, pick, text_of
from providers.pictures import looks_like_picture, looks_whole, whole_first
from providers.references import Reference
from providers.seeds import seed_of
from providers.streaming_json import InlineJson
from providers.synchronous.dialect import LeaveOut, Partial
from providers.vocabulary import RESOLUTIONS

PICTURES: Final = frozenset({"data"})
MAX_REQUEST_BYTES: Final = 20_000_000
"""Google's limit for a request that contains its references."""

_IMAGE: Final = "image/"
_MAX_TEXT_LENGTH: Final = 10_000
_SPARE_BYTES: Final = 200_000
"""Bytes for everything that is not a reference: mainly the prompt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """How one model is asked: the `wire` of a row."""

    takes_resolution: bool = True
    thinks: bool = True
    """Whether it makes images while it thinks, which can be shown as previews."""


def path_of(request: GenerationRequest) -> str:
    name, endpoint = endpoint_of(request, Endpoint)
    verb = (
        "streamGenerateContent?alt=sse" if _wants_thoughts(request, endpoint) else "generateContent"
    )
    return f"v1beta/models/{name}:{verb}"


def bytes_for_references(request: GenerationRequest) -> int:
    """How many bytes all references may have together, before they are encoded in base64."""
    letters = len(request.prompt) + sum(map(len, request.earlier_messages))
    return max(0, MAX_REQUEST_BYTES - _SPARE_BYTES - 6 * letters) // 4 * 3


def body_of(request: GenerationRequest, references: Sequence[Reference]) -> Fields:
    """The request for one image."""
    _, endpoint = endpoint_of(request, Endpoint)
    shape = {"aspectRatio": str(request.aspect_ratio)}
    if endpoint.takes_resolution:
        shape["imageSize"] = RESOLUTIONS[request.resolution]
    config: dict[str, object] = {
        # Without text, a model that refuses in words would have nothing to say.
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
        {"inlineData": {"mimeType": reference.content_type, "data": reference.as_base64()}}
        for reference in references
    ]
    # Earlier answers of the model are left out: it does not accept its own images without the
    # signatures of its thoughts, which are not kept.
    turns = [[{"text": message}] for message in request.earlier_messages] + [parts]
    contents = [{"role": "user", "parts": turn} for turn in turns]
    return {"contents": contents, "generationConfig": config}


def _wants_thoughts(request: GenerationRequest, endpoint: Endpoint) -> bool:
    return endpoint.thinks and request.preview_count > 0


class GeminiReply(GeminiAnswer[Partial]):
    """The answer to one run."""

    def __init__(self, request: GenerationRequest, leave_out: LeaveOut) -> None:
        super().__init__(leave_out)
        self._request = request
        self._has_empty_picture = False
        self._pictures: list[bytes] = []

    @property
    def pictures(self) -> Sequence[bytes]:
        return whole_first(self._pictures)[: self._request.image_count]

    @property
    def has_result(self) -> bool:
        return bool(self._pictures)

    @property
    def has_ended(self) -> bool:
        count = sum(map(looks_whole, self._pictures))
        return self.is_ending and count >= self._request.image_count

    def failure(self) -> GenerationFailed:
        if not self._block and self._known_end is None and self._has_empty_picture:
            return BAD_RESPONSE.failure("a picture without any bytes")
        return self.explain_end(NO_IMAGE)

    def delivery(self, pictures: Sequence[bytes]) -> Delivery:
        seed = seed_of(self._request)
        text = "".join(self._texts).strip()
        return Delivery(
            images=tuple(
                DeliveredImage(picture, None if seed is None else str(seed)) for picture in pictures
            ),
            text=text[:_MAX_TEXT_LENGTH] or None,
            usage=self.usage,
        )

    def _take_part(self, document: InlineJson, part: Fields, /) -> list[Partial]:
        """Take in a part of the result. Return the image of a thought, if it has one."""
        is_thought = is_yes(part.get("thought"))
        thoughts: list[Partial] = []
        for inline in objects_of(pick(part, "inlineData", "inline_data")):
            kind = text_of(pick(inline, "mimeType", "mime_type")).strip().lower()
            data = document.take(inline.get("data")) or b""
            if not (kind.startswith(_IMAGE) or not kind or looks_like_picture(data)):
                continue
            if is_thought:
                thoughts += [Partial(data)] if looks_whole(data) else []
            elif data:
                self._pictures.append(data)
            else:
                self._has_empty_picture = True
        if not is_thought:
            self._texts.append(text_of(part.get("text")))
        return thoughts
