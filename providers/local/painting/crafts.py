"""Boats, balloons and birds."""

import math
from collections.abc import Sequence

from providers.local.colours import Colour, darker, lighter, mix
from providers.local.painting.outlines import Point, Shape, box
from providers.local.painting.palettes import Palette


def sailing_boat(foot: Point, size: float, *, hull: Colour, sail: Colour) -> list[Shape]:
    """A mast with two sails, and a hull with a bright edge."""
    x, y = foot
    mast_top = y - size * 1.25
    fore_sail = (
        (x + size * 0.03, mast_top),
        (x + size * 0.2, y - size * 0.7),
        (x + size * 0.46, y - size * 0.24),
        (x + size * 0.03, y - size * 0.2),
    )
    main_sail = (
        (x - size * 0.03, mast_top + size * 0.1),
        (x - size * 0.22, y - size * 0.62),
        (x - size * 0.4, y - size * 0.24),
        (x - size * 0.03, y - size * 0.2),
    )
    return [
        box(
            x - size * 0.012,
            mast_top - size * 0.04,
            x + size * 0.012,
            y - size * 0.12,
            darker(hull, 0.3),
        ),
        Shape(fore_sail, sail),
        Shape(main_sail, mix(sail, darker(sail, 0.5), 0.3)),
        *_boat_hull(foot, size, hull),
    ]


def _boat_hull(foot: Point, size: float, hull: Colour) -> list[Shape]:
    x, y = foot
    side = (
        (x - size * 0.55, y - size * 0.15),
        (x + size * 0.6, y - size * 0.16),
        (x + size * 0.42, y + size * 0.05),
        (x - size * 0.36, y + size * 0.05),
    )
    edge = (
        (x - size * 0.55, y - size * 0.15),
        (x + size * 0.6, y - size * 0.16),
        (x + size * 0.57, y - size * 0.11),
        (x - size * 0.51, y - size * 0.1),
    )
    return [Shape(side, hull), Shape(edge, lighter(hull, 0.5), outlined=False)]


def balloon(centre: Point, size: float, *, colours: tuple[Colour, Colour]) -> list[Shape]:
    """A striped envelope with a basket."""
    x, y = centre
    shapes = []
    for index, share in enumerate((1.0, 0.72, 0.38)):
        stripe = colours[index % 2]
        outline = []
        for step in range(40):
            angle = math.tau * step / 40
            narrow = 1 - 0.3 * max(0.0, math.sin(angle)) ** 2.2
            drop = 1 + 0.36 * max(0.0, math.sin(angle))
            outline.append(
                (x + share * narrow * size * math.cos(angle), y + drop * size * math.sin(angle))
            )
        shapes.append(
            Shape(tuple(outline), darker(stripe, 0.08 * (2 - index)), outlined=index == 0)
        )
    mouth, basket = y + size * 1.36, y + size * 1.72
    ropes = [
        Shape(
            ((x + a, mouth), (x + a + size * 0.012, mouth), (x + b, basket)),
            (60, 48, 40),
            outlined=False,
        )
        for a, b in ((-size * 0.2, -size * 0.11), (size * 0.2, size * 0.11))
    ]
    return [
        *ropes,
        *shapes,
        box(x - size * 0.13, basket, x + size * 0.13, basket + size * 0.2, (112, 76, 48)),
    ]


def bird(centre: Point, *, span: float, lift: float, colour: Colour) -> Shape:
    x, y = centre
    thin = span * 0.07
    upper = [(-1.0, -lift), (-0.45, -lift * 1.15), (0.0, 0.0), (0.45, -lift * 1.15), (1.0, -lift)]
    lower = [(0.42, -lift * 0.8), (0.0, 0.22), (-0.42, -lift * 0.8)]
    points = [(x + a * span, y + b * span - thin) for a, b in upper]
    points += [(x + a * span, y + b * span + thin) for a, b in lower]
    return Shape(tuple(points), colour, outlined=False)


def mirrored(shapes: Sequence[Shape], line: float, palette: Palette) -> list[Shape]:
    """A reflection in water: squeezed, and on its way to the water's colour."""
    return [
        Shape(
            tuple((x, line + (line - y) * 0.5) for x, y in shape.points),
            mix(shape.colour, palette.sky[1], 0.72),
            outlined=False,
        )
        for shape in shapes
    ]
