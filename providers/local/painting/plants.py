"""Trees and flowers."""

import math
from collections.abc import Collection, Sequence
from random import Random

from providers.local.colours import COLOURS, Colour, darker, lighter, mix
from providers.local.painting.outlines import Point, Shape, disc, height_at
from providers.local.painting.palettes import Palette


def firs(
    random: Random,
    feet: Sequence[Point],
    *,
    height: float,
    depth: float,
    palette: Palette,
    snowy: bool,
) -> list[Shape]:
    """Firs of uneven height; `depth` says how near they are, as for `Palette.land`."""
    green = mix(palette.land(min(1, depth + 0.15)), (30, 66, 52), 0.1 if palette.dark else 0.3)
    if snowy:
        green = mix(palette.land(depth * 0.4), (52, 76, 84), 0.75)
    white = mix((240, 246, 255), palette.sky[1], 0.25)
    shapes: list[Shape] = []
    for foot in sorted(feet, key=lambda point: point[1]):
        tall = height * random.uniform(0.6, 1.2)
        shapes += _fir(random, foot, height=tall, colour=darker(green, random.uniform(0.0, 0.3)))
        if snowy:
            shapes += _snow_on_fir(foot, tall, white)
    return shapes


def _fir(random: Random, foot: Point, *, height: float, colour: Colour) -> list[Shape]:
    """A fir with drooping, uneven boughs."""
    x, y = foot
    half = height * random.uniform(0.17, 0.23)
    tiers = 7
    left: list[Point] = []
    right: list[Point] = []
    for tier in range(tiers):
        top = y - height * (1 - tier / tiers * 0.93)
        reach = half * ((tier + 1) / tiers) ** 0.9
        low = top + height / tiers * 1.05
        left += [(x - reach * 0.32, top), (x - reach * random.uniform(0.85, 1.12), low)]
        right += [(x + reach * 0.32, top), (x + reach * random.uniform(0.85, 1.12), low)]
    outline = (
        (x, y - height * 1.03),
        *right,
        (x + half * 0.1, y),
        (x - half * 0.1, y),
        *left[::-1],
    )
    return [Shape(outline, colour, outlined=False)]


def _snow_on_fir(foot: Point, height: float, white: Colour) -> list[Shape]:
    x, y = foot
    return [
        Shape(
            (
                (x, y - height * (1 - low)),
                (x + height * 0.14 * (low + 0.12), y - height * (0.9 - low)),
                (x - height * 0.16 * (low + 0.1), y - height * (0.88 - low)),
            ),
            white,
            outlined=False,
        )
        for low in (0.0, 0.24, 0.47)
    ]


def broadleaf(
    random: Random, foot: Point, *, height: float, colour: Colour, light: Colour
) -> list[Shape]:
    """A tree with a round crown of many leaf clusters, lit from the upper left."""
    x, y = foot
    bark = darker(mix(colour, (84, 60, 44), 0.6), 0.35)
    trunk = height * 0.035
    shapes = [
        Shape(
            (
                (x - trunk, y + 0.004),
                (x - trunk * 0.55, y - height * 0.5),
                (x + trunk * 0.55, y - height * 0.5),
                (x + trunk, y + 0.004),
            ),
            bark,
        )
    ]
    clusters = []
    for _ in range(150):
        angle, far = random.uniform(0, math.tau), random.random() ** 0.5
        centre = (
            x + math.cos(angle) * far * height * 0.33,
            y - height * 0.66 + math.sin(angle) * far * height * 0.27,
        )
        clusters.append((centre, height * random.uniform(0.03, 0.07)))
    # Shadow first, light last: the brighter a shade, the further up and to the left it is kept to.
    shades = (
        (darker(colour, 0.45), 9.0, 1.08),
        (darker(colour, 0.2), 0.3, 0.92),
        (mix(colour, light, 0.1), 0.06, 0.74),
        (mix(colour, light, 0.24), -0.14, 0.5),
    )
    for level, (shade, limit, share) in enumerate(shades):
        shift = height * 0.012 * level
        for (cx, cy), radius in clusters:
            side = (cx - x) / height + 1.2 * (cy - y + height * 0.66) / height
            if side + random.uniform(-0.12, 0.12) < limit:
                shapes.append(disc((cx - shift, cy - shift * 1.2), radius * share, shade))
    return shapes


def meadow(
    random: Random,
    line: Sequence[Point],
    bottom: float,
    *,
    palette: Palette,
    colours: Collection[str],
) -> list[Shape]:
    """Flowers below a line, which grow larger towards the viewer."""
    width = line[-1][0]
    blossom = COLOURS[next(iter(colours))] if colours else palette.accent
    tints = (
        blossom,
        darker(blossom, 0.18),
        lighter(blossom, 0.35),
        mix(blossom, (250, 210, 120), 0.4),
        (248, 244, 236),
    )
    stem = mix(palette.near, (78, 112, 58), 0.15 if palette.dark else 0.5)
    top = min(y for _, y in line)
    shapes: list[Shape] = []
    plants = sorted(
        (random.random() ** 1.35, random.uniform(-0.02, 1.02) * width)
        for _ in range(round(700 * width))
    )
    for share, x in plants:
        start = max(top, height_at(line, x)) + 0.006
        y = start + share * (bottom - start) * 1.2
        size = 0.0022 + 0.019 * share**1.7
        tone = mix(
            random.choice(tints),
            palette.land(0.7),
            0.35 * (1 - share) + (0.4 if palette.dark else 0),
        )
        head = (x + random.uniform(-1, 1) * size, y - size * 3.2)
        foot = ((x - size * 0.14, y + size), (x + size * 0.14, y + size), head)
        shapes.append(Shape(foot, mix(stem, palette.land(0.8), 0.5 * (1 - share)), outlined=False))
        shapes += _blossom(random, head, size=size, tone=tone, simple=share < 0.25)
    return shapes


def _blossom(
    random: Random, head: Point, *, size: float, tone: Colour, simple: bool
) -> list[Shape]:
    if simple:
        return [disc(head, size, tone)]
    turn = random.uniform(0, math.tau)
    petals = [
        disc(
            (
                head[0] + math.cos(turn + math.tau * petal / 5) * size * 0.62,
                head[1] + math.sin(turn + math.tau * petal / 5) * size * 0.5,
            ),
            size * 0.5,
            darker(tone, 0.14) if petal % 2 else tone,
            outlined=size > 0.011,
        )
        for petal in range(5)
    ]
    return [*petals, disc(head, size * 0.3, mix((246, 196, 72), tone, 0.1))]
