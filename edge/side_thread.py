"""Work for which the event loop has no time, and turns for work that it has to do itself.

What must stay true: no piece of work holds up the loop for long, however many there are at once.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Hashable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar
from weakref import WeakValueDictionary

SLICE_SECONDS: Final = 0.005
"""What work within the loop may take at a time."""

_T = TypeVar("_T")


class SideThread:
    """One thread, in which each caller has one piece of work at a time."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="side")
        self._callers: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()

    async def call(self, caller: Hashable, work: Callable[[], _T]) -> _T:
        """Do the work in the thread, once those before it are done. Raise what it raises."""
        async with self._callers.setdefault(caller, asyncio.Lock()):
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._executor, work)


class Pace:
    """Shares out the loop's time: one piece of long work goes on in each of its rounds."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._until = 0.0

    async def wait(self) -> None:
        """Let everything else be done first, then have a slice of time."""
        async with self._turn:
            await asyncio.sleep(0)
            self._until = asyncio.get_running_loop().time() + SLICE_SECONDS

    async def through(self, items: Iterable[_T]) -> AsyncGenerator[_T, None]:
        """Go through items, and wait whenever a slice of time is used up."""
        loop = asyncio.get_running_loop()
        for item in items:
            if loop.time() >= self._until:
                await self.wait()
            yield item
