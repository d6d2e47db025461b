"""First pages: newcomers that come at the same time are read for together.

A read serves those that had subscribed before it began, so that what it misses is offered to them.
Newcomers that come while one is under way wait for the next one, which is one for all of them.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias
from weakref import WeakKeyDictionary

from domain.ids import ConversationId, TurnId, ViewerId
from domain.turns import TurnsAsOf, TurnUpdate

Key: TypeAlias = tuple[ViewerId, ConversationId]


@dataclass(frozen=True, slots=True)
class FirstPages:
    updates: WeakKeyDictionary[TurnsAsOf, dict[TurnId, TurnUpdate]] = field(
        default_factory=WeakKeyDictionary
    )
    """What was made of pages that several have read."""
    _under_way: dict[Key, "asyncio.Task[TurnsAsOf]"] = field(default_factory=dict)
    _next: dict[Key, "asyncio.Task[TurnsAsOf]"] = field(default_factory=dict)

    async def read(self, key: Key, work: Callable[[], Awaitable[TurnsAsOf]]) -> TurnsAsOf:
        """Read once the read that is under way has ended, together with all that wait for that."""
        waiting = self._next.get(key)
        if waiting is None:
            waiting = self._next[key] = asyncio.create_task(self._read(key, work))
            waiting.add_done_callback(_look_at_failure)
        return await asyncio.shield(waiting)

    async def _read(self, key: Key, work: Callable[[], Awaitable[TurnsAsOf]]) -> TurnsAsOf:
        under_way = self._under_way.get(key)
        if under_way is not None:
            await asyncio.wait([under_way])
        task = self._next.pop(key)
        self._under_way[key] = task
        try:
            page = await work()
        finally:
            if self._under_way.get(key) is task:
                del self._under_way[key]
        self.updates[page] = {}
        return page


def _look_at_failure(task: "asyncio.Task[TurnsAsOf]") -> None:
    """All that waited for it may have left."""
    if not task.cancelled():
        task.exception()
