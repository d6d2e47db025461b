"""Checks that the options of a turn agree with one another, and that each model supports them."""

from collections.abc import Iterator
from typing import Final

from domain.errors import UserErrorCode
from domain.models import ImageModel
from domain.parents import TurnOptions
from domain.plurals import count
from domain.refusals import Refusals
from domain.turns import TurnRequest

MAX_IMAGES_PER_MODEL: Final = 4
_IMAGES_PATH: Final = ("options", "imagesPerModel")


def check_options(request: TurnRequest, refusals: Refusals) -> None:
    """Check what does not depend on a model."""
    options = request.options
    if options.images_per_model > MAX_IMAGES_PER_MODEL:
        refusals.add(
            UserErrorCode.TOO_MANY_IMAGES,
            f"Request at most {MAX_IMAGES_PER_MODEL} images per model.",
            *_IMAGES_PATH,
        )
    if options.width is None and options.height is None:
        return
    if options.width is None or options.height is None:
        refusals.add(
            UserErrorCode.UNSUPPORTED_SIZE,
            "Give both width and height, or neither.",
            *_size_path(options),
        )
    elif request.aspect_ratio is not None or request.resolution is not None:
        refusals.add(
            UserErrorCode.UNSUPPORTED_SIZE,
            "Give either a width and height, or an aspect ratio and resolution.",
            *_size_path(options),
        )


def check_abilities(model: ImageModel, request: TurnRequest, refusals: Refusals) -> None:
    """Check what this model supports."""
    options = request.options
    if request.aspect_ratio is not None and request.aspect_ratio not in model.aspect_ratios:
        supported = ", ".join(map(str, model.aspect_ratios))
        refusals.add(
            UserErrorCode.UNSUPPORTED_ASPECT_RATIO,
            f"{model.label} does not support {request.aspect_ratio}. It supports {supported}.",
            "aspectRatio",
        )
    if request.resolution is not None and request.resolution not in model.resolutions:
        refusals.add(
            UserErrorCode.UNSUPPORTED_RESOLUTION,
            f"{model.label} does not support this resolution.",
            "resolution",
        )
    if model.max_images < options.images_per_model <= MAX_IMAGES_PER_MODEL:
        refusals.add(
            UserErrorCode.TOO_MANY_IMAGES,
            f"{model.label} makes at most {count(model.max_images, 'image')} per turn.",
            *_IMAGES_PATH,
        )
    for name, code, words in _unsupported_options(model, options):
        refusals.add(code, f"{model.label} does not support {words}.", "options", name)
    _check_size(model, options, refusals)


def _unsupported_options(
    model: ImageModel, options: TurnOptions
) -> Iterator[tuple[str, UserErrorCode, str]]:
    """The field of each option that this model does not support, its code, and words for it."""
    if options.quality is not None and options.quality not in model.qualities:
        yield "quality", UserErrorCode.UNSUPPORTED_QUALITY, "this quality"
    if options.format is not None and options.format not in model.formats:
        yield "format", UserErrorCode.UNSUPPORTED_FORMAT, "this format"
    if options.seed is not None and not model.supports_seed:
        yield "seed", UserErrorCode.UNSUPPORTED_SEED, "a seed"
    if options.negative_prompt is not None and not model.supports_negative_prompt:
        yield "negativePrompt", UserErrorCode.UNSUPPORTED_NEGATIVE_PROMPT, "a negative prompt"


def _check_size(model: ImageModel, options: TurnOptions, refusals: Refusals) -> None:
    bounds = model.custom_size
    if options.width is None or options.height is None:
        return
    if bounds is None:
        reason = f"{model.label} does not support a width and height."
    elif not (bounds.allows(options.width) and bounds.allows(options.height)):
        reason = (
            f"{model.label} supports a width and height of {bounds.minimum} to {bounds.maximum} "
            f"pixels in steps of {bounds.step}."
        )
    else:
        return
    refusals.add(UserErrorCode.UNSUPPORTED_SIZE, reason, *_size_path(options))


def _size_path(options: TurnOptions) -> tuple[str, str]:
    return "options", "width" if options.width is not None else "height"
