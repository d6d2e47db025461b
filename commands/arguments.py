"""Kinds of arguments that several commands take. Their messages are for people."""

from argparse import ArgumentTypeError
from collections.abc import Callable
from typing import Final

MAX_REASON: Final = 500
_MAX_DIGITS: Final = 18


def whole_number(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        is_number = text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS
        if not is_number or not least <= int(text) <= most:
            raise ArgumentTypeError(f"{text!r} is not a whole number from {least:,} to {most:,}")
        return int(text)

    return parse


def line_of_text(max_length: int) -> Callable[[str], str]:
    def parse(text: str) -> str:
        # Others print it: it must not move their cursor, nor be empty.
        if not text.strip() or not text.isprintable() or len(text) > max_length:
            raise ArgumentTypeError(f"it must be one line of 1 to {max_length} characters")
        return text

    return parse
