"""Mentions: `@Image2` in a message is the second of its turn's references, for every model."""

import re
from collections.abc import Mapping
from typing import Final

_MENTION: Final = re.compile(r"(?<!\w)@image([0-9]+)(?!\w)", re.IGNORECASE)
_MOST_DIGITS: Final = 9
IN_WORDS: Final = "image {number}"
"""How a mention is written for a model that has no notation of its own."""


def mentioned_in(message: str) -> tuple[int, ...]:
    """The numbers of the references that a message mentions, each once, in ascending order."""
    return tuple(sorted({_read_number(digits) for digits in _MENTION.findall(message)}))


def blur_mentions(message: str) -> str:
    """An earlier message without its mentions: their numbers are those of its own turn's
    references.
    """
    return _MENTION.sub("an earlier image", message)


def spell_mentions(message: str, positions: Mapping[int, int], spelling: str) -> str:
    """The message as a model reads it that receives only some of the references.

    `positions` maps a reference's number in the turn to its position, from 1, among what the model
    receives. `spelling` is the model's notation, with `{number}` counted from 1 or `{index}`
    counted from 0. Mentions of other references are not changed.
    """

    def spelled(mention: re.Match[str]) -> str:
        position = positions.get(_read_number(mention[1]))
        if position is None:
            return mention[0]
        return spelling.format(number=position, index=position - 1)

    return _MENTION.sub(spelled, message)


def _read_number(digits: str) -> int:
    """Parse a number. Its first digits are enough to know that there is no such reference."""
    return int(digits.lstrip("0")[:_MOST_DIGITS] or "0")
