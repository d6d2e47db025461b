"""JSON that clients send, without what MongoDB or a person could stumble over."""

from typing import Any, Final

import orjson

MAX_NESTING: Final = 32


def decode_json(data: str | bytes) -> Any:
    """Raise JSONDecodeError for what is not JSON, has NUL characters, or is nested too deeply."""
    value = orjson.loads(data)
    _check(value, MAX_NESTING)
    return value


def _check(value: object, nesting: int) -> None:
    if isinstance(value, str):
        if "\0" in value:
            raise orjson.JSONDecodeError("NUL in a string", "", 0)
    elif isinstance(value, dict | list):
        if nesting == 0:
            raise orjson.JSONDecodeError("nested too deeply", "", 0)
        for inner in [*value, *value.values()] if isinstance(value, dict) else value:
            _check(inner, nesting - 1)
