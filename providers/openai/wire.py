"""What OpenAI's image models are sent, and what they answer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from domain.generation import DeliveredImage, Delivery, GenerationRequest
from domain.models import SQUARE, AspectRatio, Quality, pixel_size
from domain.outputs import Usage
from providers.endpoints import endpoint_of
from providers.failures import BAD_RESPONSE, NO_IMAGE, REFUSED
from providers.http import Form
from providers.openai.backends import Backend
from providers.openai.failures import error_in, explain_error, is_filtered
from providers.references import Reference
from providers.streaming_json import InlineJson
from providers.synchronous.dialect import Body, Fields, LeaveOut, Partial
from providers.usage import usage_of
from providers.vocabulary import FORMATS, QUALITIES, word_of

PICTURES: Final = frozenset({"b64_json"})
"""The fields that hold pictures."""
MAX_PARTIAL_IMAGES: Final = 3

_USUAL_QUALITY: Final = Quality.MEDIUM
"""Without one OpenAI would choose, and Azure would take the most expensive."""
_PRESETS: Final = {
    SQUARE: "1024x1024",
    AspectRatio(4, 3): "1536x1024",
    AspectRatio(3, 4): "1024x1536",
}
"""There are three sizes, and those that are not square are really 3:2 and 2:3."""


def _preset(request: GenerationRequest) -> str:
    return _PRESETS[request.aspect_ratio]


def _pixels(request: GenerationRequest) -> str:
    width, height = request.size or pixel_size(request.aspect_ratio, request.resolution)
    return f"{width}x{height}"


class Size(StrEnum):
    """How a model takes the size of an image."""

    PRESET = "PRESET"
    PIXELS = "PIXELS"


_SIZES: Final[Mapping[Size, Callable[[GenerationRequest], str]]] = {
    Size.PRESET: _preset,
    Size.PIXELS: _pixels,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """How one model wants to be asked: the `wire` of a row."""

    size: Size = Size.PIXELS


def partial_images_of(request: GenerationRequest) -> int:
    """How many partial images are asked for; 0 where the answer is not to be a stream.

    The events of a stream do not say to which of several pictures they belong. Each partial image
    is charged.
    """
    return min(request.preview_count, MAX_PARTIAL_IMAGES) if request.image_count == 1 else 0


def body_of(
    request: GenerationRequest, references: Sequence[Reference], *, backend: Backend
) -> Body:
    """A generation, or with references an edit."""
    model, endpoint = endpoint_of(request, Endpoint)
    fields: dict[str, str | int | bool] = {
        "model": backend.model_name(model),
        "prompt": request.prompt,
        "n": request.image_count,
        "size": _SIZES[endpoint.size](request),
        "quality": QUALITIES[request.quality or _USUAL_QUALITY],
    }
    if request.format is not None:
        fields["output_format"] = FORMATS[request.format]
    partial_images = partial_images_of(request)
    if partial_images:
        fields |= {"stream": True, "partial_images": partial_images}
    if not references:
        return fields
    return Form(
        fields={name: _text(value) for name, value in fields.items()},
        # Without a file name its content type is ignored, and the file refused.
        files=[
            ("image[]", f"{number}.{_ending(one)}", one.data, one.content_type)
            for number, one in enumerate(references, 1)
        ],
    )


def _ending(reference: Reference) -> str:
    return reference.content_type.removeprefix("image/")


def _text(value: str | int | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


class OpenAIReply:
    """The answer to one run: an object with all its pictures, or events."""

    def __init__(self, request: GenerationRequest, leave_out: LeaveOut) -> None:
        self._image_count = request.image_count
        self._partial_images = partial_images_of(request)
        self._leave_out = leave_out
        self._pictures: list[bytes] = []
        self._usage: Usage | None = None
        self._quality: str | None = None
        self._size: str | None = None

    @property
    def is_empty(self) -> bool:
        return not self._pictures

    @property
    def has_ended(self) -> bool:
        return not self.is_empty

    def take(self, document: InlineJson, fields: Fields) -> list[Partial]:
        error = error_in(fields)
        if error is not None:
            raise explain_error(error, self._leave_out)
        kind = str(fields.get("type", ""))
        if kind.endswith(".partial_image"):
            return self._partials_in(document, fields)
        if kind.endswith(".completed"):
            self._take_pictures(document, fields, [fields])
        elif not kind:
            self._take_pictures(document, fields, fields.get("data"))
        return []

    def delivery(self) -> Delivery:
        if not self._pictures:
            raise BAD_RESPONSE.failure("an answer of a type that is not known")
        pictures = self._pictures[: self._image_count]
        return Delivery(
            images=tuple(map(DeliveredImage, pictures)),
            usage=self._usage,
            quality=self._quality,
            size=self._size,
        )

    def _partials_in(self, document: InlineJson, fields: Fields) -> list[Partial]:
        """A partial image is a whole picture that the next one replaces."""
        index, picture = fields.get("partial_image_index"), document.take(fields.get("b64_json"))
        if not picture:
            return []
        if isinstance(index, int) and 0 <= index < self._partial_images:
            return [Partial(picture, (index + 1) / (self._partial_images + 1))]
        return [Partial(picture)]

    def _take_pictures(self, document: InlineJson, fields: Fields, items: object) -> None:
        """Raise `GenerationFailed` where there is none among them."""
        if not isinstance(items, list):
            raise BAD_RESPONSE.failure(f"no pictures, but {len(fields)} other fields")
        if not items:
            raise NO_IMAGE.failure("data: []")
        found = [item for item in items if isinstance(item, dict)]
        taken = [document.take(item.get("b64_json")) for item in found]
        self._pictures = [picture for picture in taken if picture]
        if not self._pictures and any(map(is_filtered, [*found, fields])):
            raise REFUSED.failure("content_filter_results")
        if not self._pictures:
            raise BAD_RESPONSE.failure("items without pictures")
        self._quality, self._size = word_of(fields.get("quality")), word_of(fields.get("size"))
        self._usage = usage_of(
            fields.get("usage"),
            input_name="input_tokens",
            output_names=("output_tokens",),
            total_name="total_tokens",
        )
