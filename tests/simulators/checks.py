"""What values the fields of a payload may have."""

from collections.abc import Callable
from typing import Any

Check = Callable[[Any], bool]


def one_of(*values: str) -> Check:
    return lambda value: value in values


def whole(minimum: int, maximum: int) -> Check:
    return lambda value: (
        isinstance(value, int) and not isinstance(value, bool) and minimum <= value <= maximum
    )


def number(minimum: float, maximum: float) -> Check:
    return lambda value: (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and minimum <= value <= maximum
    )


def is_link(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(("https://", "data:"))


def is_words(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def links(maximum: int) -> Check:
    return lambda value: (
        isinstance(value, list) and 1 <= len(value) <= maximum and all(map(is_link, value))
    )
