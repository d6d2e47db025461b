"""Change streams that are replaced by others while they are read: a stream cannot be asked for more
than it was opened for.

What must stay true: nothing is lost between two of them. The next one begins where the one before
was when its newcomers came; what that has brought since is brought again.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from bson.raw_bson import RawBSONDocument

from domain.partitions import FollowedPartitions
from storage.mongo.change_stream import ChangeStream
from storage.mongo.stream_position import Point, Position

_LEAST_SECONDS: Final = 0.25
"""From one stream to the next: newcomers of this time share one."""

LONGEST_ANSWER_MS: Final = 1_000
"""How long a quiet stream takes to answer, and so one that was replaced to end."""


class Replacements:
    """When the next stream is due, and the end of those before."""

    def __init__(self, partitions: FollowedPartitions) -> None:
        self._partitions = partitions
        self._due = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._brings_all = False
        self._position: Position | None = None
        self._begin_at: Point | None = None
        """Where the stream was when the first newcomer came."""
        self._resumed = self._left_at = Point(None, None)
        """Where the stream that is read has begun, and where the one before had got to. They differ
        where newcomers made it begin earlier.
        """
        self._opened_at: float | None = None
        """None while a stream is being opened."""
        self._left: set[asyncio.Task[None]] = set()
        partitions.when_added = self._plan

    def open_after(self, position: Position) -> None:
        """A stream is about to be opened that brings all that is followed at the moment."""
        if self._timer is not None:
            self._timer.cancel()
        self._left_at = position.point
        if self._begin_at is not None and self._begin_at.is_before(self._left_at):
            position.go_to(self._begin_at)
        self._resumed = position.point
        self._position, self._begin_at, self._opened_at = position, None, None
        self._due.clear()
        self._brings_all = self._partitions.followed() is None

    def opened(self) -> None:
        """The stream is open: the next one is due once there are newcomers that it leaves out."""
        self._opened_at = asyncio.get_running_loop().time()
        if self._begin_at is None:
            return
        position = self._position
        if position is not None and self._resumed.token is None:
            # They came before the stream had a position, and read the state after it.
            self._begin_at = position.point
        self._arm()

    async def next(self, stream: ChangeStream) -> Sequence[RawBSONDocument]:
        """The next events of the stream, if any. Raise ReplacementDue."""
        if self._due.is_set():
            await stream.close()
            raise ReplacementDue
        asking = asyncio.ensure_future(stream.next())
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
        reached = self._position.point
        # A stream that has brought nothing yet is where it began. What came before its newcomers is
        # behind what the one before had got to.
        self._begin_at = self._left_at if reached.token == self._resumed.token else reached
        if self._opened_at is not None:
            self._arm()

    def _arm(self) -> None:
        assert self._opened_at is not None
        loop = asyncio.get_running_loop()
        due_at = max(loop.time(), self._opened_at + _LEAST_SECONDS)
        self._timer = loop.call_at(due_at, self._due.set)


class ReplacementDue(Exception):
    """The stream does not bring all that is followed: open the next one."""


async def _close(stream: ChangeStream, asking: "asyncio.Future[Sequence[RawBSONDocument]]") -> None:
    """Nobody reads it any more, so nobody needs to know how it ends."""
    try:
        with suppress(Exception):
            await asking
    finally:
        await stream.close()
