"""The wire format of fal's models.

How a model is asked is the `wire` of its row in the catalogue. Fields that a row does not name are
not sent: fal ignores fields that a model does not know, so an image of another shape would come
without an error.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import sqrt
from typing import Final

from domain.generation import GenerationRequest
from domain.models import SQUARE, AspectRatio, Quality, Resolution
from providers.endpoints import endpoint_of
from providers.failures import BAD_RESPONSE, NO_IMAGE
from providers.lenient import Fields, items_of, text_of
from providers.links import links_in, without_refused
from providers.references import Reference
from providers.seeds import seed_of
from providers.vocabulary import FORMATS, QUALITIES, RESOLUTIONS

_MAX_TEXT_LENGTH: Final = 10_000
_SEED: Final = re.compile(r"-?[0-9]{1,20}")
_SIDES: Final = {Resolution.ONE_K: 1024, Resolution.TWO_K: 2048, Resolution.FOUR_K: 4096}
_PRESETS: Final = {
    SQUARE: "square_hd",
    AspectRatio(4, 3): "landscape_4_3",
    AspectRatio(3, 4): "portrait_4_3",
    AspectRatio(16, 9): "landscape_16_9",
    AspectRatio(9, 16): "portrait_16_9",
}
_NAMED_PIXELS: Final = {
    SQUARE: "1024x1024",
    AspectRatio(3, 2): "1536x1024",
    AspectRatio(2, 3): "1024x1536",
}


def _ratio(request: GenerationRequest) -> Fields:
    return {"aspect_ratio": str(request.aspect_ratio)}


def _ratio_and_resolution(request: GenerationRequest) -> Fields:
    return {**_ratio(request), "resolution": RESOLUTIONS[request.resolution]}


def _preset(request: GenerationRequest) -> Fields:
    return {"image_size": _PRESETS[request.aspect_ratio]}


def _pixels(request: GenerationRequest) -> Fields:
    """The largest area that is accepted, rounded down: that of the resolution's square."""
    side, root = _SIDES[request.resolution], sqrt(request.aspect_ratio.value)
    return {
        "image_size": {
            "width": int(side * root / 16) * 16,
            "height": int(side / root / 16) * 16,
        }
    }


def _named_pixels(request: GenerationRequest) -> Fields:
    """The three sizes of OpenAI's models; the one of the nearest shape is used."""
    shape = request.aspect_ratio.nearest(_NAMED_PIXELS)
    return {"image_size": _NAMED_PIXELS[shape]}


def _none(_: GenerationRequest) -> Fields:
    """For models that keep the aspect ratio of their reference."""
    return {}


class Size(StrEnum):
    """The kind of field by which an endpoint takes the shape of an image; other fields have no
    effect.
    """

    RATIO = "RATIO"
    RATIO_AND_RESOLUTION = "RATIO_AND_RESOLUTION"
    PRESET = "PRESET"
    PIXELS = "PIXELS"
    NAMED_PIXELS = "NAMED_PIXELS"
    NONE = "NONE"


_SIZE_FIELDS: Final[Mapping[Size, Callable[[GenerationRequest], Fields]]] = {
    Size.RATIO: _ratio,
    Size.RATIO_AND_RESOLUTION: _ratio_and_resolution,
    Size.PRESET: _preset,
    Size.PIXELS: _pixels,
    Size.NAMED_PIXELS: _named_pixels,
    Size.NONE: _none,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """How one endpoint is asked: the `wire` of a row."""

    size: Size
    takes_count: bool = True
    """Whether it has `num_images`; other endpoints make one image for a request."""
    references: str | None = None
    """The field for a list of links."""
    reference: str | None = None
    """The field for one link."""
    mask: str | None = None
    """The field for a link to a mask, which is transparent where the first reference may change."""
    max_reference_bytes: int | None = None
    """Of each."""
    sync_mode: bool = True
    """Whether it has this field."""
    default_quality: Quality | None = None
    """The quality that is sent if none is requested; None where there is no choice."""
    fixed: Fields = field(default_factory=dict, hash=False)
    """Fields that are sent with every request."""
    for_several: "Endpoint | None" = None
    """The endpoint that is asked instead if there are several references."""
    name: str = ""
    """The list field of the endpoint in `for_several`."""


def endpoint_asked(request: GenerationRequest) -> tuple[str, Endpoint]:
    """The endpoint to ask, and its name: for several references it may be another one."""
    name, endpoint = endpoint_of(request, Endpoint)
    several = endpoint.for_several
    return (several.name, several) if several and len(request.references) > 1 else (name, endpoint)


def payload_of(
    request: GenerationRequest, endpoint: Endpoint, *, references: Sequence[Reference]
) -> Fields:
    """The body of a submission."""
    payload: dict[str, object] = {
        "prompt": request.prompt,
        **_SIZE_FIELDS[endpoint.size](request),
        **endpoint.fixed,
    }
    if endpoint.sync_mode:
        # If it were true, images would come inside the result, and fal would not store it.
        payload["sync_mode"] = False
    if endpoint.takes_count:
        payload["num_images"] = request.image_count
    if endpoint.references is not None:
        payload[endpoint.references] = [reference.as_link() for reference in references]
    if endpoint.reference is not None:
        payload[endpoint.reference] = references[0].as_link()
    if endpoint.mask is not None and (mask := references[0].mask) is not None:
        payload[endpoint.mask] = mask.as_link()
    if request.model.supports_negative_prompt and request.negative_prompt is not None:
        payload["negative_prompt"] = request.negative_prompt
    if endpoint.default_quality is not None:
        payload["quality"] = QUALITIES[request.quality or endpoint.default_quality]
    if request.format is not None:
        payload["output_format"] = FORMATS[request.format]
    seed = seed_of(request)
    if seed is not None:
        payload["seed"] = seed
    return payload


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The result of a job: links to at least one picture."""

    links: tuple[str, ...]
    seed: str | None
    """Where the model says it."""
    text: str | None


def read_result(fields: Fields) -> Result:
    """Read the response of a finished job. Raise `GenerationFailed` where there is nothing to
    fetch.
    """
    if "images" not in fields and "image" not in fields:
        raise BAD_RESPONSE.failure(f"a result without images, but {len(fields)} other fields")
    images = items_of(fields.get("images")) or items_of(fields.get("image"))
    if not images:
        raise NO_IMAGE.failure("images: []")
    links = without_refused(
        [_link_of(image) for image in images],
        fields.get("has_nsfw_concepts"),
        named="has_nsfw_concepts",
    )
    seed = fields.get("seed")
    return Result(
        links=tuple(links),
        seed=str(seed) if isinstance(seed, int | str) and _SEED.fullmatch(str(seed)) else None,
        text=text_of(fields.get("description")).strip()[:_MAX_TEXT_LENGTH] or None,
    )


def _link_of(image: object) -> str | None:
    return next(iter(links_in(image)), None)
