"""ThumbHash, a placeholder of at most 25 bytes, in the format that Evan Wallace published.

The image is separated into brightness, two colour differences and opacity. Of each one, the average
and the lowest frequencies of a cosine transform are stored, in four bits each.
"""

from collections.abc import Sequence
from math import cos, floor, pi
from operator import mul
from typing import Final, NamedTuple

MAX_SIDE: Final = 100

_COLOUR_TERMS: Final = 3
_ALPHA_TERMS: Final = 5
_MOST_TERMS: Final = 7
_MOST_TERMS_WITH_ALPHA: Final = 5


def thumbhash_of(width: int, height: int, rgba: bytes) -> bytes:
    """The ThumbHash of an image of at most 100 pixels a side. `rgba` has four bytes for each pixel,
    row by row; alpha is not premultiplied.
    """
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE and len(rgba) == 4 * width * height):
        raise ValueError("a ThumbHash is made of 1 to 100 pixels a side")
    alpha = [value / 255 for value in rgba[3::4]]
    opacity = sum(alpha)
    red, green, blue = (_over_average(rgba[band::4], alpha, opacity) for band in range(3))
    has_alpha = opacity < width * height
    terms_x, terms_y = _brightness_terms(width, height, has_alpha=has_alpha)
    transform = _Transform(width, height)
    brightness = transform.of(
        [(r + g + b) / 3 for r, g, b in zip(red, green, blue, strict=True)],
        max(_COLOUR_TERMS, terms_x),
        max(_COLOUR_TERMS, terms_y),
    )
    yellow_blue = transform.of(
        [(r + g) / 2 - b for r, g, b in zip(red, green, blue, strict=True)],
        _COLOUR_TERMS,
        _COLOUR_TERMS,
    )
    red_green = transform.of(
        [r - g for r, g in zip(red, green, strict=True)], _COLOUR_TERMS, _COLOUR_TERMS
    )
    opacities = transform.of(alpha, _ALPHA_TERMS, _ALPHA_TERMS) if has_alpha else None

    is_landscape = width > height
    header = (
        _rounded(63 * brightness.average)
        | _rounded(31.5 + 31.5 * yellow_blue.average) << 6
        | _rounded(31.5 + 31.5 * red_green.average) << 12
        | _rounded(31 * brightness.scale) << 18
        | has_alpha << 23
        | (terms_y if is_landscape else terms_x) << 24
        | _rounded(63 * yellow_blue.scale) << 27
        | _rounded(63 * red_green.scale) << 33
        | is_landscape << 39
    )
    nibbles = [*brightness.terms, *yellow_blue.terms, *red_green.terms]
    if opacities is not None:
        scales = [_rounded(15 * opacities.average), _rounded(15 * opacities.scale)]
        nibbles = [*scales, *nibbles, *opacities.terms]
    return header.to_bytes(5, "little") + _packed(nibbles)


def _brightness_terms(width: int, height: int, *, has_alpha: bool) -> tuple[int, int]:
    most = _MOST_TERMS_WITH_ALPHA if has_alpha else _MOST_TERMS
    longest = max(width, height)
    return max(1, _rounded(most * width / longest)), max(1, _rounded(most * height / longest))


def _packed(nibbles: list[int]) -> bytes:
    """Two of them in each byte, the first one in its lower half."""
    if len(nibbles) % 2:
        nibbles = [*nibbles, 0]
    pairs = zip(nibbles[::2], nibbles[1::2], strict=True)
    return bytes(low | high << 4 for low, high in pairs)


class _Channel(NamedTuple):
    average: float
    scale: float
    terms: list[int]
    """The other terms in four bits each, as fractions of `scale`."""


class _Transform:
    """The lowest terms of the cosine transform, rows first, then columns."""

    def __init__(self, width: int, height: int) -> None:
        self._width = width
        self._height = height

    def of(self, values: Sequence[float], terms_x: int, terms_y: int) -> _Channel:
        width, height = self._width, self._height
        rows = [values[start : start + width] for start in range(0, len(values), width)]
        waves_y = [_wave(term, height) for term in range(terms_y)]
        columns = [
            [_dot(row, wave) for row in rows]
            for wave in (_wave(term, width) for term in range(terms_x))
        ]
        # Of the terms, the triangle of the lowest frequencies.
        terms = [
            _dot(columns[x], waves_y[y]) / (width * height)
            for y in range(terms_y)
            for x in range(terms_x)
            if x * terms_y < terms_x * (terms_y - y)
        ]
        average, others = terms[0], terms[1:]
        scale = max(map(abs, others), default=0.0)
        if scale == 0:
            return _Channel(average, 0, [0] * len(others))
        return _Channel(average, scale, [_rounded(15 * (0.5 + 0.5 * o / scale)) for o in others])


def _over_average(band: bytes, alpha: Sequence[float], opacity: float) -> list[float]:
    """One colour, 0 to 1, blended with its own average where the image is transparent."""
    visible = [value * a / 255 for value, a in zip(band, alpha, strict=True)]
    average = sum(visible) / opacity if opacity else 0.0
    return [value + average * (1 - a) for value, a in zip(visible, alpha, strict=True)]


def _wave(term: int, length: int) -> list[float]:
    return [cos(pi / length * term * (position + 0.5)) for position in range(length)]


def _dot(left: Sequence[float], right: Sequence[float]) -> float:
    return float(sum(map(mul, left, right)))


def _rounded(value: float) -> int:
    """Rounds halves upwards, as the format's first implementation does."""
    return floor(value + 0.5)
