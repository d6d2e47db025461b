"""Partitions of the change feed: which changes a process needs, because it has subscribers to them.

What has changed and who listens to it meet by an id, and the partition is a part of that: nothing
is stored for it, each process may have another number of them, and cursors do not know of it.
"""

from collections import Counter
from collections.abc import Callable
from typing import Final

_IS_RANDOM_FROM: Final = 20
"""The characters of an id's suffix before are a time, at least in part."""
DIGITS: Final = {1: 0, 32: 1, 1024: 2, 32768: 3}
"""How many characters of an id are its partition, by the number of partitions."""
MOST_FOLLOWED: Final = 2_000
"""With more, all are followed: to tell them apart would cost the database more than it saves."""


class FollowedPartitions:
    """Which partitions have subscribers in this process."""

    def __init__(self, count: int) -> None:
        """`count`: into how many the feed is divided, a key of `DIGITS`."""
        self._digits = DIGITS[count]
        self._followed: Counter[str] = Counter()
        self.when_added: Callable[[], None] = lambda: None
        """Called when one has its first subscriber."""

    @property
    def are_divided(self) -> bool:
        return self._digits > 0

    @property
    def pattern_before(self) -> str:
        """What comes before the partition in an id, as a regular expression."""
        return f"^[a-z]+_.{{{_IS_RANDOM_FROM}}}"

    def partition_of(self, subject: str) -> str:
        """Of a conversation, a post, a share or a viewer by its id; of a turn, that of its
        conversation.
        """
        begin = subject.index("_") + 1 + _IS_RANDOM_FROM
        return subject[begin : begin + self._digits]

    def followed(self) -> frozenset[str] | None:
        """None: all of them."""
        if not self.are_divided or len(self._followed) > MOST_FOLLOWED:
            return None
        return frozenset(self._followed)

    def add(self, subject: str) -> None:
        """Changes that are written after this call will be brought, until `remove`."""
        if self.are_divided:
            partition = self.partition_of(subject)
            self._followed[partition] += 1
            if self._followed[partition] == 1:
                self.when_added()

    def remove(self, subject: str) -> None:
        if self.are_divided:
            partition = self.partition_of(subject)
            self._followed[partition] -= 1
            if not self._followed[partition]:
                del self._followed[partition]
