"""Decodes JSON of several megabytes that a client has written.

What must stay true: other threads can run meanwhile. The standard decoder keeps them waiting until
it has read all of a text, for half a second where 8 MB consist of small lists. So it is given short
pieces, and what is longer than a piece is put together here.
"""

import json
import re
from collections.abc import Callable
from typing import Any, Final, TypeAlias

_PIECES: Final = (512, 8_192, 65_536)
"""Lengths to be tried, one after the other: most objects are short, and a piece is copied."""
_MAX_NESTING: Final = 10
"""Of what is longer than a piece."""
_BLANK: Final = re.compile(r"[ \t\n\r]*")
_decode_piece: Final = json.JSONDecoder().raw_decode

_Decoded: TypeAlias = tuple[Any, int]
"""A value, and the position after it."""


def decode_long_json(text: str) -> Any:
    """Raise ValueError or RecursionError, as `json.loads` does."""
    value, end = _decode(text, _skip_blank(text, 0), 0)
    if _skip_blank(text, end) < len(text):
        raise ValueError("something follows the value")
    return value


def _decode(text: str, at: int, nesting: int) -> _Decoded:
    opening = text[at : at + 1]
    if opening not in {"[", "{"}:
        return _decode_piece(text, at)
    for length in _PIECES:
        try:
            value, end = _decode_piece(text[at : at + length])
        except ValueError:
            if at + length >= len(text):
                raise
        else:
            return value, at + end
    if nesting == _MAX_NESTING:
        raise ValueError("it is nested too deeply")
    return (_decode_list if opening == "[" else _decode_object)(text, at + 1, nesting + 1)


def _decode_list(text: str, at: int, nesting: int) -> _Decoded:
    values: list[Any] = []

    def add(at: int) -> int:
        value, at = _decode(text, at, nesting)
        values.append(value)
        return at

    return values, _decode_members(text, at, add, end="]")


def _decode_object(text: str, at: int, nesting: int) -> _Decoded:
    values: dict[str, Any] = {}

    def add(at: int) -> int:
        name, at = _decode_piece(text, at)
        at = _skip_blank(text, at)
        if not isinstance(name, str) or text[at : at + 1] != ":":
            raise ValueError("an object has no name or no colon")
        values[name], at = _decode(text, _skip_blank(text, at + 1), nesting)
        return at

    return values, _decode_members(text, at, add, end="}")


def _decode_members(text: str, at: int, add: Callable[[int], int], *, end: str) -> int:
    """Add each member, and return the position after the end. There is at least one: what is empty
    is shorter than a piece, but for blanks.
    """
    while True:
        at = _skip_blank(text, add(_skip_blank(text, at)))
        mark = text[at : at + 1]
        if mark == end:
            return at + 1
        if mark != ",":
            raise ValueError("a comma is missing")
        at += 1


def _skip_blank(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    assert found is not None
    return found.end()
