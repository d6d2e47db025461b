"""How Gemini's image models are asked by `generateContent`, and how they answer.

An answer may be whole or come as a stream of its parts. Its pictures stand among its words, and
those that the model makes while it thinks stand among the ones that it means.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

from domain.errors import GenerationErrorCode, GenerationFailed
from domain.generation import DeliveredImage, Delivery, GenerationRequest
from domain.models import Resolution
from domain.outputs import Usage
from providers.endpoints import endpoint_of
from providers.gemini.failures import error_in, of_error
from providers.references import Reference
from providers.seeds import seed_of
from providers.streaming_json import InlineJson
from providers.synchronous.dialect import Fields, Partial, Question
from providers.usage import usage_of

PICTURES: Final = frozenset({"data"})
MAX_REQUEST_BYTES: Final = 20_000_000
"""Google's limit of a request that carries its references itself."""

_MAX_TEXT_LENGTH: Final = 10_000
_SPARE_BYTES: Final = 200_000
"""For all that is no reference: a prompt above all."""
_SIZES: Final = {Resolution.ONE_K: "1K", Resolution.TWO_K: "2K", Resolution.FOUR_K: "4K"}
_Code = GenerationErrorCode

_REFUSALS: Final = frozenset(
    {
        *("SAFETY", "IMAGE_SAFETY", "PROHIBITED_CONTENT", "IMAGE_PROHIBITED_CONTENT"),
        *("BLOCKLIST", "SPII", "RECITATION", "IMAGE_RECITATION", "ESCALATION", "MODEL_ARMOR"),
    }
)
_FINISHES: Final[Mapping[str, tuple[GenerationErrorCode, bool]]] = {
    **dict.fromkeys(_REFUSALS, (_Code.CONTENT_REFUSED, False)),
    "LANGUAGE": (_Code.PROVIDER_REJECTED_INPUT, False),
    "PUP_LIMITED_DISABLED": (_Code.PROVIDER_AUTHENTICATION, False),
}
"""What the end of an answer without a picture means, and whether trying again can help. Other ends
say only that the model has made none.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """In what one model differs from others."""

    sizes: bool = True
    """Whether it takes a resolution."""
    thinks: bool = True
    """Whether it makes pictures while it thinks, which can be shown before the one it means."""


ENDPOINTS: Final[Mapping[str, Endpoint]] = {
    "gemini-2.5-flash-image": Endpoint(sizes=False, thinks=False),
    "gemini-3-pro-image": Endpoint(),
    "gemini-3.1-flash-image": Endpoint(),
    "gemini-nano-banana-2.1": Endpoint(),
}


def path_of(request: GenerationRequest) -> str:
    name, endpoint = endpoint_of(request, ENDPOINTS)
    verb = (
        "streamGenerateContent?alt=sse" if _wants_thoughts(request, endpoint) else "generateContent"
    )
    return f"v1beta/models/{name}:{verb}"


def bytes_for_references(request: GenerationRequest) -> int:
    """How many all references may have together, before they are written as base64."""
    return max(0, MAX_REQUEST_BYTES - _SPARE_BYTES - 6 * len(request.prompt)) // 4 * 3


def question_of(request: GenerationRequest, references: Sequence[Reference]) -> Question:
    """For one picture."""
    _, endpoint = endpoint_of(request, ENDPOINTS)
    shape = {"aspectRatio": str(request.aspect_ratio)}
    if endpoint.sizes:
        shape["imageSize"] = _SIZES[request.resolution]
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
    return Question.of({"contents": [{"role": "user", "parts": parts}], "generationConfig": config})


def _wants_thoughts(request: GenerationRequest, endpoint: Endpoint) -> bool:
    return endpoint.thinks and request.preview_count > 0


class GeminiReply:
    """What one run has been answered with."""

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
            raise of_error(error, self._leave_out)
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
            _fail(_Code.PROVIDER_BAD_RESPONSE, f"no candidates, but {len(fields)} other fields")
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
        """The pictures that the model means, or raise `GenerationFailed` with what it has said."""
        if self._block:
            _fail(_Code.CONTENT_REFUSED, f"prompt blocked: {self._block}", retryable=False)
        text = "".join(self._texts).strip()
        if self._finish in _FINISHES or not self._pictures:
            code, retryable = _FINISHES.get(self._finish, (_Code.NO_IMAGE, True))
            # What the model says instead may repeat what it was asked.
            said = f"{self._finish or 'no reason'}, {len(text)} characters of text"
            _fail(code, said, retryable=retryable)
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
        _fail(_Code.PROVIDER_BAD_RESPONSE, "a picture without any bytes")
    return picture


def _fail(code: GenerationErrorCode, detail: str, *, retryable: bool = True) -> NoReturn:
    raise GenerationFailed(code, retryable=retryable, detail=detail)
