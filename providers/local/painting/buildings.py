"""Houses, towers and lighthouses."""

import math
from collections.abc import Iterator
from random import Random

from providers.local.colours import Colour, darker, lighter, mix
from providers.local.painting.outlines import Point, Shape, box
from providers.local.painting.palettes import Palette

_PANE = 0.0105
"""The distance between the windows of a tower."""
_TOWER_TOP = 0.062
"""Half the width of a lighthouse below its gallery, as a share of its height."""


def cottage(foot: Point, size: float, *, wall: Colour, roof: Colour, window: Colour) -> list[Shape]:
    """A house seen from a corner, with its gable on the left."""
    x, y = foot
    eaves, ridge = y - size * 0.62, y - size * 1.12
    corner = x + size * 0.12
    gable = (
        (x - size * 0.6, y + size * 0.03),
        (x - size * 0.6, eaves),
        (x - size * 0.24, ridge),
        (corner, eaves),
        (corner, y + size * 0.03),
    )
    chimney = x + size * 0.5
    return [
        box(
            chimney,
            ridge - size * 0.16,
            chimney + size * 0.13,
            eaves - size * 0.2,
            darker(roof, 0.3),
        ),
        box(corner, eaves, x + size, y + size * 0.03, darker(wall, 0.22)),
        Shape(gable, wall),
        *_cottage_roof(foot, size, roof),
        box(x - size * 0.32, y - size * 0.36, x - size * 0.14, y + size * 0.03, darker(roof, 0.35)),
        box(x - size * 0.34, eaves - size * 0.14, x - size * 0.12, eaves + size * 0.06, window),
        *(
            box(left, eaves + size * 0.18, left + size * 0.2, eaves + size * 0.4, window)
            for left in (x + size * 0.28, x + size * 0.64)
        ),
    ]


def _cottage_roof(foot: Point, size: float, roof: Colour) -> list[Shape]:
    """The side that is seen, and its two edges above the gable."""
    x, y = foot
    eaves, ridge = y - size * 0.62, y - size * 1.12
    corner = x + size * 0.12
    side = (
        (x - size * 0.28, ridge - size * 0.04),
        (x + size * 0.76, ridge - size * 0.04),
        (x + size * 1.08, eaves + size * 0.05),
        (corner + size * 0.04, eaves + size * 0.05),
    )
    right_edge = (
        (x - size * 0.28, ridge - size * 0.04),
        (x - size * 0.2, ridge - size * 0.04),
        (corner + size * 0.08, eaves + size * 0.05),
        (corner, eaves + size * 0.07),
    )
    left_edge = (
        (x - size * 0.28, ridge - size * 0.04),
        (x - size * 0.22, ridge + size * 0.02),
        (x - size * 0.62, eaves + size * 0.07),
        (x - size * 0.7, eaves + size * 0.04),
    )
    return [
        Shape(side, roof),
        Shape(right_edge, lighter(roof, 0.16)),
        Shape(left_edge, darker(roof, 0.18)),
    ]


def lighthouse(
    foot: Point, height: float, *, wall: Colour, band: Colour, lamp: Colour
) -> list[Shape]:
    """A striped tower with a gallery, a lamp room and its roof."""
    x, y = foot
    top = height * _TOWER_TOP
    gallery = y - height * 0.8
    room = top * 0.72
    roof = (
        (x - room * 1.3, gallery - height * 0.112),
        (x, gallery - height * 0.19),
        (x + room * 1.3, gallery - height * 0.112),
    )
    return [
        *_lighthouse_tower(foot, height, wall=wall, band=band),
        box(x - top * 1.35, gallery - height * 0.018, x + top * 1.35, gallery, darker(band, 0.55)),
        box(x - room, gallery - height * 0.115, x + room, gallery - height * 0.018, lamp),
        box(
            x - room * 0.1,
            gallery - height * 0.115,
            x + room * 0.1,
            gallery - height * 0.018,
            darker(band, 0.5),
        ),
        Shape(roof, darker(band, 0.3)),
    ]


