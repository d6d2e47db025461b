"""The change stream as a ChangeFeed: one stream on the whole database, opened again after any
error.

A turn's change brings the turn, which is what most listeners are sent: the database looks it up, as
it is at the time of the event or later. It stays in bytes until it is needed, since every
process hears of every turn and has listeners to few. Of other changes only the ids are brought.

Where the feed is divided, the stream has only partitions with subscribers (`change_pipeline.py`),
and is replaced when there are more of these (`stream_replacements.py`).
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Any, Final, TypeAlias

import bson
import structlog
from bson.raw_bson import RawBSONDocument
from pymongo.errors import PyMongoError

from domain.batches import in_batches
from domain.partitions import FollowedPartitions
from domain.ports.changes import READ_AT_ONCE, Change, FeedItem, HistoryLost, Reached
from domain.retries import RetryPolicy
from domain.turns import Turn
from storage.mongo.change_pipeline import KINDS, WRITES, pipeline
from storage.mongo.change_stream import ChangeStream, open_stream
from storage.mongo.database import SHOWN, Database, to_cluster_time
from storage.mongo.stored_turns import read_turn
from storage.mongo.stream_position import Position, time_of
from storage.mongo.stream_replacements import LONGEST_ANSWER_MS, ReplacementDue, Replacements

log = structlog.get_logger(__name__)

_Event: TypeAlias = Mapping[str, Any]

_MAX_AWAIT_MS: Final = 3_000
_AFTER_ERRORS: Final = RetryPolicy(first_pause_seconds=0.05, longest_pause_seconds=0.25)
"""The pause before the stream is opened again. There is one for each process, so trying often costs
little, and subscribers get nothing meanwhile.
"""


class MongoChangeFeed:
    """See `domain.ports.changes.ChangeFeed`."""

    def __init__(self, database: Database, partitions: FollowedPartitions) -> None:
        self._watched = database.watched
        self._partitions = partitions
        self._replacements = Replacements(partitions) if partitions.are_divided else None

    async def follow(self) -> AsyncGenerator[Sequence[FeedItem] | None, None]:
        position = Position()
        retries = _AFTER_ERRORS.begin()
        opened_before = False
        while True:
            try:
                async with self._opened(position) as stream:
                    if not opened_before:
                        opened_before = True
                        yield None
                    elif position.lost:
                        yield [HistoryLost()]
                    position.lost = False
                    retries = _AFTER_ERRORS.begin()
                    async with aclosing(self._read(stream, position)) as batches:
                        async for batch in batches:
                            yield batch
            except PyMongoError as error:
                position.continue_after(error)
                log.warning(
                    "change stream broke", error=type(error).__name__, history_lost=position.lost
                )
                await retries.pause()

    @asynccontextmanager
    async def _opened(self, position: Position) -> AsyncIterator[ChangeStream]:
        """Open a stream, and close it at the end. After ReplacementDue it stays open: its
        replacement closes it.
        """
        if self._replacements is not None:
            self._replacements.open_after(position)
        stream = await open_stream(
            self._watched,
            pipeline(self._partitions, last=position.partition),
            longest_answer_ms=_MAX_AWAIT_MS if self._replacements is None else LONGEST_ANSWER_MS,
            resume_after=position.token,
            start_after=position.invalidated_token,
        )
        try:
            position.follow(stream.token)
            if self._replacements is not None:
                await self._find_position(stream, position)
                self._replacements.opened()
            yield stream
        except ReplacementDue:
            return
        except BaseException:
            await stream.close()
            raise
        await stream.close()

    async def _find_position(self, stream: ChangeStream, position: Position) -> None:
        """Read until the stream has a position, if it has none yet, and drop what comes until then:
        either nothing was followed before, or subscribers read everything again.
        """
        while position.point.token is None and stream.alive:
            self._move(position, stream, await stream.next())

    async def _read(
        self, stream: ChangeStream, position: Position
    ) -> AsyncGenerator[Sequence[FeedItem], None]:
        """Yield the changes until the stream ends. Raise ReplacementDue."""
        ask: Callable[[], Awaitable[Sequence[_Event]]] = stream.next
        if self._replacements is not None:
            ask = partial(self._replacements.next, stream)
        # Newcomers begin here: what they read is not older, if this has been said.
        if self._replacements is not None and position.time is not None:
            yield [Reached(position.time)]
        while stream.alive:
            events = await ask()
            # The database may bring 16 MB at once.
            for some in in_batches(events, READ_AT_ONCE):
                yield [*map(_item_of, filter(_concerns_listeners, some))]
            if self._replacements is not None and (reached := time_of(stream.token)) is not None:
                yield [Reached(reached)]
            self._move(position, stream, events)

    def _move(self, position: Position, stream: ChangeStream, events: Sequence[_Event]) -> None:
        position.follow(stream.token)
        for event in events:
            if event["operationType"] == "invalidate":
                position.mark_invalidated()
            elif self._replacements is not None and event["operationType"] in WRITES:
                position.partition = self._partitions.partition_of(str(event["documentId"]))


def _concerns_listeners(event: _Event) -> bool:
    return bool(event["operationType"] != "invalidate")


def _item_of(event: _Event) -> Change | HistoryLost:
    if event["operationType"] not in WRITES:
        # A collection was dropped or renamed: anything may have changed.
        return HistoryLost()
    document = event.get("fullDocument")
    return Change(
        kind=KINDS[event["collection"]],
        id=str(event["documentId"]),
        deleted=event["operationType"] == "delete",
        cluster_time=to_cluster_time(event["clusterTime"]),
        read_turn=None if document is None else partial(_read_turn, document),
        written_at=event.get("writtenAt"),
    )


def _read_turn(document: RawBSONDocument) -> Turn:
    return read_turn(bson.decode(document.raw, SHOWN))
