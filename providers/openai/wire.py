"""How OpenAI's image models want to be asked, and how they answer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from domain.errors import GenerationErrorCode, GenerationFailed
from domain.generation import GenerationRequest
from domain.models import SQUARE, AspectRatio, ImageFormat, Quality, pixel_size
from domain.outputs import Usage
from providers.failures import bad
from providers.inline import InlineJson
from providers.multipart import Multipart
from providers.openai.failures import is_filtered
from providers.references import Reference

Fields = Mapping[str, object]

PICTURES: Final = frozenset({"b64_json"})
"""The fields that hold pictures."""
MAX_PARTIAL_IMAGES: Final = 3

_FORMATS: Final = {
    ImageFormat.PNG: "png",
    ImageFormat.JPEG: "jpeg",
    ImageFormat.WEBP: "webp",
}
_QUALITIES: Final = {Quality.LOW: "low", Quality.MEDIUM: "medium", Quality.HIGH: "high"}
_USUAL_QUALITY: Final = "medium"
"""OpenAI would choose by itself, and Azure the dearest."""
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


MODELS: Final[Mapping[str, Callable[[GenerationRequest], str]]] = {
    "gpt-image-1": _preset,
    "gpt-image-1.5": _preset,
    "gpt-image-2": _pixels,
    "gpt-image-2.5-sunburst": _pixels,
    "gpt-image-2.5-flare": _pixels,
}
"""Each model, and how it is told a picture's size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A body, in the parts in which it is sent."""

    parts: Sequence[bytes]
    content_type: str


def partial_images_of(request: GenerationRequest) -> int:
    """How many partial images are asked for; 0 where the answer is not to be a stream.

    The events of a stream do not say to which of several pictures they belong. Each partial image
    is charged.
    """
    return min(request.preview_count, MAX_PARTIAL_IMAGES) if request.image_count == 1 else 0


def question_of(
    request: GenerationRequest, *, model: str, model_name: str, references: Sequence[Reference]
) -> Question:
    """A generation, or with references an edit."""
    fields: dict[str, str | int | bool] = {
        "model": model_name,
        "prompt": request.prompt,
        "n": request.image_count,
        "size": MODELS[model](request),
        "quality": _QUALITIES[request.quality] if request.quality else _USUAL_QUALITY,
    }
    if request.format is not None:
        fields["output_format"] = _FORMATS[request.format]
    partial_images = partial_images_of(request)
    if partial_images:
        fields |= {"stream": True, "partial_images": partial_images}
    if not references:
        return Question(parts=[orjson.dumps(fields)], content_type="application/json")
    form = Multipart()
    for name, value in fields.items():
        form.add_field(name, str(value).lower() if isinstance(value, bool) else str(value))
    for number, reference in enumerate(references, 1):
        # Without a file's name, its content type is passed over, and the file refused.
        ending = reference.content_type.removeprefix("image/")
        form.add_file(
            "image[]",
            reference.data,
            file_name=f"{number}.{ending}",
            content_type=reference.content_type,
        )
    return Question(parts=form.parts, content_type=form.content_type)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """At least one picture, encoded."""

    pictures: tuple[bytes, ...]
    usage: Usage | None


def read_result(answer: InlineJson, fields: Fields) -> Result:
    """Read a success, or raise `GenerationFailed` where no picture is in it."""
    items = fields.get("data")
    if not isinstance(items, list):
        raise bad(f"no pictures, but {len(fields)} other fields")
    if not items:
        raise GenerationFailed(GenerationErrorCode.NO_IMAGE, retryable=True, detail="data: []")
    found = [item for item in items if isinstance(item, dict)]
    pictures = [answer.take(item.get("b64_json")) for item in found]
    shown = tuple(picture for picture in pictures if picture)
    if not shown and any(map(is_filtered, [*found, fields])):
        raise GenerationFailed(
            GenerationErrorCode.CONTENT_REFUSED, retryable=False, detail="content_filter_results"
        )
    if not shown:
        raise bad("items without pictures")
    return Result(pictures=shown, usage=usage_in(fields))


def read_completed(event: InlineJson, fields: Fields) -> Result:
    """Read the event that ends a stream."""
    picture = event.take(fields.get("b64_json"))
    if not picture:
        raise bad("an event without a picture")
    return Result(pictures=(picture,), usage=usage_in(fields))


def usage_in(fields: Fields) -> Usage | None:
    told = fields.get("usage")
    if not isinstance(told, dict):
        return None
    counts = [_count(told.get(f"{what}_tokens")) for what in ("input", "output", "total")]
    return Usage(*counts) if any(count is not None for count in counts) else None


def _count(value: object) -> int | None:
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53
    return value if is_count and isinstance(value, int) else None
