"""Grain, clouds and gradients: the same for the same seed, at any size.

What is random is drawn on a small sheet and enlarged, so that a draft and the full picture show the
same clouds, and so that randomness costs next to nothing.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from PIL import Image, ImageFilter

from providers.local.colours import Colour

Size = tuple[int, int]

_GRAIN_TILE_PIXELS: Final = 512
_STEPS: Final = range(256)


def curve(function: Callable[[float], float]) -> list[int]:
    """A table for `Image.point` from a function of 0 to 1."""
    return [min(255, max(0, round(255 * function(step / 255)))) for step in _STEPS]


def smooth_step(low: float, high: float) -> list[int]:
    """Nothing below, all above, and a soft passage between the two."""

    def ramp(value: float) -> float:
        share = min(1.0, max(0.0, (value - low) / (high - low)))
        return share * share * (3 - 2 * share)

    return curve(ramp)


def scaled(mask: Image.Image, share: float) -> Image.Image:
    """The mask with `share` of its strength."""
    return mask.point(curve(lambda value: value * share))


def column(size: Size, stops: Sequence[tuple[float, float]]) -> Image.Image:
    """A mask that changes from top to bottom through `(height, value)` stops, both 0 to 1."""
    sheet = Image.new("L", (1, 256))
    sheet.putdata([round(255 * _between(stops, step / 255)) for step in _STEPS])
    return sheet.resize(size, Image.Resampling.BICUBIC)


def gradient(size: Size, stops: Sequence[tuple[float, Colour]]) -> Image.Image:
    """Colours from top to bottom through `(height, colour)` stops."""
    sheet = Image.new("RGB", (1, 256))
    channels = [[(at, float(colour[band])) for at, colour in stops] for band in range(3)]
    sheet.putdata(
        [
            (
                round(_between(channels[0], step / 255)),
                round(_between(channels[1], step / 255)),
                round(_between(channels[2], step / 255)),
            )
            for step in _STEPS
        ]
    )
    return sheet.resize(size, Image.Resampling.BICUBIC)


def spot(size: Size, centre: tuple[float, float], radius: float) -> Image.Image:
    """A mask that is full at the centre and falls softly to nothing at the radius, in pixels."""
    # Drawn small: a soft spot has no detail that enlarging could lose.
    factor = max(1.0, max(size) / 256)
    small = (max(1, round(size[0] / factor)), max(1, round(size[1] / factor)))
    side = max(2, round(2 * radius / factor))
    round_mask = Image.radial_gradient("L").resize((side, side), Image.Resampling.BICUBIC)
    # The gradient is 0 at the centre and reaches 255 beyond the inscribed circle.
    round_mask = round_mask.point(curve(lambda value: max(0.0, 1 - value * 1.415) ** 2))
    sheet = Image.new("L", small)
    left, top = centre[0] / factor - side / 2, centre[1] / factor - side / 2
    sheet.paste(round_mask, (round(left), round(top)))
    return sheet.resize(size, Image.Resampling.BICUBIC)


def corners(size: Size, *, reach: float = 1.0) -> Image.Image:
    """A mask that is nothing in the middle and grows towards the corners."""
    sheet = Image.radial_gradient("L").point(
        curve(lambda value: min(1.0, max(0.0, value * reach - 0.32) / 0.68) ** 1.6)
    )
    return sheet.resize(size, Image.Resampling.BICUBIC)


def clouds(size: Size, random: Random, *, cells: float = 3, stretch: float = 1.0) -> Image.Image:
    """Soft billows around middle grey; `stretch` above 1 draws them out sideways."""
    aspect = size[0] / size[1]
    billows: Image.Image | None = None
    sheet_size = (max(1, round(384 * math.sqrt(aspect))), max(1, round(384 / math.sqrt(aspect))))
    share = 1.0
    for octave in range(6):
        across = max(2, round(cells * math.sqrt(aspect) / stretch * 2**octave))
        down = max(2, round(cells / math.sqrt(aspect) * 2**octave))
        if billows is not None and (across > sheet_size[0] or down > sheet_size[1]):
            break
        across, down = min(across, sheet_size[0]), min(down, sheet_size[1])
        lattice = Image.frombytes("L", (across, down), random.randbytes(across * down))
        layer = lattice.resize(sheet_size, Image.Resampling.BICUBIC)
        billows = layer if billows is None else Image.blend(billows, layer, share / (1 + share))
        share *= 0.62
    assert billows is not None
    billows = billows.point(curve(lambda value: (value - 0.5) * 1.7 + 0.5))
    return billows.resize(size, Image.Resampling.BICUBIC)


def grain(size: Size, random: Random, *, coarseness: float = 1.0) -> Image.Image:
    """Noise around middle grey, as film shows it: without direction, a little soft."""
    side = _GRAIN_TILE_PIXELS
    one, other = (
        Image.frombytes("L", (side, side), random.randbytes(side * side)) for _ in range(2)
    )
    tile = Image.blend(one, other, 0.5).filter(ImageFilter.GaussianBlur(0.45 * coarseness))
    spread = 1 + coarseness
    tile = tile.point(curve(lambda value: (value - 0.5) * spread + 0.5))
    sheet = Image.new("L", size)
    for top in range(0, size[1], side):
        for left in range(0, size[0], side):
            # Turned at random, so that no pattern of tiles can be seen.
            turned = tile.transpose(random.choice(list(Image.Transpose)))
            sheet.paste(turned, (left, top))
    return sheet


def _between(stops: Sequence[tuple[float, float]], at: float) -> float:
    for (low, first), (high, second) in itertools.pairwise(stops):
        if at <= high:
            share = 0.0 if high == low else min(1.0, max(0.0, (at - low) / (high - low)))
            return first + (second - first) * share
    return stops[-1][1]


def soften(picture: Image.Image, radius: float) -> Image.Image:
    """A Gaussian blur whose price does not grow with the radius."""
    factor = max(1, int(radius / 3))
    if factor == 1:
        return picture.filter(ImageFilter.GaussianBlur(radius))
    small = picture.reduce(factor).filter(ImageFilter.GaussianBlur(radius / factor))
    return small.resize(picture.size, Image.Resampling.BICUBIC)


def evened(picture: Image.Image, *, passes: int) -> Image.Image:
    """Without specks and fine texture; edges stay where they are."""
    for _ in range(passes):
        picture = in_bands(lambda band: band.filter(ImageFilter.MedianFilter(3)), picture, margin=2)
    return picture


def in_bands(
    function: Callable[..., Image.Image], *pictures: Image.Image, margin: int = 0
) -> Image.Image:
    """Apply a function to a few rows at a time, with a margin of rows that it may look at.

    For the few of Pillow's operations that hold the interpreter while they run: between two bands
    the event loop gets its turn.
    """
    width, height = pictures[0].size
    rows = max(16, 30_000 // width)
    result: Image.Image | None = None
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        first, last = max(0, top - margin), min(height, bottom + margin)
        band = function(*(picture.crop((0, first, width, last)) for picture in pictures))
        if result is None:
            result = Image.new(band.mode, (width, height))
        result.paste(band.crop((0, top - first, width, bottom - first)), (0, top))
    assert result is not None
    return result
