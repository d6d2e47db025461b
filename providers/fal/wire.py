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
from providers.endpoints import endpoint_of
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
_NAMED_PIXELS: Final = {
    SQUARE: "1024x1024",
    AspectRatio(3, 2): "1536x1024",
    AspectRatio(2, 3): "1024x1536",
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


def _named_pixels(request: GenerationRequest) -> Fields:
    """The three sizes of OpenAI's models, the nearest shape of which is taken."""
    shape = request.aspect_ratio.nearest(_NAMED_PIXELS)
    return {"image_size": _NAMED_PIXELS[shape]}


def _none(_: GenerationRequest) -> Fields:
    """For models that keep the shape of what they are given."""
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """In what one endpoint differs from others."""

    size: Callable[[GenerationRequest], Fields]
    """fal has four vocabularies for an image's shape; one of the wrong family has no effect."""
    count: str | None = "num_images"
    """None for a model that makes one image at a time."""
    references: str | None = None
    """The field that takes a list of links."""
    reference: str | None = None
    """The field that takes one link."""
    for_several: str | None = None
    """The endpoint that is asked instead where there are several references."""
    max_reference_bytes: int | None = None
    """Of each."""
    sync_mode: bool = True
    """Whether there is such a field."""
    negative_prompt: bool = False
    """Whether there is such a field."""
    default_quality: str | None = None
    """What is asked for where nothing is; None where there is no choice."""
    fixed: Fields = field(default_factory=dict)


_MEGABYTE: Final = 1_000_000
# By the prompt alone a Gemini model may return more images than were asked for, and charge them.
_GEMINI: Final = {"limit_generations": True}
# A run may return up to so many, and there are `num_images` runs: 1 makes the count exact.
_SEEDREAM: Final = {"max_images": 1}

# By default it is the dear one.
_MEDIUM: Final = "medium"

ENDPOINTS: Final[Mapping[str, Endpoint]] = {
    "fal-ai/imagen4/preview": Endpoint(size=_ratio_and_resolution),
    "fal-ai/gemini-25-flash-image": Endpoint(size=_ratio, fixed=_GEMINI),
    "fal-ai/gemini-25-flash-image/edit": Endpoint(
        size=_ratio, references="image_urls", fixed=_GEMINI
    ),
    "fal-ai/nano-banana-pro": Endpoint(size=_ratio_and_resolution, fixed=_GEMINI),
    "fal-ai/nano-banana-pro/edit": Endpoint(
        size=_ratio_and_resolution, references="image_urls", fixed=_GEMINI
    ),
    "fal-ai/bytedance/seedream/v4/text-to-image": Endpoint(size=_pixels, fixed=_SEEDREAM),
    "fal-ai/bytedance/seedream/v4/edit": Endpoint(
        size=_pixels, references="image_urls", fixed=_SEEDREAM
    ),
    "fal-ai/bytedance/seedream/v4.5/text-to-image": Endpoint(size=_pixels, fixed=_SEEDREAM),
    "fal-ai/bytedance/seedream/v4.5/edit": Endpoint(
        size=_pixels, references="image_urls", fixed=_SEEDREAM
    ),
    "fal-ai/flux-pro/kontext": Endpoint(
        size=_ratio, reference="image_url", fixed={"guidance_scale": 6.5}
    ),
    "fal-ai/gpt-image-1.5": Endpoint(size=_named_pixels, default_quality=_MEDIUM),
    "fal-ai/gpt-image-1.5/edit": Endpoint(
        size=_named_pixels, references="image_urls", default_quality=_MEDIUM
    ),
    "fal-ai/hunyuan-image/v2.1/text-to-image": Endpoint(size=_preset, negative_prompt=True),
    "fal-ai/hunyuan-image/v3/text-to-image": Endpoint(size=_preset, negative_prompt=True),
    "fal-ai/wan/v2.2-a14b/text-to-image": Endpoint(
        size=_preset, count=None, sync_mode=False, negative_prompt=True
    ),
    "fal-ai/reve/text-to-image": Endpoint(size=_ratio),
    "fal-ai/reve/edit": Endpoint(
        size=_none,
        reference="image_url",
        for_several="fal-ai/reve/remix",
        max_reference_bytes=10 * _MEGABYTE,
    ),
    "fal-ai/reve/remix": Endpoint(
        size=_ratio, references="image_urls", max_reference_bytes=10 * _MEGABYTE
    ),
    "fal-ai/kling-image/o1": Endpoint(size=_ratio_and_resolution, references="image_urls"),
    "fal-ai/flux-2-max": Endpoint(size=_preset, count=None),
    "fal-ai/flux-2-max/edit": Endpoint(size=_preset, count=None, references="image_urls"),
}


def endpoint_asked(request: GenerationRequest) -> tuple[str, Endpoint]:
    """The endpoint that is asked, and its name: for several references it may be another one."""
    name, endpoint = endpoint_of(request, ENDPOINTS)
    if endpoint.for_several and len(request.references) > 1:
        return endpoint.for_several, ENDPOINTS[endpoint.for_several]
    return name, endpoint


def payload_of(
    request: GenerationRequest, endpoint: Endpoint, *, reference_links: Sequence[str]
) -> Fields:
    """The body of a submission."""
    payload: dict[str, object] = {
        "prompt": request.prompt,
        **endpoint.size(request),
        **endpoint.fixed,
    }
    if endpoint.sync_mode:
        # With true, pictures would come inside of the result, and fal would not keep it for us.
        payload["sync_mode"] = False
    if endpoint.count is not None:
        payload[endpoint.count] = request.image_count
    if endpoint.references is not None:
        payload[endpoint.references] = list(reference_links)
    if endpoint.reference is not None:
        payload[endpoint.reference] = reference_links[0]
    if endpoint.negative_prompt and request.negative_prompt is not None:
        payload["negative_prompt"] = request.negative_prompt
    if endpoint.default_quality is not None:
        quality = request.quality.value.lower() if request.quality else endpoint.default_quality
        payload["quality"] = quality
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
