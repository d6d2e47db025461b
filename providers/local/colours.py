"""Colours by name, and arithmetic on them."""

import re
from collections.abc import Iterable
from typing import Final

Colour = tuple[int, int, int]

COLOURS: Final[dict[str, Colour]] = {
    "black": (22, 22, 24),
    "white": (250, 249, 245),
    "grey": (128, 130, 134),
    "silver": (192, 196, 202),
    "red": (206, 46, 44),
    "crimson": (166, 24, 52),
    "orange": (238, 130, 38),
    "amber": (240, 166, 54),
    "yellow": (246, 208, 68),
    "gold": (212, 168, 66),
    "golden": (226, 172, 72),
    "brown": (116, 76, 46),
    "beige": (226, 210, 182),
    "cream": (246, 238, 218),
    "ivory": (248, 244, 230),
    "pink": (238, 148, 176),
    "magenta": (196, 40, 140),
    "purple": (116, 66, 158),
    "violet": (124, 82, 186),
    "lavender": (182, 164, 218),
    "indigo": (58, 54, 128),
    "navy": (26, 40, 84),
    "blue": (44, 98, 190),
    "turquoise": (52, 178, 176),
    "teal": (24, 122, 126),
    "cyan": (62, 188, 212),
    "emerald": (26, 140, 96),
    "green": (58, 138, 72),
    "olive": (118, 122, 56),
    "mint": (164, 218, 190),
    "coral": (238, 118, 98),
    "peach": (248, 190, 154),
}
_OTHER_NAMES: Final = {
    "gray": "grey",
    "preto": "black",
    "preta": "black",
    "branco": "white",
    "branca": "white",
    "vermelho": "red",
    "vermelha": "red",
    "azul": "blue",
    "verde": "green",
    "amarelo": "yellow",
    "amarela": "yellow",
    "dourado": "gold",
    "dourada": "gold",
    "rosa": "pink",
    "roxo": "purple",
}
COLOUR_WORDS: Final = "|".join(
    sorted((re.escape(name) for name in (*COLOURS, *_OTHER_NAMES)), key=len, reverse=True)
)
COLOUR_WORD: Final = re.compile(rf"\b(?:{COLOUR_WORDS})\b")


def colour_name(word: str) -> str:
    """The name under which `COLOURS` holds what the word means."""
    return _OTHER_NAMES.get(word, word)


def colour_in(text: str) -> str | None:
    """The first colour that a text in lower case names."""
    found = COLOUR_WORD.search(text)
    return colour_name(found[0]) if found else None


def mix(one: Colour, other: Colour, share: float) -> Colour:
    """`share` is how much of the other colour there is, from 0 to 1."""
    return (
        round(one[0] + (other[0] - one[0]) * share),
        round(one[1] + (other[1] - one[1]) * share),
        round(one[2] + (other[2] - one[2]) * share),
    )


def darker(colour: Colour, share: float) -> Colour:
    return mix(colour, (8, 10, 20), share)


def lighter(colour: Colour, share: float) -> Colour:
    return mix(colour, (255, 252, 246), share)


def brightness(colour: Colour) -> float:
    """How bright it looks, from 0 to 1."""
    return (0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]) / 255


def nearest(colour: Colour, others: Iterable[Colour]) -> Colour:
    return min(others, key=lambda o: sum((a - b) ** 2 for a, b in zip(colour, o, strict=True)))
