"""Applies operations to a picture, one at a time."""

import math
from collections.abc import Callable
from random import Random
from typing import Final

from PIL import Image

from providers.local.editing import effects, lettering, tones
from providers.local.language.operations import (
    Apply,
    Crop,
    Effect,
    Flip,
    Frame,
    Gather,
    Operation,
    Rotate,
    Tint,
    Write,
    Zoom,
)

Work = Callable[[Image.Image, float, Random], Image.Image]


def order_of_work(operations: tuple[Operation, ...]) -> list[Operation]:
    """As a darkroom does it: the shape first, then the picture, then words, then the frame.

    Within a stage the order of the words is kept.
    """
    return sorted(operations, key=_stage)


def apply(picture: Image.Image, operation: Operation, random: Random) -> Image.Image:
    match operation:
        case Apply(effect=effect, amount=amount):
            return _EFFECTS[effect](picture, amount, random)
        case Tint(colour=colour, amount=amount):
            return tones.tint(picture, amount, colour=colour)
        case Flip(vertical=vertical):
            way = Image.Transpose.FLIP_TOP_BOTTOM if vertical else Image.Transpose.FLIP_LEFT_RIGHT
            return picture.transpose(way)
        case Rotate(degrees=degrees):
            return _rotate_picture(picture, degrees)
        case Zoom(amount=amount):
            return _zoom(picture, 1 / (1 + 0.35 * amount))
        case Frame():
            return lettering.frame(picture, operation)
        case Write():
            return lettering.write(picture, operation)
        case Crop() | Gather():
            # They were applied before: they decide the size and the sources.
            return picture


def _stage(operation: Operation) -> int:
    match operation:
        case Flip() | Rotate() | Zoom():
            return 0
        case Write():
            return 2
        case Frame():
            return 3
        case _:
            return 1


def _rotate_picture(picture: Image.Image, degrees: int) -> Image.Image:
    """Rotate. Right angles rotate the shape too; others are cropped, so that no corner is empty."""
    quarter = round(degrees / 90) % 4
    if quarter:
        picture = picture.transpose(_QUARTERS[quarter])
    rest = degrees - 90 * round(degrees / 90)
    if not rest:
        return picture
    width, height = picture.size
    slope = abs(math.radians(rest))
    longer = max(width / height, height / width)
    turned = picture.rotate(-rest, resample=Image.Resampling.BICUBIC)
    return _zoom(turned, 1 / (math.cos(slope) + math.sin(slope) * longer))


def _zoom(picture: Image.Image, share: float) -> Image.Image:
    """The middle of the picture, as large as the whole was."""
    width, height = picture.size
    left, top = width * (1 - share) / 2, height * (1 - share) / 2
    return picture.resize(
        picture.size, Image.Resampling.LANCZOS, box=(left, top, width - left, height - top)
    )


def _without_random(work: Callable[[Image.Image, float], Image.Image], sign: float = 1) -> Work:
    return lambda picture, amount, _random: work(picture, sign * amount)


_QUARTERS: Final = {
    1: Image.Transpose.ROTATE_270,
    2: Image.Transpose.ROTATE_180,
    3: Image.Transpose.ROTATE_90,
}
_EFFECTS: Final[dict[Effect, Work]] = {
    Effect.MONOCHROME: _without_random(tones.monochrome),
    Effect.SEPIA: _without_random(tones.sepia),
    Effect.WARMER: _without_random(tones.warmer),
    Effect.COOLER: _without_random(tones.warmer, -1),
    Effect.SUNSET: _without_random(tones.sunset),
    Effect.NIGHT: _without_random(tones.night),
    Effect.BRIGHTER: _without_random(tones.brighter),
    Effect.DARKER: _without_random(tones.brighter, -1),
    Effect.MORE_CONTRAST: _without_random(tones.contrast),
    Effect.LESS_CONTRAST: _without_random(tones.contrast, -1),
    Effect.MORE_COLOUR: _without_random(tones.colourful),
    Effect.LESS_COLOUR: _without_random(tones.colourful, -1),
    Effect.VIGNETTE: _without_random(tones.vignette),
    Effect.POSTERISE: effects.posterise,
    Effect.NEGATIVE: _without_random(tones.negative),
    Effect.CINEMATIC: _without_random(tones.cinematic),
    Effect.BLUR: effects.blur,
    Effect.SHARPEN: effects.sharpen,
    Effect.PIXELATE: effects.pixelate,
    Effect.SKETCH: effects.sketch,
    Effect.OIL: effects.oil,
    Effect.WATERCOLOUR: effects.watercolour,
    Effect.CARTOON: effects.cartoon,
    Effect.GRAIN: effects.film_grain,
    Effect.FOG: effects.fog,
    Effect.EMBOSS: effects.emboss,
    Effect.GLOW: effects.glow,
    Effect.VINTAGE: effects.vintage,
    Effect.SNOW: effects.snow,
    Effect.RAIN: effects.rain,
}
