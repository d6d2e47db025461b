"""Pages of updates: those that subscribers need at the same time are read by one command, and one
that several need is read once.

Many do after a restart, or when the change feed has lost its history. A read serves those that had
subscribed before it began, so that what it misses is offered to them.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final
from weakref import WeakKeyDictionary

from domain.batched_calls import BatchedCalls
from domain.ids import TurnId
from domain.turns import CurrentTurns, TurnsAsOf, TurnUpdate

MOST_READS: Final = 2
"""At the same time. Others wait for less time than it would take to read each by itself."""
MOST_PAGES: Final = 8
"""Of one read. They may have 50 turns each."""


class SharedPages:
    """`read` reads the pages of several subscribers."""

    def __init__(
        self, read: Callable[[Sequence[CurrentTurns]], Awaitable[Sequence[TurnsAsOf]]]
    ) -> None:
        self.updates: WeakKeyDictionary[TurnsAsOf, dict[TurnId, TurnUpdate]] = WeakKeyDictionary()
        """What has been made of pages, for all that have read the same one."""
        self._reads = BatchedCalls(read, most_calls=MOST_READS, most_keys=MOST_PAGES)

    async def read(self, request: CurrentTurns) -> TurnsAsOf:
        """Read a page, by a command that has not begun yet."""
        page = await self._reads.join(request)
        self.updates.setdefault(page, {})
        return page
