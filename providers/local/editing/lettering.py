"""Words and frames on a picture."""

import math
import string
import unicodedata

from PIL import Image, ImageDraw, ImageFont

from providers.local.colours import Colour, brightness, darker
from providers.local.editing.textures import curve, soften
from providers.local.language.operations import Frame, Place, Write

_LARGEST, _SMALLEST = 0.115, 0.028
"""Sizes of letters, as parts of the picture's shorter side."""


_GLYPHS = frozenset(string.ascii_letters + string.digits + string.punctuation + "“”‘’…")
_PLAIN = str.maketrans({"–": "-", "—": "-", "ß": "ss", "æ": "ae", "ø": "o", "Æ": "AE", "Ø": "O"})


def legible(words: str) -> str:
    """The words as the typeface can write them: Pillow's own one knows plain Latin letters only.

    Letters lose their accents; what has no plain letter is left out.
    """
    plain = unicodedata.normalize("NFKD", words.translate(_PLAIN))
    return "".join(one for one in plain if one in _GLYPHS or one.isspace())


def write(picture: Image.Image, order: Write) -> Image.Image:
    """The words in as large letters as fit, with a soft shadow that keeps them legible."""
    width, height = picture.size
    words = legible(order.words).strip()
    if not words:
        return picture
    font, lines = _fit_font(words, width=width * 0.86, height=height * 0.6, side=min(width, height))
    spacing = font.size * 0.3
    text = "\n".join(lines)
    pen = ImageDraw.Draw(Image.new("L", (1, 1)))
    left, top, right, bottom = pen.multiline_textbbox(
        (0, 0), text, font, spacing=spacing, align="center"
    )
    margin = math.ceil(font.size * 0.7)
    size = (math.ceil(right - left) + 2 * margin, math.ceil(bottom - top) + 2 * margin)
    letters = Image.new("L", size)
    ImageDraw.Draw(letters).multiline_text(
        (margin - left, margin - top), text, 255, font, spacing=spacing, align="center"
    )
    edge = height * 0.075
    y = {
        Place.TOP: edge - margin,
        Place.CENTRE: (height - size[1]) / 2,
        Place.BOTTOM: height - edge - size[1] + margin,
    }[order.place]
    at = (round((width - size[0]) / 2), round(y))
    colour = order.colour or (252, 250, 244)
    shadow: Colour = (250, 248, 240) if brightness(colour) < 0.35 else darker(colour, 0.92)
    blur = soften(letters, max(1.0, font.size * 0.09)).point(
        curve(lambda value: min(0.85, value * 1.7))
    )
    result = picture.copy()
    result.paste(shadow, (*at, at[0] + size[0], at[1] + size[1]), blur)
    result.paste(colour, (*at, at[0] + size[0], at[1] + size[1]), letters)
    return result


def frame(picture: Image.Image, order: Frame) -> Image.Image:
    """A mount around the picture, which is made a little smaller for it; the size stays."""
    width, height = picture.size
    border = max(2, round(0.045 * min(width, height) * min(order.amount, 3)))
    inner = (max(1, width - 2 * border), max(1, height - 2 * border))
    # Equal borders change the shape a little: the longer pair of edges gives way.
    scale = max(inner[0] / width, inner[1] / height)
    across, down = inner[0] / scale, inner[1] / scale
    left, top = (width - across) / 2, (height - down) / 2
    small = picture.resize(
        inner, Image.Resampling.LANCZOS, box=(left, top, left + across, top + down)
    )
    mount = Image.new("RGB", picture.size, order.colour)
    line = max(1, round(border * 0.06))
    rim = darker(order.colour, 0.35)
    mount.paste(rim, (border - line, border - line, width - border + line, height - border + line))
    mount.paste(small, (border, border))
    return mount


def _fit_font(
    words: str, *, width: float, height: float, side: int
) -> tuple[ImageFont.FreeTypeFont, list[str]]:
    """The largest letters in which the words fit, in lines that break between words."""
    size = _LARGEST * side
    while True:
        font = ImageFont.load_default(size=max(6.0, size))
        assert isinstance(font, ImageFont.FreeTypeFont)
        lines = _break_lines(words, font, width)
        fits = all(font.getlength(line) <= width for line in lines)
        if (fits and len(lines) * size * 1.3 <= height) or size <= _SMALLEST * side:
            return font, lines
        size *= 0.88


def _break_lines(words: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    lines: list[str] = []
    for paragraph in words.splitlines():
        line = ""
        for word in paragraph.split():
            longer = f"{line} {word}".strip()
            if line and font.getlength(longer) > width:
                lines.append(line)
                line = word
            else:
                line = longer
        if line:
            lines.append(line)
    return lines or [words]
