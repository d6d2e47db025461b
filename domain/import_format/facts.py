"""Reads values of untrusted JSON: each is checked for the expected type."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, TypeVar

from domain.models import AspectRatio
from domain.outputs import MAX_COUNT

Member = TypeVar("Member", bound=StrEnum)
Value = TypeVar("Value")

MAX_TEXT: Final = 20_000
_WORD: Final = re.compile(r"[\w.:/ +@-]{1,200}")
_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")


class NotAnExport(Exception):
    """The message may be shown."""


class Facts:
    """An object of JSON. Its methods return values of the expected types, or raise NotAnExport."""

    def __init__(self, value: object, what: str) -> None:
        if not isinstance(value, dict):
            raise NotAnExport(f"{what} is not an object.")
        self._value: Mapping[str, object] = value
        self._what = what

    def text(self, name: str, *, most: int = MAX_TEXT) -> str:
        value = self._value.get(name)
        if not isinstance(value, str) or len(value) > most or _UNSTORABLE.search(value):
            raise self._wrong(name)
        return value

    def word(self, name: str) -> str:
        value = self.text(name)
        if _WORD.fullmatch(value) is None:
            raise self._wrong(name)
        return value

    def number(self, name: str, *, least: int = 0, most: int = MAX_COUNT) -> int:
        value = self._value.get(name)
        if type(value) is not int or not least <= value <= most:
            raise self._wrong(name)
        return value

    def fraction(self, name: str) -> float:
        value = self._value.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise self._wrong(name)
        return float(value)

    def flag(self, name: str) -> bool:
        value = self._value.get(name)
        if not isinstance(value, bool):
            raise self._wrong(name)
        return value

    def instant(self, name: str) -> datetime:
        try:
            value = datetime.fromisoformat(self.text(name, most=40))
            return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        except (ValueError, OverflowError):
            raise self._wrong(name) from None

    def member(self, name: str, kind: type[Member]) -> Member:
        try:
            return kind(self.text(name))
        except ValueError:
            raise self._wrong(name) from None

    def ratio(self, name: str) -> AspectRatio:
        try:
            return AspectRatio.parse(self.text(name, most=7))
        except ValueError:
            raise self._wrong(name) from None

    def list(self, name: str, *, most: int) -> Sequence[object]:
        value = self._value.get(name)
        if not isinstance(value, list) or len(value) > most:
            raise self._wrong(name)
        return value

    def texts(self, name: str, *, most: int) -> tuple[str, ...]:
        found = self.list(name, most=most)
        return tuple(Facts({name: text}, self._what).word(name) for text in found)

    def inside(self, name: str) -> "Facts":
        return Facts(self._value.get(name), f"{self._what}: {name}")

    def optional(self, name: str, read: Callable[[str], Value]) -> Value | None:
        return None if self._value.get(name) is None else read(name)

    def _wrong(self, name: str) -> NotAnExport:
        return NotAnExport(f"{self._what}: {name} is not valid.")
