"""Long lists in parts, so that no request and no transaction becomes too large."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def in_batches(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """The items in their order, `size` at a time; the last batch may be smaller."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
