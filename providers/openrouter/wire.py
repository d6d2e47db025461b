"""What models are sent by OpenRouter's Image API, and what it answers.

What a model takes is what its record at `/images/models/<model>/endpoints` lists: anything else is
refused there, or has no effect.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from domain.generation import DeliveredImage, Delivery, GenerationRequest
from domain.outputs import Usage
from providers.endpoints import endpoint_of
from providers.failures import BAD_RESPONSE, NO_IMAGE, REFUSED
from providers.openrouter.failures import error_in, explain_error
from providers.references import Reference
from providers.seeds import seed_of
from providers.streaming_json import InlineJson
from providers.synchronous.dialect import Fields, Partial
from providers.usage import usage_of
from providers.vocabulary import FORMATS, QUALITIES, RESOLUTIONS

PICTURES: Final = frozenset({"b64_json"})
MAX_REFERENCE_BYTES: Final = 10_000_000
"""Of each. OpenRouter passes them on to the model's host; the strictest takes this many."""
MAX_REFERENCES_BYTES: Final = 14_800_000
"""Of all. As base64 they fit into what Google takes in one request, the strictest here too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """What one model's record lists: the `wire` of a row."""

    ratio: bool = True
    resolution: bool = False
    quality: bool = False
    format: bool = False
    seed: bool = False
    count: bool = False
    """Whether it makes several images in one call. Others refuse such a request."""
    streams: bool = False
    """Whether it shows a picture while it works on it."""


def body_of(request: GenerationRequest, references: Sequence[Reference]) -> Fields:
    name, endpoint = endpoint_of(request, Endpoint)
    payload: dict[str, object] = {"model": name, "prompt": request.prompt}
    if endpoint.ratio:
        payload["aspect_ratio"] = str(request.aspect_ratio)
    if endpoint.resolution:
        payload["resolution"] = RESOLUTIONS[request.resolution]
    if endpoint.quality and request.quality is not None:
        payload["quality"] = QUALITIES[request.quality]
    if endpoint.format and request.format is not None:
        payload["output_format"] = FORMATS[request.format]
    seed = seed_of(request)
    if endpoint.seed and seed is not None:
        payload["seed"] = seed
    if endpoint.count:
        payload["n"] = request.image_count
    if references:
        payload["input_references"] = [
            {"type": "image_url", "image_url": {"url": one.as_link()}} for one in references
        ]
    if _wants_stream(request, endpoint):
        payload["stream"] = True
    return payload


def _wants_stream(request: GenerationRequest, endpoint: Endpoint) -> bool:
    """Events do not tell which of several pictures they are about."""
    return endpoint.streams and request.preview_count > 0 and request.image_count == 1


class OpenRouterReply:
    """The answer to one run."""

    def __init__(self, request: GenerationRequest, leave_out: tuple[str, ...]) -> None:
        self._request = request
        self._leave_out = leave_out
        self._pictures: list[bytes] = []
        self._usage: Usage | None = None
        self._refused = False
        self.has_ended = False

    @property
    def is_empty(self) -> bool:
        return not self.has_ended

    def take(self, document: InlineJson, fields: Fields) -> list[Partial]:
        """Take in an answer, or an event of one that is streamed; the partial picture in it."""
        error = error_in(fields)
        if error is not None:
            raise explain_error(error, self._leave_out)
        kind = fields.get("type")
        if kind == "image_generation.partial_image":
            partial = document.take(fields.get("b64_json"))
            return [Partial(partial)] if partial else []
        if kind == "image_generation.completed":
            listed: object = [fields]
        elif isinstance(kind, str) and kind.startswith("image_generation."):
            return []
        else:
            listed = fields.get("data")
            self._refused = _is_refusal(fields)
        if not isinstance(listed, list):
            if not self._refused and "choices" not in fields:
                raise BAD_RESPONSE.failure(f"no data, but {len(fields)} other fields")
            listed = []
        self.has_ended = True
        marks = [image.get("b64_json") for image in listed if isinstance(image, dict)]
        self._pictures = [picture for mark in marks if (picture := document.take(mark))]
        if listed and not self._pictures:
            raise BAD_RESPONSE.failure(f"{len(listed)} images without any bytes")
        self._usage = usage_of(
            fields.get("usage"),
            input_name="prompt_tokens",
            output_names=("completion_tokens",),
            total_name="total_tokens",
        )
        return []

    def delivery(self) -> Delivery:
        """The pictures, or raise `GenerationFailed` where there are none."""
        if self._refused and not self._pictures:
            raise REFUSED.failure("refused inside a good answer")
        if not self._pictures:
            raise NO_IMAGE.failure("no images")
        _, endpoint = endpoint_of(self._request, Endpoint)
        seed = seed_of(self._request) if endpoint.seed else None
        # More may have come than were asked for, or were charged for.
        images = tuple(
            DeliveredImage(picture, None if seed is None else str(seed))
            for picture in self._pictures[: self._request.image_count]
        )
        return Delivery(images=images, usage=self._usage)


def _is_refusal(fields: Fields) -> bool:
    """Whether a chat model refuses in words, as some do."""
    choices = fields.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict):
        return False
    message = choice.get("message")
    return choice.get("finish_reason") == "content_filter" or (
        isinstance(message, dict) and bool(message.get("refusal"))
    )
