"""The pace of the change feed: changes that come fast are read together.

A read takes as much of a processor as some ten changes do, so one for each change would be most of
what a busy process does.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Final

from storage.mongo.stream_position import Stream

TOGETHER_SECONDS: Final = 0.004
"""How long the feed waits before a read while changes come fast."""
FAST_CHANGES: Final = 16
FAST_SECONDS: Final = 0.05
"""Changes come fast while so many have come in this time."""


class FeedPace:
    def __init__(self, stream: Stream | None, now: Callable[[], float] = monotonic) -> None:
        self._stream = stream
        self._now = now
        self._times: deque[float] = deque(maxlen=FAST_CHANGES)

    def count(self) -> None:
        """A change has come."""
        self._times.append(self._now())

    @property
    def is_fast(self) -> bool:
        times = self._times
        return len(times) == FAST_CHANGES and self._now() - times[0] < FAST_SECONDS

    async def wait(self) -> None:
        """Wait before a read while changes come fast. What has been read already needs no read."""
        if self.is_fast and self._stream is not None and not self._stream._cursor._has_next():
            await asyncio.sleep(TOGETHER_SECONDS)
