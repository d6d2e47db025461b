"""The wire format of OpenAI's image models."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from domain.generation import GenerationRequest
from domain.models import SQUARE, AspectRatio, Quality, pixel_size
from providers.endpoints import endpoint_of
from providers.http import Form
from providers.openai.backends import Backend
from providers.openai.failures import error_in, explain_error, is_filtered
from providers.references import Reference
from providers.synchronous.dialect import Body, LeaveOut
from providers.synchronous.images_reply import ImagesReply, Words
from providers.vocabulary import FORMATS, QUALITIES

MAX_PARTIAL_IMAGES: Final = 3

_USUAL_QUALITY: Final = Quality.MEDIUM
"""The quality that is sent if none is requested: OpenAI would choose one, and Azure the most
expensive one.
"""
_PRESETS: Final = {
    SQUARE: "1024x1024",
    AspectRatio(4, 3): "1536x1024",
    AspectRatio(3, 4): "1024x1536",
}
"""There are three sizes. The two that are not square have the ratios 3:2 and 2:3."""


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
    """How one model is asked: the `wire` of a row."""

    size: Size = Size.PIXELS


def partial_images_of(request: GenerationRequest) -> int:
    """How many partial images are requested; 0 where the response is not to be a stream.

    The events of a stream do not say which of several images they belong to. Each partial image is
    charged.
    """
    return min(request.preview_count, MAX_PARTIAL_IMAGES) if request.image_count == 1 else 0


def body_of(
    request: GenerationRequest, references: Sequence[Reference], *, backend: Backend
) -> Body:
    """The request: a generation, or an edit if there are references."""
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
    # Without a file name its content type is ignored, and the file is refused.
    files = [
        ("image[]", f"{number}.{_ending(one)}", one.data, one.content_type)
        for number, one in enumerate(references, 1)
    ]
    mask = references[0].mask
    if mask is not None:
        files.append(("mask", "mask.png", mask.data, mask.content_type))
    return Form(fields={name: _text(value) for name, value in fields.items()}, files=files)


def _ending(reference: Reference) -> str:
    return reference.content_type.removeprefix("image/")


def _text(value: str | int | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def reply_to(request: GenerationRequest, leave_out: LeaveOut) -> ImagesReply:
    """The reply to one run: an object with all its images, or events."""
    return ImagesReply(request, leave_out, words=_WORDS, partial_count=partial_images_of(request))


_WORDS: Final = Words(
    error_in=error_in,
    explain_error=explain_error,
    is_refused=is_filtered,
    input_tokens="input_tokens",
    output_tokens="output_tokens",
)
