"""Replaces a change stream when partitions are added to what it follows, since a stream cannot be
asked for more than it was opened for.

What must stay true: no change is lost between two streams. The next stream begins at the point that
the previous one had reached when the first partition was added; later changes come again.
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
"""Between two replacements: partitions that are added in this time share one."""

LONGEST_ANSWER_MS: Final = 1_000
"""How long a quiet stream takes to answer, and a replaced one to end."""


class Replacements:
    """Decides when the next stream is due and where it begins, and closes the previous ones."""

    def __init__(self, partitions: FollowedPartitions) -> None:
        self._partitions = partitions
        self._due = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._brings_all = False
        self._position: Position | None = None
        self._begin_at: Point | None = None
        """The point that the stream had reached when the first partition was added."""
        self._resumed = self._left_at = Point(None, None)
        """Where the current stream has begun, and the point that the previous one had reached. They
        differ where an added partition made the current one begin earlier.
        """
        self._opened_at: float | None = None
        """None while a stream is being opened."""
        self._left: set[asyncio.Task[None]] = set()
        partitions.when_added = self._plan

    def open_after(self, position: Position) -> None:
        """Set where the next stream begins. It follows all partitions that are followed by now."""
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
        """Note that the stream is open: from now on an added partition makes the next one due."""
        self._opened_at = asyncio.get_running_loop().time()
        if self._begin_at is None:
            return
        position = self._position
        if position is not None and self._resumed.token is None:
            # They were added before the stream had a position, and read the state after it.
            self._begin_at = position.point
        self._start_timer()

    async def next(self, stream: ChangeStream) -> Sequence[RawBSONDocument]:
        """Read the next events of the stream, if any. Raise ReplacementDue."""
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
        # It answers within a second. An interruption would cost its connection.
        task = asyncio.create_task(_close(stream, asking), name="change stream before")
        self._left.add(task)
        task.add_done_callback(self._left.discard)
        raise ReplacementDue

    def _plan(self) -> None:
        if self._begin_at is not None or self._brings_all or self._position is None:
            return
        reached = self._position.point
        # A stream that has brought nothing yet is where it began. What changed before a partition
        # was added comes after the point that the previous stream had reached.
        self._begin_at = self._left_at if reached.token == self._resumed.token else reached
        if self._opened_at is not None:
            self._start_timer()

    def _start_timer(self) -> None:
        assert self._opened_at is not None
        loop = asyncio.get_running_loop()
        due_at = max(loop.time(), self._opened_at + _LEAST_SECONDS)
        self._timer = loop.call_at(due_at, self._due.set)


class ReplacementDue(Exception):
    """The stream does not bring all partitions that are followed: open the next one."""


async def _close(stream: ChangeStream, asking: "asyncio.Future[Sequence[RawBSONDocument]]") -> None:
    """Close a stream once its outstanding answer, which is dropped, has arrived."""
    try:
        with suppress(Exception):
            await asking
    finally:
        await stream.close()
