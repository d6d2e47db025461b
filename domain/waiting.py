"""Waiting for a semaphore: never longer than a limit, and one for each key where that is needed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from weakref import WeakValueDictionary

from domain.errors import Overloaded


class SemaphoresByKey:
    """One semaphore for each key, for as long as somebody holds it or waits for it."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._semaphores = WeakValueDictionary[str, asyncio.Semaphore]()

    def get(self, key: str) -> asyncio.Semaphore:
        """The key's semaphore. It lives while the caller keeps a reference to it."""
        found = self._semaphores.get(key)
        if found is None:
            found = self._semaphores[key] = asyncio.Semaphore(self._size)
        return found


@asynccontextmanager
async def holding(*semaphores: asyncio.Semaphore, max_seconds: float) -> AsyncIterator[None]:
    """Hold all of these, in this order. Raise Overloaded where waiting for them takes longer."""
    async with AsyncExitStack() as held:
        try:
            async with asyncio.timeout(max_seconds):
                for semaphore in semaphores:
                    await held.enter_async_context(semaphore)
        except TimeoutError:
            raise Overloaded from None
        yield
