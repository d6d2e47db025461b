"""The styles of the local models: how each of them paints, finishes and encodes."""

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
        """Add the style's surface, such as grain; `own`: whether the picture already has it."""


@dataclass(frozen=True, slots=True)
class Style:
    name: str
    painter: Callable[[Size], Painter]
    restyle: Callable[[Image.Image, Random], Image.Image]
    """Converts a picture of another style into this one."""
    finish: Finish
    format: ImageFormat
    """The default format: one in which a 1K image has less than a megabyte."""


SILVER: Final = Style(
    "Silver", silver.SilverPainter, silver.restyle, silver.finish, ImageFormat.JPEG
)
INK: Final = Style("Ink", ink.InkPainter, ink.restyle, ink.finish, ImageFormat.WEBP)
_STYLES: Final = {"local-silver": SILVER, "local-ink": INK}


def style_of(model_id: str) -> Style:
    """The style of a model: Silver for other models, whose pictures rehearsals make."""
    return _STYLES.get(model_id, SILVER)
