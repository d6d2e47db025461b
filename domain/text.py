"""Text that people write: what of it can be seen, and how it is made into short lines.

Lengths are in code points. What people take for one letter may have many: a text is cut between
such letters, never inside one.
"""

from typing import Final

import regex

# `\X` is an extended grapheme cluster, what people take for one letter: UAX 29.
_LETTER: Final = regex.compile(r"\X")
_BREAKS: Final = regex.compile(r"[\p{Cc}\p{Zl}\p{Zp}\s]+")
_INVISIBLE: Final = regex.compile(
    # A mark alone marks nothing; U+2800 is a braille letter without dots.
    r"[\p{Cc}\p{Cf}\p{Cs}\p{Z}\p{M}\p{Default_Ignorable_Code_Point}\u2800]*"
)
_DIRECTION: Final = regex.compile("[\u202a-\u202e\u2066-\u2069]")
_POP_EMBEDDING: Final = "\u202c"
_POP_ISOLATE: Final = "\u2069"
_EMBEDDINGS: Final = "\u202a\u202b"
_OVERRIDES: Final = "\u202d\u202e"
_REMOVED: Final = ""
_BALANCED_LENGTHS: Final = {
    **dict.fromkeys("\u202a\u202b\u2066\u2067\u2068", 2),
    **dict.fromkeys(_OVERRIDES + _POP_EMBEDDING + _POP_ISOLATE, 0),
}
"""How much longer each control makes a balanced text: one that opens needs another one that closes
it, and counts for both.
"""


def is_blank(text: str) -> bool:
    """True where nothing could be seen."""
    return _INVISIBLE.fullmatch(text) is not None


def one_line(text: str) -> str:
    """The text on one line without surplus blanks, its direction controls balanced."""
    # Balancing removes controls: the blanks on their two sides then are one, or at the end.
    return _BREAKS.sub(" ", balance_directions(text.strip())).strip()


def shorten(text: str, length: int) -> str:
    """The beginning of a text, at most `length` code points, its direction controls balanced.

    A single letter that is longer, such as one with a thousand accents, is cut too.
    """
    balanced = balance_directions("".join(_first_letters(text, length)) or text[:length])
    return balanced if len(balanced) <= length else ""  # There is no room to close the first one.


def balance_directions(text: str) -> str:
    """The text so that it cannot turn what stands beside it.

    Every embedding and isolate is closed, and what closes none is removed. Overrides are removed:
    what they show is not what stands there.
    """
    ends: list[str] = []
    """What closes each open one, innermost last."""
    isolates: list[int] = []
    """Which of them are isolates."""

    def balance(found: regex.Match[str]) -> str:
        control: str = found[0]
        if control == _POP_EMBEDDING:
            return ends.pop() if len(ends) > (isolates[-1] + 1 if isolates else 0) else _REMOVED
        if control == _POP_ISOLATE:
            return _close(ends, isolates.pop()) if isolates else _REMOVED
        if control in _OVERRIDES:
            ends.append(_REMOVED)
            return _REMOVED
        if control in _EMBEDDINGS:
            ends.append(_POP_EMBEDDING)
        else:
            isolates.append(len(ends))
            ends.append(_POP_ISOLATE)
        return control

    return _DIRECTION.sub(balance, text) + _close(ends, 0)


def _close(ends: list[str], begin: int) -> str:
    """The ends from `begin` on, innermost first. They are taken off."""
    closed = "".join(reversed(ends[begin:]))
    del ends[begin:]
    return closed


def _first_letters(text: str, length: int) -> list[str]:
    letters, count, balanced_count = [], 0, 0
    for found in _LETTER.finditer(text):
        letter = found[0]
        count += len(letter)
        balanced_count += _BALANCED_LENGTHS.get(letter, len(letter))
        if max(count, balanced_count) > length:
            break
        letters.append(letter)
    return letters