def _lighthouse_tower(foot: Point, height: float, *, wall: Colour, band: Colour) -> list[Shape]:
    """Five stripes, each with its side in the shade."""
    x, y = foot
    bottom, top = height * 0.105, height * _TOWER_TOP

    def slice_of(low: float, high: float, colour: Colour, *, lit: bool) -> Shape:
        at_low, at_high = (bottom + (top - bottom) * share for share in (low, high))
        y_low, y_high = y - height * 0.8 * low, y - height * 0.8 * high
        left_low, left_high = (-at_low, -at_high) if lit else (at_low * 0.25, at_high * 0.25)
        return Shape(
            (
                (x + left_low, y_low),
                (x + left_high, y_high),
                (x + at_high, y_high),
                (x + at_low, y_low),
            ),
            colour,
            outlined=lit,
        )

    shapes = []
    for index in range(5):
        colour = band if index % 2 else wall
        low, high = index / 5, (index + 1) / 5
        shapes.append(slice_of(low, high, colour, lit=True))
        shapes.append(slice_of(low, high, darker(colour, 0.26), lit=False))
    return shapes


def _towers(
    random: Random, *, left: float, right: float, base: float, height: float
) -> list[tuple[float, float, float, float]]:
    """Left, top, right and bottom of houses that stand side by side."""
    rows = []
    x = left
    while x < right:
        width = random.uniform(0.035, 0.085)
        # Taller towards the middle, as a skyline is.
        middle = 1 - abs((x - left) / (right - left) - 0.5) * 1.1
        tall = height * random.uniform(0.35, 1.0) * (0.45 + 0.65 * middle)
        rows.append((x, base - tall, x + width, base))
        x += width * random.uniform(0.82, 1.08)
    return rows


def skyline(
    random: Random,
    palette: Palette,
    *,
    width: float,
    base: float,
    foot: float,
    height: float,
    depth: float,
    lit: float,
) -> list[Shape]:
    """A row of towers across the picture. They are as tall as if they stood on the base, and go
    down to the foot; `lit` is the share of windows with light behind them.
    """
    colour = palette.land(depth)
    shapes: list[Shape] = []
    for left, top, right, _ in _towers(
        random, left=-0.02, right=width + 0.02, base=base, height=height
    ):
        wall = mix(colour, palette.light, random.uniform(0.0, 0.12))
        corner = left + (right - left) * 0.62
        shaded = ((corner, top), (right, top), (right, foot), (corner, foot))
        shapes.append(box(left, top, right, foot, wall))
        shapes.append(Shape(shaded, darker(wall, 0.16), outlined=False))
        if random.random() < 0.25:
            middle = (left + right) / 2
            shapes.append(box(middle - 0.0015, top - 0.04, middle + 0.0015, top, wall))
        glass = darker(wall, 0.3) if palette.dark else mix(wall, palette.sky[1], 0.35)
        for pane in _panes(random, left=left, right=right, top=top, foot=foot):
            bright = mix(wall, palette.accent, random.uniform(0.55, 0.95))
            tone = bright if random.random() < lit else glass
            shapes.append(Shape(pane, mix(tone, palette.haze, 0.25 * (1 - depth)), outlined=False))
    return shapes


def _panes(
    random: Random, *, left: float, right: float, top: float, foot: float
) -> Iterator[tuple[Point, ...]]:
    rows = min(26, int((foot - top) / (_PANE * 1.35)) - 1)
    for column in range(int((right - left) / _PANE) - 1):
        for row in range(rows):
            if random.random() < 0.35:
                continue
            x, y = left + _PANE * (column + 0.7), top + _PANE * 1.35 * (row + 0.8)
            far, low = x + _PANE * 0.5, y + _PANE * 0.72
            yield (x, y), (far, y), (far, low), (x, low)


def headland(random: Random, foot: Point, *, half: float, height: float, colour: Colour) -> Shape:
    """A low rock in the water around its foot."""
    x, y = foot
    line = []
    for step in range(61):
        share = step / 60
        swell = math.sin(math.pi * share) ** 0.65 * height
        line.append((x - half + 2 * half * share, y - swell * random.uniform(0.9, 1.05)))
    return Shape((*line, (x + half, y + 0.008), (x - half, y + 0.008)), colour)
