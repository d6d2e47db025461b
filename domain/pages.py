"""Pages of a list that grows: where a page starts, and what lies on either side of it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Generic, TypeAlias, TypeVar

Item = TypeVar("Item")
Other = TypeVar("Other")

Position: TypeAlias = tuple[str | int, ...]
"""An item's place in its list, by the values that the list is sorted by: never an offset."""

DEFAULT_PAGE_SIZE: Final = 20
MAX_PAGE_SIZE: Final = 100


@dataclass(frozen=True, slots=True)
class PageRequest:
    """The first `size` items after a position, or, backwards, the last `size` before one."""

    size: int = DEFAULT_PAGE_SIZE
    position: Position | None = None
    backwards: bool = False


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """Items in the list's order, each with its position."""

    items: tuple[tuple[Item, Position], ...]
    has_next: bool = False
    has_previous: bool = False

    def map(self, convert: Callable[[Item], Other]) -> "Page[Other]":
        items = tuple((convert(item), position) for item, position in self.items)
        return Page(items, self.has_next, self.has_previous)


def cut(
    request: PageRequest, found: list[Item], position_of: Callable[[Item], Position]
) -> Page[Item]:
    """Make a page of what was found: up to one item more than asked for, in the direction of
    travel.
    """
    more, kept = len(found) > request.size, found[: request.size]
    came_from = request.position is not None
    if request.backwards:
        kept.reverse()
    page = Page(tuple((item, position_of(item)) for item in kept))
    if request.backwards:
        return replace(page, has_next=came_from, has_previous=more)
    return replace(page, has_next=more, has_previous=came_from)
