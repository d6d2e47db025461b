"""First pages of updates: newcomers that come at the same time share a read.

A read serves those that had subscribed before it began, so that what it misses is offered to them.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias
from weakref import WeakKeyDictionary

from domain.ids import ConversationId, TurnId, ViewerId
from domain.turns import TurnsAsOf, TurnUpdate
from domain.waiting import JoinedCalls

Key: TypeAlias = tuple[ViewerId, ConversationId]


@dataclass(frozen=True, slots=True)
class FirstPages:
    updates: WeakKeyDictionary[TurnsAsOf, dict[TurnId, TurnUpdate]] = field(
        default_factory=WeakKeyDictionary
    )
    """Results that were made of pages which several newcomers have read."""
    _reads: JoinedCalls[Key, TurnsAsOf] = field(default_factory=JoinedCalls)

    async def read(self, key: Key, work: Callable[[], Awaitable[TurnsAsOf]]) -> TurnsAsOf:
        """Read once the current read has ended, together with everybody who waits for that."""

        async def read(_: int) -> TurnsAsOf:
            page = await work()
            self.updates[page] = {}
            return page

        return await self._reads.join(key, read)
