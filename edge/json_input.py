"""JSON that clients send, without what MongoDB or a person could stumble over."""

import re
from typing import Any, Final

import orjson

MAX_NESTING: Final = 32
NUL_ESCAPE: Final = "\\u0000"
_SUSPECT: Final = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
_ESCAPE: Final = re.compile(
    rb"\\(?:u(?P<nul>0000)"
    rb"|u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|u(?P<lone>[dD][89a-fA-F][0-9a-fA-F]{2})"
    rb"|.)",
    re.DOTALL,
)
"""Every escape, so that an escaped backslash begins no other one."""


def decode_json(data: str | bytes) -> Any:
    """Raise JSONDecodeError for what is not JSON, or is nested too deeply.

    A lone surrogate in a string is U+FFFD, and NUL is left out: clients that cut a text in the
    middle of a character send them.
    """
    value = orjson.loads(_repair(data.encode() if isinstance(data, str) else data))
    _check(value, MAX_NESTING)
    return value


def drop_nul(text: str) -> str:
    return text.replace("\0", "")


def _repair(data: bytes) -> bytes:
    return _ESCAPE.sub(_repair_escape, data) if _SUSPECT.search(data) else data


def _repair_escape(escape: re.Match[bytes]) -> bytes:
    if escape["nul"]:
        return b""
    return b"\\ufffd" if escape["lone"] else escape[0]


def _check(value: object, nesting: int) -> None:
    if isinstance(value, dict | list):
        if nesting == 0:
            raise orjson.JSONDecodeError("nested too deeply", "", 0)
        for inner in value.values() if isinstance(value, dict) else value:
            _check(inner, nesting - 1)
