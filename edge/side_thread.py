"""Runs long work in a thread, or in slices within the event loop.

What must stay true: no piece of work blocks the loop for long, however many there are.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Hashable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar
from weakref import WeakValueDictionary

SLICE_SECONDS: Final = 0.005
"""How long work in the loop may take at a time."""

_T = TypeVar("_T")


class SideThread:
    """One thread, in which each caller has at most one piece of work at a time."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="side")
        self._callers: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()

    async def call(self, caller: Hashable, work: Callable[[], _T]) -> _T:
        """Run the work in the thread, after the caller's earlier work. Raise what it raises."""
        async with self._callers.setdefault(caller, asyncio.Lock()):
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._executor, work)


class Pace:
    """Divides the loop's time: in each iteration of the loop, one piece of long work continues."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._until = 0.0

    async def wait(self) -> None:
        """Let everything else run first, then have a slice of time."""
        async with self._turn:
            await asyncio.sleep(0)
            self._until = asyncio.get_running_loop().time() + SLICE_SECONDS

    async def through(self, items: Iterable[_T]) -> AsyncGenerator[_T, None]:
        """Go through items, and wait whenever the slice of time is used up."""
        loop = asyncio.get_running_loop()
        for item in items:
            if loop.time() >= self._until:
                await self.wait()
            yield item
