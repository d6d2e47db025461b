"""The local models: how each of them paints, prints and packs."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final, Protocol

from PIL import Image

from domain.models import ImageFormat
from providers.local.editing.textures import Size
from providers.local.painting import ink, silver
from providers.local.painting.painters import Painter


class Finish(Protocol):
    def __call__(self, picture: Image.Image, random: Random, *, own: bool) -> Image.Image:
        """The surface of a print; `own` where the picture has had one from this style."""


@dataclass(frozen=True, slots=True)
class Style:
    name: str
    painter: Callable[[Size], Painter]
    restyle: Callable[[Image.Image, Random], Image.Image]
    """A picture that is not of this style, in this style."""
    finish: Finish
    format: ImageFormat
    """What is delivered where the request names none: what keeps 1K below a megabyte."""


SILVER: Final = Style(
    "Silver", silver.SilverPainter, silver.restyle, silver.finish, ImageFormat.JPEG
)
INK: Final = Style("Ink", ink.InkPainter, ink.restyle, ink.finish, ImageFormat.WEBP)
_STYLES: Final = {"local-silver": SILVER, "local-ink": INK}


def style_of(model_id: str) -> Style:
    """Silver for models of others, whose pictures are made here for rehearsals."""
    return _STYLES.get(model_id, SILVER)
