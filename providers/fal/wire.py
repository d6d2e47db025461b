"""How fal's models want to be asked, and how they answer: one row for each endpoint.

A row says only in what a model differs. Fields that no row names are not sent: fal passes over what
a model does not know, and a picture of another shape would come without any error.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import Final

from domain.errors import GenerationErrorCode, GenerationFailed
from domain.generation import GenerationRequest
from domain.models import SQUARE, AspectRatio, ImageFormat, Resolution
from providers.links import without_refused
from providers.seeds import seed_of

Fields = Mapping[str, object]

_MAX_TEXT_LENGTH: Final = 10_000
_RESOLUTIONS: Final = {Resolution.ONE_K: "1K", Resolution.TWO_K: "2K", Resolution.FOUR_K: "4K"}
_SIDES: Final = {Resolution.ONE_K: 1024, Resolution.TWO_K: 2048, Resolution.FOUR_K: 4096}
_FORMATS: Final = {
    ImageFormat.PNG: "png",
    ImageFormat.JPEG: "jpeg",
    ImageFormat.WEBP: "webp",
}
_PRESETS: Final = {
    SQUARE: "square_hd",
    AspectRatio(4, 3): "landscape_4_3",
    AspectRatio(3, 4): "portrait_4_3",
    AspectRatio(16, 9): "landscape_16_9",
    AspectRatio(9, 16): "portrait_16_9",
}


def _ratio(request: GenerationRequest) -> Fields:
    return {"aspect_ratio": str(request.aspect_ratio)}


def _ratio_and_resolution(request: GenerationRequest) -> Fields:
    return {**_ratio(request), "resolution": _RESOLUTIONS[request.resolution]}


def _preset(request: GenerationRequest) -> Fields:
    return {"image_size": _PRESETS[request.aspect_ratio]}


def _pixels(request: GenerationRequest) -> Fields:
    """Rounded down: the area of the resolution's square is the most that is taken."""
    side, root = _SIDES[request.resolution], sqrt(request.aspect_ratio.value)
    return {
        "image_size": {
            "width": int(side * root / 16) * 16,
            "height": int(side / root / 16) * 16,
        }
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """In what one endpoint differs from others."""

    size: Callable[[GenerationRequest], Fields]
    """fal has four vocabularies for an image's shape; one of the wrong family has no effect."""
    count: str | None = "num_images"
    """None for a model that makes one image at a time."""
    references: str | None = None
    """The field that takes a list of links."""
    fixed: Fields = field(default_factory=dict)


# By the prompt alone a Gemini model may return more images than were asked for, and charge them.
_GEMINI: Final = {"limit_generations": True}
# A run may return up to so many, and there are `num_images` runs: 1 makes the count exact.
_SEEDREAM: Final = {"max_images": 1}

ENDPOINTS: Final[Mapping[str, Endpoint]] = {
    "fal-ai/gemini-25-flash-image": Endpoint(size=_ratio, fixed=_GEMINI),
    "fal-ai/gemini-25-flash-image/edit": Endpoint(
        size=_ratio, references="image_urls", fixed=_GEMINI
    ),
    "fal-ai/nano-banana-pro": Endpoint(size=_ratio_and_resolution, fixed=_GEMINI),
    "fal-ai/nano-banana-pro/edit": Endpoint(
        size=_ratio_and_resolution, references="image_urls", fixed=_GEMINI
    ),
    "fal-ai/bytedance/seedream/v4.5/text-to-image": Endpoint(size=_pixels, fixed=_SEEDREAM),
    "fal-ai/bytedance/seedream/v4.5/edit": Endpoint(
        size=_pixels, references="image_urls", fixed=_SEEDREAM
    ),
    "fal-ai/kling-image/o1": Endpoint(size=_ratio_and_resolution, references="image_urls"),
    "fal-ai/flux-2-max": Endpoint(size=_preset, count=None),
    "fal-ai/flux-2-max/edit": Endpoint(size=_preset, count=None, references="image_urls"),
}


def payload_of(
    request: GenerationRequest, endpoint: Endpoint, *, reference_links: Sequence[str]
) -> Fields:
    """The body of a submission."""
    payload: dict[str, object] = {
        "prompt": request.prompt,
        # With true, pictures would come inside of the result, and fal would not keep it for us.
        "sync_mode": False,
        **endpoint.size(request),
        **endpoint.fixed,
    }
    if endpoint.count is not None:
        payload[endpoint.count] = request.image_count
    if endpoint.references is not None:
        payload[endpoint.references] = list(reference_links)
    if request.format is not None:
        payload["output_format"] = _FORMATS[request.format]
    seed = seed_of(request)
    if seed is not None:
        payload["seed"] = seed
    return payload


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a job came to: links to at least one picture."""

    links: tuple[str, ...]
    seed: str | None
    """Where the model tells it."""
    text: str | None


def read_result(fields: Fields) -> Result:
    """Read a finished job's answer, or raise `GenerationFailed` where there is nothing to fetch."""
    images = fields.get("images")
    if images is None and "image" in fields:
        images = [fields["image"]]
    if not isinstance(images, list):
        raise GenerationFailed(
            GenerationErrorCode.PROVIDER_BAD_RESPONSE,
            retryable=True,
            detail=f"a result without images, but {len(fields)} other fields",
        )
    if not images:
        raise GenerationFailed(GenerationErrorCode.NO_IMAGE, retryable=True, detail="images: []")
    links = without_refused(
        [_link_of(image) for image in images],
        fields.get("has_nsfw_concepts"),
        named="has_nsfw_concepts",
    )
    seed, text = fields.get("seed"), fields.get("description")
    return Result(
        links=tuple(links),
        seed=str(seed) if isinstance(seed, int) and not isinstance(seed, bool) else None,
        text=text[:_MAX_TEXT_LENGTH] if isinstance(text, str) and text.strip() else None,
    )


def _link_of(image: object) -> str | None:
    link = image.get("url") if isinstance(image, dict) else None
    return link if isinstance(link, str) and link else None
