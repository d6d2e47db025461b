"""Reads values in a provider's answer as leniently as the provider's own clients.

An image must not be lost because of what stands beside it. What must stay true: any bytes and any
value are read without an error, and no returned text has a lone surrogate, which neither the
database nor a client could receive.
"""

import json
import re
from collections.abc import Mapping
from typing import Final

import orjson

from domain.outputs import MAX_COUNT

Fields = Mapping[str, object]

_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_REPLACEMENT: Final = "\ufffd"
_DIGITS: Final = re.compile(r"[0-9]{1,19}(?:\.0{1,9})?")
_YES: Final = frozenset({"true", "1", "yes", "on", "t", "y"})
"""Texts that count as true."""


def parse_object(text: bytes) -> Fields | None:
    """The fields of a JSON object; None where there is none.

    Besides JSON, with any byte order mark, it accepts: `NaN` and infinities, control characters in
    strings, bytes that are not valid text, and halves of surrogate pairs, which become U+FFFD.
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = _parse_odd_json(text)
    return value if isinstance(value, dict) else None


def _parse_odd_json(text: bytes) -> object:
    # Much slower than orjson.
    try:
        decoded = text.decode(json.detect_encoding(text), "replace")
        return _repair_texts(json.loads(decoded, strict=False))
    except (ValueError, RecursionError):
        return None


def _repair_texts(value: object) -> object:
    if isinstance(value, str):
        return _LONE_SURROGATE.sub(_REPLACEMENT, value)
    if isinstance(value, list):
        return [_repair_texts(item) for item in value]
    if isinstance(value, dict):
        return {_repair_texts(name): _repair_texts(item) for name, item in value.items()}
    return value


def pick(fields: Fields, *names: str) -> object:
    """The value under the first of these names that has one; None where none has."""
    return next((value for name in names if (value := fields.get(name)) is not None), None)


def items_of(value: object) -> list[object]:
    """The items of a list. Any other value counts as a list of itself, and null as an empty one."""
    if isinstance(value, list):
        return value
    return [] if value is None else [value]


def objects_of(value: object) -> list[Fields]:
    """The objects among the items of a list, or of a value that counts as one."""
    return [item for item in items_of(value) if isinstance(item, dict)]


def object_of(value: object) -> Fields:
    """An object; empty where the value is not one."""
    return value if isinstance(value, dict) else {}


def text_of(value: object) -> str:
    """A text; empty where the value is not one."""
    return value if isinstance(value, str) else ""


def id_of(value: object) -> str:
    """An id, also if it is a number; empty where there is none."""
    return str(value) if type(value) is int else text_of(value)


def state_of(fields: Fields) -> str:
    """The state in a job's `status`, in lower case; empty where there is none."""
    return text_of(fields.get("status")).strip().lower()


def count_of(value: object) -> int | None:
    """A count: a whole number from 0, also as a float or in digits. None where there is none, or it
    is larger than a field of the API can show.
    """
    if isinstance(value, str) and _DIGITS.fullmatch(value.strip()):
        value = float(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= MAX_COUNT else None


def is_yes(value: object) -> bool:
    """Whether a truth value is true, also as a number or a word."""
    if isinstance(value, str):
        return value.strip().lower() in _YES
    return isinstance(value, bool | int | float) and value == 1
