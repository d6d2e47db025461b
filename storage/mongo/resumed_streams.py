"""Change streams that are replaced by others while they are read: a stream cannot be asked for more
than it was opened for.

What must stay true: nothing is lost between two of them. The next one begins where the one before
was when its newcomers came; what that has brought since is brought again.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from bson.raw_bson import RawBSONDocument
from pymongo.errors import PyMongoError

from domain.partitions import FollowedPartitions
from storage.mongo.stream_position import Position, Stream

_LEAST_SECONDS: Final = 0.25
"""From one stream to the next: newcomers of this time share one."""

LONGEST_ANSWER_MS: Final = 1_000
"""How long a quiet stream takes to answer, and so one that was replaced to end."""


class Replacements:
    """When the next stream is due, and the end of those before."""

    def __init__(self, partitions: FollowedPartitions) -> None:
        self._partitions = partitions
        self._due = asyncio.Event()
        self._brings_all = False
        self._position: Position | None = None
        self._begin_at: tuple[Mapping[str, Any] | None, str | None] | None = None
        """The position when the first newcomer came, and its partition."""
        self._opened_at = float("-inf")
        self._left: set[asyncio.Task[None]] = set()
        partitions.when_added = self._plan

    def open_after(self, position: Position) -> None:
        """A stream is opened that brings all that is followed at the moment."""
        if self._begin_at and self._begin_at[0] is not None and position.token is not None:
            position.token, position.partition = self._begin_at
        self._position, self._begin_at = position, None
        self._due.clear()
        self._brings_all = self._partitions.followed() is None
        self._opened_at = asyncio.get_running_loop().time()

    def begin(self) -> None:
        """The stream has a position for the first time: its newcomers so far came before that, and
        read the state after it.
        """
        position = self._position
        if position is not None and position.token is not None and self._begin_at is not None:
            self._begin_at = position.token, None

    async def next(self, stream: Stream) -> Mapping[str, Any] | None:
        """The next event of the stream, or None. Raise ReplacementDue."""
        if self._due.is_set():
            await stream.close()
            raise ReplacementDue
        asking = asyncio.ensure_future(stream.try_next())
        due = asyncio.ensure_future(self._due.wait())
        try:
            await asyncio.wait({asking, due}, return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            asking.cancel()
            raise
        finally:
            due.cancel()
        if asking.done():
            return asking.result()
        # It answers within a second. To interrupt it would cost its connection.
        task = asyncio.create_task(_close(stream, asking), name="change stream before")
        self._left.add(task)
        task.add_done_callback(self._left.discard)
        raise ReplacementDue

    def _plan(self) -> None:
        if self._begin_at is not None or self._brings_all or self._position is None:
            return
        self._position.settle()
        token = self._position.token
        self._begin_at = token, None if token is None else self._position.partition
        loop = asyncio.get_running_loop()
        loop.call_at(max(loop.time(), self._opened_at + _LEAST_SECONDS), self._due.set)


class ReplacementDue(Exception):
    """The stream does not bring all that is followed: open the next one."""


async def _close(stream: Stream, asking: "asyncio.Future[RawBSONDocument | None]") -> None:
    with suppress(PyMongoError):
        await asking
        await stream.close()
