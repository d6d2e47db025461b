"""The interface between a scene and a style: strokes, which a painter carries out."""

from collections.abc import Callable, Sequence
from random import Random
from typing import Protocol

from PIL import Image

from providers.local.colours import Colour
from providers.local.painting.outlines import Point, Shape
from providers.local.painting.palettes import Palette


class Painter(Protocol):
    """How things look in one style. Lengths are those of `outlines`."""

    @property
    def picture(self) -> Image.Image: ...

    def sky(self, palette: Palette, horizon: float) -> None: ...

    def stars(self, random: Random, horizon: float) -> None: ...

    def aurora(self, random: Random, horizon: float) -> None: ...

    def light(self, centre: Point, radius: float, palette: Palette) -> None:
        """The sun, or where the palette is dark the moon."""

    def clouds(
        self, random: Random, horizon: float, palette: Palette, *, amount: float
    ) -> None: ...

    def land(self, line: Sequence[Point], random: Random, *, top: Colour, low: Colour) -> None:
        """Everything below the line, from its colour at the top to the one further down."""

    def crests(
        self, line: Sequence[Point], colour: Colour, *, above: float, random: Random
    ) -> None:
        """Snow on those parts of a ridge that rise above a height."""

    def water(
        self, random: Random, horizon: float, palette: Palette, *, light_x: float | None
    ) -> None:
        """Mirrors what has been painted so far, with a path of light where the sky has a light."""

    def shapes(self, shapes: Sequence[Shape]) -> None: ...

    def lamp(self, centre: Point, radius: float, colour: Colour) -> None:
        """A light that shines into its surroundings."""

    def haze(self, height: float, colour: Colour, share: float) -> None:
        """Mist that lies around a height."""

    def snowfall(self, random: Random) -> None: ...

    def rainfall(self, random: Random) -> None: ...

    def finish_scene(self) -> None:
        """Called once, when everything is painted."""


Stroke = Callable[[Painter], None]
