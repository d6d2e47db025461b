"""A queue and an event that need little memory while a connection is idle.

asyncio's `Queue` and `Event` keep deques of waiters: five of them take 3 KB of each open socket, as
much as everything that Darkroom itself keeps of a subscriber.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, TypeAlias

Item: TypeAlias = Mapping[str, Any]


class Inbox:
    """An unbounded queue with one reader, like `asyncio.Queue`."""

    __slots__ = ("_items", "_reader")

    def __init__(self) -> None:
        self._items: list[Any] = []
        self._reader: asyncio.Future[None] | None = None

    def put_nowait(self, item: Item) -> None:
        self._items.append(item)
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def empty(self) -> bool:
        return not self._items

    async def get(self) -> Any:
        """Wait for an item. Not to be called while another call waits."""
        while not self._items:
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        return self._items.pop(0)


class Gate:
    """Like an `asyncio.Event` that is set at first. It has an event only while it is closed."""

    __slots__ = ("_opened", "is_open")

    def __init__(self) -> None:
        self._opened: asyncio.Event | None = None
        self.is_open = True
        """To be read. It costs less than calling `is_set`."""

    def is_set(self) -> bool:
        return self.is_open

    def clear(self) -> None:
        if self._opened is None:
            self._opened = asyncio.Event()
            self.is_open = False

    def set(self) -> None:
        if self._opened is not None:
            self._opened.set()
            self._opened = None
            self.is_open = True

    async def wait(self) -> None:
        """Return once it is open."""
        if self._opened is not None:
            await self._opened.wait()
