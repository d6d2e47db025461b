"""Pages of updates: subscribers that need the same page at the same time share a read.

Many do after a restart, or when the change feed has lost its history: most of them stand where the
latest update has left them. A read serves those that had subscribed before it began, so that what
it misses is offered to them.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias
from weakref import WeakKeyDictionary

from domain.changes import ClusterTime
from domain.ids import ConversationId, TurnId, ViewerId
from domain.turns import TurnsAsOf, TurnUpdate
from domain.waiting import JoinedCalls

Key: TypeAlias = tuple[ViewerId, ConversationId, ClusterTime | None, int]
"""The page is the first one after the turn with this index that has changed since this time."""


@dataclass(frozen=True, slots=True)
class SharedPages:
    updates: WeakKeyDictionary[TurnsAsOf, dict[TurnId, TurnUpdate]] = field(
        default_factory=WeakKeyDictionary
    )
    """Results that were made of pages which several subscribers have read."""
    _reads: JoinedCalls[Key, TurnsAsOf] = field(default_factory=JoinedCalls)

    async def read(self, key: Key, work: Callable[[], Awaitable[TurnsAsOf]]) -> TurnsAsOf:
        """Read once the current read has ended, together with everybody who waits for that."""

        async def read(_: int) -> TurnsAsOf:
            page = await work()
            self.updates[page] = {}
            return page

        return await self._reads.join(key, read)
