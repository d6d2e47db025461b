"""The change stream as a ChangeFeed: one stream on the whole database, opened again after any
error.

A turn's change brings the turn, which is what most listeners are sent: the database looks it up, as
it is at the time of the event or later. It stays in bytes until somebody asks for it, since every
process hears of every turn and has listeners to few. Of other changes only the ids are brought.
"""

from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any, Final

import bson
import structlog
from bson.raw_bson import RawBSONDocument
from pymongo.asynchronous.change_stream import AsyncChangeStream
from pymongo.errors import OperationFailure, PyMongoError

from domain.ports.changes import Change, ChangedKind, HistoryLost
from domain.retries import RetryPolicy
from domain.turns import Turn
from storage.mongo.database import SHOWN, Database, to_cluster_time
from storage.mongo.turns import read_turn

log = structlog.get_logger(__name__)

_KINDS: Final = {
    "conversations": ChangedKind.CONVERSATION,
    "turns": ChangedKind.TURN,
    "posts": ChangedKind.POST,
    "accounts": ChangedKind.ACCOUNT,
    "shares": ChangedKind.SHARE,
}
_WRITES: Final = ["insert", "update", "replace", "delete"]


def _of_a_turn(path: str) -> Mapping[str, Any]:
    return {"$cond": [{"$eq": ["$ns.coll", "turns"]}, path, "$$REMOVE"]}


_PIPELINE: Final[list[Mapping[str, Any]]] = [
    {
        "$match": {
            "$or": [
                {
                    "operationType": {"$in": _WRITES},
                    "ns.coll": {"$in": list(_KINDS)},
                    # An update that raises no version, such as the renewal of a lease, wakes no
                    # listener.
                    "$or": [
                        {"operationType": {"$ne": "update"}},
                        {"updateDescription.updatedFields.version": {"$exists": True}},
                    ],
                },
                {"operationType": {"$nin": _WRITES}},
            ]
        }
    },
    # Flat: nested documents would be decoded one by one, and a whole turn only for its time.
    {
        "$project": {
            "operationType": 1,
            "collection": "$ns.coll",
            "documentId": "$documentKey._id",
            "clusterTime": 1,
            "writtenAt": _of_a_turn("$fullDocument.updatedAt"),
            "fullDocument": _of_a_turn("$fullDocument"),
        }
    },
]
_MAX_AWAIT_MS: Final = 3_000
_AFTER_ERRORS: Final = RetryPolicy(first_pause_seconds=0.05, longest_pause_seconds=0.25)
"""The time between two reads. There is one stream for each process, so frequent reads
cost little.
"""
_HISTORY_LOST_CODES: Final = frozenset({280, 286})
"""The stream's position is not in the oplog, or not any more."""


class MongoChangeFeed:
    """See `domain.ports.ChangeFeed`."""

    def __init__(self, database: Database) -> None:
        self._watched = database.watched

    async def follow(self) -> AsyncIterator[Change | HistoryLost | None]:
        position = _Position()
        retries = _AFTER_ERRORS.begin()
        opened_before = False
        while True:
            try:
                async with await self._open(position) as stream:
                    if not opened_before:
                        opened_before = True
                        yield None
                    elif position.lost:
                        yield HistoryLost()
                    position.lost = False
                    retries = _AFTER_ERRORS.begin()
                    try:
                        async for change in _read(stream, position):
                            yield change
                    finally:
                        position.settle()
            except PyMongoError as error:
                position.after_error(error)
                log.warning(
                    "change stream broke", error=type(error).__name__, history_lost=position.lost
                )
                await retries.pause()

    async def _open(self, position: "_Position") -> AsyncChangeStream[RawBSONDocument]:
        return await self._watched.watch(
            _PIPELINE,
            full_document="updateLookup",
            max_await_time_ms=_MAX_AWAIT_MS,
            resume_after=position.token,
            start_after=position.invalidated_token,
        )


class _Position:
    """Where to continue in the stream. At most one of the tokens is set; none means from now on."""

    def __init__(self) -> None:
        self.token: Mapping[str, Any] | None = None
        self.invalidated_token: Mapping[str, Any] | None = None
        self.lost = False
        self._failed_token: Mapping[str, Any] | None = None
        self._stream: AsyncChangeStream[RawBSONDocument] | None = None

    def follow(self, stream: AsyncChangeStream[RawBSONDocument]) -> None:
        """It moves with this stream, which has been read from."""
        self._stream = stream

    def settle(self) -> None:
        """The stream is not read from any more: keep where it was. Only then, since the driver
        makes a deep copy of its token, which would be a tenth of what a change costs.
        """
        token = None if self._stream is None else self._stream.resume_token
        self._stream = None
        if token is not None:
            self.token, self.invalidated_token = token, None

    def invalidated(self) -> None:
        """The stream has ended: open another one after the event that ended it."""
        self.settle()
        self.token, self.invalidated_token = None, self.token
        self.lost = True

    def after_error(self, error: PyMongoError) -> None:
        """Continue from the same token; from now on where there is none, or it has failed twice."""
        server_refused = isinstance(error, OperationFailure) and not error.has_error_label(
            "ResumableChangeStreamError"
        )
        token = self.token or self.invalidated_token
        forgotten = isinstance(error, OperationFailure) and error.code in _HISTORY_LOST_CODES
        if token is None or forgotten or (server_refused and token == self._failed_token):
            # The events in between are lost, or cannot be read: listeners read the state again.
            self.token = self.invalidated_token = None
            self.lost = True
        self._failed_token = token if server_refused else None


async def _read(
    stream: AsyncChangeStream[RawBSONDocument], position: _Position
) -> AsyncIterator[Change | HistoryLost]:
    while stream.alive:
        event = await stream.try_next()
        position.follow(stream)
        if event is None:
            continue
        operation = event["operationType"]
        if operation == "invalidate":
            position.invalidated()
            return
        if operation not in _WRITES:
            # A collection was dropped or renamed: anything may have changed.
            yield HistoryLost()
            continue
        document = event.get("fullDocument")
        yield Change(
            kind=_KINDS[event["collection"]],
            id=str(event["documentId"]),
            deleted=operation == "delete",
            cluster_time=to_cluster_time(event["clusterTime"]),
            read_turn=None if document is None else partial(_read_turn, document),
            written_at=event.get("writtenAt"),
        )


def _read_turn(document: RawBSONDocument) -> Turn:
    return read_turn(bson.decode(document.raw, SHOWN))
