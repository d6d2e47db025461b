"""Mentions: `@Image2` in a message is the second of its turn's references, for every model."""

import re
from collections.abc import Mapping
from typing import Final

_MENTION: Final = re.compile(r"(?<!\w)@image([0-9]+)(?!\w)", re.IGNORECASE)
_MOST_DIGITS: Final = 9
IN_WORDS: Final = "image {number}"
"""How a mention is spelled for a model that knows none."""


def mentioned_in(message: str) -> tuple[int, ...]:
    """The numbers of the references that a message mentions, each once, in ascending order."""
    return tuple(sorted({_read_number(digits) for digits in _MENTION.findall(message)}))


def spell_mentions(message: str, positions: Mapping[int, int], spelling: str) -> str:
    """The message as a model reads it that is given only some of the references.

    `positions` are their places, from 1, among what the model is given, by their number in the
    turn; `spelling` is how it names what it is given, with `{number}` counted from 1 or `{index}`
    counted from 0. A mention of anything else stays as it is.
    """

    def spelled(mention: re.Match[str]) -> str:
        position = positions.get(_read_number(mention[1]))
        if position is None:
            return mention[0]
        return spelling.format(number=position, index=position - 1)

    return _MENTION.sub(spelled, message)


def _read_number(digits: str) -> int:
    """Its first digits are enough to know that there is no such reference."""
    return int(digits.lstrip("0")[:_MOST_DIGITS] or "0")
