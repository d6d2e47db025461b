"""The change stream as a ChangeFeed: one stream on the whole database, opened again after any
error.

A turn's change brings the turn, which is what most listeners are sent: the database looks it up, as
it is at the time of the event or later. It stays in bytes until somebody asks for it, since every
process hears of every turn and has listeners to few. Of other changes only the ids are brought.

Where the feed is divided, the stream has only partitions with subscribers (`change_pipeline.py`),
and is replaced when there are more of these (`resumed_streams.py`).
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final

import bson
import structlog
from bson.raw_bson import RawBSONDocument
from pymongo.errors import OperationFailure, PyMongoError

from domain.changes import ClusterTime
from domain.partitions import FollowedPartitions
from domain.ports.changes import Change, FeedItem, HistoryLost, Reached
from domain.retries import RetryPolicy
from domain.turns import Turn
from storage.mongo.change_pipeline import KINDS, WRITES, pipeline
from storage.mongo.database import SHOWN, Database, to_cluster_time
from storage.mongo.resumed_streams import ReplacementDue, Replacements, Stream
from storage.mongo.turns import read_turn

log = structlog.get_logger(__name__)

_MAX_AWAIT_MS: Final = 1_000
_AFTER_ERRORS: Final = RetryPolicy(first_pause_seconds=0.05, longest_pause_seconds=0.25)
"""One stream for each process: to ask often costs little, and subscribers hear nothing meanwhile.
"""
_BEGINS_WITH_TIME: Final = re.compile("82[0-9A-F]{16}")
_HISTORY_LOST_CODES: Final = frozenset({280, 286})
"""The position is not in the oplog, or not any more."""


class MongoChangeFeed:
    """See `domain.ports.ChangeFeed`."""

    def __init__(self, database: Database, partitions: FollowedPartitions) -> None:
        self._watched = database.watched
        self._partitions = partitions
        self._replacements = Replacements(partitions) if partitions.are_divided else None

    async def follow(self) -> AsyncIterator[FeedItem | None]:
        position = _Position()
        retries = _AFTER_ERRORS.begin()
        opened_before = False
        while True:
            try:
                stream = await self._open(position)
                if not opened_before:
                    opened_before = True
                    yield None
                elif position.lost:
                    yield HistoryLost()
                position.lost = False
                retries = _AFTER_ERRORS.begin()
                async for change in self._read(stream, position):
                    yield change
            except PyMongoError as error:
                position.after_error(error)
                log.warning(
                    "change stream broke", error=type(error).__name__, history_lost=position.lost
                )
                await retries.pause()

    async def _open(self, position: "_Position") -> Stream:
        if self._replacements is not None:
            self._replacements.open_after(position)
        stream = await self._watched.watch(
            pipeline(self._partitions, last=position.partition),
            full_document="updateLookup",
            max_await_time_ms=_MAX_AWAIT_MS,
            resume_after=position.token,
            start_after=position.invalidated_token,
        )
        while self._replacements is not None and position.token is None:
            # What is followed from now on needs a position. Nothing was followed before.
            await stream.try_next()
            position.reached(stream.resume_token)
        return stream

    async def _read(self, stream: Stream, position: "_Position") -> AsyncIterator[FeedItem]:
        """Until the stream ends, or is to be replaced."""
        ask: Callable[[], Awaitable[Mapping[str, Any] | None]] = stream.try_next
        if self._replacements is not None:
            ask = partial(self._replacements.next, stream)
        try:
            while stream.alive:
                event = await ask()
                position.reached(stream.resume_token)
                if event is not None:
                    if event["operationType"] == "invalidate":
                        position.invalidated()
                        break
                    yield self._told(event, position)
                elif self._replacements is not None and position.time is not None:
                    yield Reached(position.time)
        except ReplacementDue:
            return
        except PyMongoError:
            await stream.close()
            raise
        await stream.close()

    def _told(self, event: Mapping[str, Any], position: "_Position") -> Change | HistoryLost:
        if event["operationType"] not in WRITES:
            # A collection was dropped or renamed: anything may have changed.
            return HistoryLost()
        document, document_id = event.get("fullDocument"), str(event["documentId"])
        if self._replacements is not None:
            position.partition = self._partitions.partition_of(document_id)
        return Change(
            kind=KINDS[event["collection"]],
            id=document_id,
            deleted=event["operationType"] == "delete",
            cluster_time=to_cluster_time(event["clusterTime"]),
            read_turn=None if document is None else partial(_read_turn, document),
            written_at=event.get("writtenAt"),
        )


class _Position:
    """Where to continue in the stream. At most one of the tokens is set; none means from now on."""

    def __init__(self) -> None:
        self.token: Mapping[str, Any] | None = None
        self.invalidated_token: Mapping[str, Any] | None = None
        self.lost = False
        self.partition: str | None = None
        """Of the last change: the token may be its."""
        self._failed_token: Mapping[str, Any] | None = None

    @property
    def time(self) -> ClusterTime | None:
        """Read from the token, where it has the form that all servers have given it so far: a byte,
        and the cluster time.
        """
        data = str(self.token["_data"]) if self.token is not None else ""
        if not _BEGINS_WITH_TIME.match(data):
            return None
        return ClusterTime(int(data[2:10], 16), int(data[10:18], 16))

    def reached(self, token: Mapping[str, Any] | None) -> None:
        if token is not None:
            self.token, self.invalidated_token = token, None

    def invalidated(self) -> None:
        """The stream has ended: open another one after the event that ended it."""
        self.token, self.invalidated_token = None, self.token
        self.lost = True

    def after_error(self, error: PyMongoError) -> None:
        """Continue from the same token; from now on where there is none or it has failed twice."""
        server_refused = isinstance(error, OperationFailure) and not error.has_error_label(
            "ResumableChangeStreamError"
        )
        token = self.token or self.invalidated_token
        forgotten = isinstance(error, OperationFailure) and error.code in _HISTORY_LOST_CODES
        if token is None or forgotten or (server_refused and token == self._failed_token):
            # The events between are lost, or cannot be read: listeners read the state again.
            self.token = self.invalidated_token = None
            self.lost = True
        self._failed_token = token if server_refused else None


def _read_turn(document: RawBSONDocument) -> Turn:
    return read_turn(bson.decode(document.raw, SHOWN))
