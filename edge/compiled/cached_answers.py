"""Answers that stay the same for as long as their record does: the facts of images.

A conversation shows the same images with every turn, and so does a page that is read again. What is
selected of an image is answered once, for as long as the links in it stay the same.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

MAX_CACHED: Final = 10_000

CachedAnswer: TypeAlias = tuple[float, dict[str, Any]]
"""When the answer changes, in seconds since 1970, and the answer."""


@dataclass(frozen=True, slots=True)
class CachedAnswers:
    """The cached answers of all operations, oldest first."""

    _known: dict[Any, CachedAnswer] = field(default_factory=dict)

    @property
    def find(self) -> Callable[[Any], CachedAnswer | None]:
        return self._known.get

    def keep(self, key: Any, until: float, answer: dict[str, Any]) -> None:
        """Keep a copy: the answer itself goes on to be filled in."""
        self._known.pop(key, None)
        self._known[key] = (until, answer.copy())
        if len(self._known) > MAX_CACHED:
            del self._known[next(iter(self._known))]
