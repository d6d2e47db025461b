"""Outlines: what a painter fills, and the lines of land that scenes are made of.

Lengths are in units of the square root of the picture's area, so that things keep their size in any
shape of picture. x runs to the right, y downwards, from the upper left corner.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from providers.local.colours import Colour

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Shape:
    """A polygon, or where `radii` is given an ellipse around the only point, in one colour."""

    points: tuple[Point, ...]
    colour: Colour
    radii: tuple[float, float] | None = None
    outlined: bool = True
    """Whether a style that draws outlines draws this one's."""


def disc(centre: Point, radius: float, colour: Colour, *, outlined: bool = False) -> Shape:
    return Shape((centre,), colour, (radius, radius), outlined)


def box(left: float, top: float, right: float, bottom: float, colour: Colour) -> Shape:
    return Shape(((left, top), (right, top), (right, bottom), (left, bottom)), colour)


def rocky_ridge(random: Random, *, width: float, base: float, height: float) -> list[Point]:
    """Peaks of uneven height with broken flanks."""
    count = 257
    peaks = [
        (random.uniform(-0.1, 1.1) * width, random.uniform(0.55, 1.0), random.uniform(0.8, 1.5))
        for _ in range(max(3, round(3.2 * width)))
    ]
    peaks.append((random.uniform(0.25, 0.75) * width, 1.0, 1.0))
    breaks = _fractal(random, 8, 0.56)
    line = []
    for step in range(count):
        x = -0.01 + (width + 0.02) * step / (count - 1)
        rise = max(top - abs(x - at) * steep / (2.2 * height + 0.16) for at, top, steep in peaks)
        rise = max(0.12, rise) + 0.34 * breaks[step]
        line.append((x, base - height * rise))
    return line


def rolling_ridge(random: Random, *, width: float, base: float, height: float) -> list[Point]:
    """Soft waves of land."""
    waves = [
        (height * share, random.uniform(0.6, 1.3) * pace, random.uniform(0, math.tau))
        for share, pace in ((0.55, 2.6), (0.3, 5.4), (0.08, 13.0))
    ]
    count = 161
    xs = [-0.01 + (width + 0.02) * step / (count - 1) for step in range(count)]
    return [
        (
            x,
            base
            - sum(size * (0.5 + 0.5 * math.sin(x * pace + phase)) for size, pace, phase in waves),
        )
        for x in xs
    ]


def dune_ridge(random: Random, *, width: float, base: float, height: float) -> list[Point]:
    """Long backs that end in sharp crests."""
    pace, phase = random.uniform(1.1, 1.9), random.uniform(0, math.pi)
    count = 241
    line = []
    for step in range(count):
        x = -0.01 + (width + 0.02) * step / (count - 1)
        wave = 1 - abs(math.sin(x * pace + phase + 0.25 * math.sin(x * 2.1 + phase)))
        line.append((x, base - height * (wave**1.35) - 0.01 * math.sin(x * 7 + phase)))
    return line


def height_at(line: Sequence[Point], x: float) -> float:
    return min(line, key=lambda point: abs(point[0] - x))[1]


def _fractal(random: Random, depth: int, roughness: float) -> list[float]:
    """Midpoint displacement: 2**depth + 1 heights around 0."""
    heights = [random.uniform(-0.3, 0.3), random.uniform(-0.3, 0.3)]
    spread = 0.5
    for _ in range(depth):
        finer = []
        for one, other in itertools.pairwise(heights):
            finer += [one, (one + other) / 2 + random.uniform(-spread, spread)]
        heights = [*finer, heights[-1]]
        spread *= roughness
    return heights
