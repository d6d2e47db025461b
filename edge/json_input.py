"""Reads JSON that clients send, and removes characters that MongoDB cannot store or index."""

import re
from collections.abc import Iterable
from typing import Any, Final

import orjson

MAX_NESTING: Final = 32
AT_ONCE_BYTES: Final = 16 * 1024
"""Up to this length JSON is read within the event loop, in about 3 ms at most."""
NUL_ESCAPE: Final = "\\u0000"
_SUSPECT: Final = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
_ESCAPE: Final = re.compile(
    rb"\\(?:u(?P<nul>0000)"
    rb"|u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|u(?P<lone>[dD][89a-fA-F][0-9a-fA-F]{2})"
    rb"|.)",
    re.DOTALL,
)
"""Matches every escape, so that an escaped backslash is not taken for the beginning of another one.
"""
_STRING: Final = rb'"(?:[^"\\]++|\\.)*+"'
_TOKEN: Final = re.compile(_STRING + rb"[ \t\r\n]*+(:?)", re.DOTALL)
"""Matches every string; a colon follows a key."""
_MAX_QUOTES: Final = 8_000
"""Texts with more quotes are not checked for duplicate keys: that would take long, and no app
sends so many.
"""
_LARGE: Final = 1e20
"""An integer of more than 20 digits is at least this large."""
_STRING_OR_INTEGER: Final = re.compile(
    _STRING + rb"|(?<![0-9.eE+])(?P<integer>[0-9]{21,}+)(?![.eE])", re.DOTALL
)


def decode_json(data: str | bytes) -> Any:
    """Read JSON. A lone surrogate in a string becomes U+FFFD and NUL is removed: clients send them
    when they cut a text in the middle of a character.

    Raise JSONDecodeError for text that is not JSON, is nested too deeply, has a key twice in an
    object, or has an integer of more than 20 digits: parsers differ in how they read those.
    """
    text = _repair(data.encode() if isinstance(data, str) else data)
    value = orjson.loads(text)
    counted = _Counted()
    counted.add(value, MAX_NESTING)
    if text.count(b'"') <= _MAX_QUOTES and _TOKEN.findall(text).count(b":") != counted.keys:
        raise orjson.JSONDecodeError("a key occurs twice", "", 0)
    if counted.large_numbers and any(
        token["integer"] is not None for token in _STRING_OR_INTEGER.finditer(text)
    ):
        raise orjson.JSONDecodeError("an integer is too long", "", 0)
    return value


def drop_nul(text: str) -> str:
    return text.replace("\0", "")


def _repair(data: bytes) -> bytes:
    return _ESCAPE.sub(_repair_escape, data) if _SUSPECT.search(data) else data


def _repair_escape(escape: re.Match[bytes]) -> bytes:
    if escape["nul"]:
        return b""
    return b"\\ufffd" if escape["lone"] else escape[0]


class _Counted:
    """Counts the keys of all objects in a value, and the floats that may be integers with too many
    digits, which orjson reads as floats.
    """

    __slots__ = ("keys", "large_numbers")

    def __init__(self) -> None:
        self.keys = self.large_numbers = 0

    def add(self, value: object, nesting: int) -> None:
        """Raise JSONDecodeError where it is nested too deeply."""
        if isinstance(value, float):
            self.large_numbers += not -_LARGE < value < _LARGE
            return
        if not isinstance(value, dict | list):
            return
        if nesting == 0:
            raise orjson.JSONDecodeError("nested too deeply", "", 0)
        parts: Iterable[object] = value
        if isinstance(value, dict):
            self.keys += len(value)
            parts = value.values()
        for part in parts:
            if isinstance(part, dict | list | float):
                self.add(part, nesting - 1)
