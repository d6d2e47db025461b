"""Pages of a list that grows: where a page starts, and what lies on either side of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeAlias, TypeVar

Item = TypeVar("Item")
Other = TypeVar("Other")

Position: TypeAlias = tuple[str | int, ...]
"""An item's position in its list, by the values that the list is sorted by: never an offset."""

DEFAULT_PAGE_SIZE: Final = 20
MAX_PAGE_SIZE: Final = 100


@dataclass(frozen=True, slots=True)
class PageRequest:
    """The first `size` items after a position, or, backwards, the last `size` before one."""

    size: int = DEFAULT_PAGE_SIZE
    position: Position | None = None
    backwards: bool = False


class Positions(Sequence[Position]):
    """The positions of some items, each made when it is read: most pages need two of them."""

    __slots__ = ("_items", "_position_of")

    def __init__(self, items: Sequence[Item], position_of: Callable[[Item], Position]) -> None:
        self._items: Sequence[object] = items
        self._position_of: Callable[..., Position] = position_of

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Position:  # type: ignore[override]
        return self._position_of(self._items[index])


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """Items in the list's order, and the position of each one."""

    items: Sequence[Item] = ()
    positions: Sequence[Position] = ()
    has_next: bool = False
    has_previous: bool = False

    def map(self, convert: Callable[[Item], Other]) -> "Page[Other]":
        items = tuple(map(convert, self.items))
        return Page(items, self.positions, self.has_next, self.has_previous)


def cut(
    request: PageRequest, found: list[Item], position_of: Callable[[Item], Position]
) -> Page[Item]:
    """Make a page of the items found: up to one more than asked for, in the direction of paging."""
    more, kept = len(found) > request.size, found[: request.size]
    has_entries_behind = request.position is not None
    if request.backwards:
        kept.reverse()
    positions = Positions(kept, position_of)
    if request.backwards:
        return Page(kept, positions, has_next=has_entries_behind, has_previous=more)
    return Page(kept, positions, has_next=more, has_previous=has_entries_behind)
