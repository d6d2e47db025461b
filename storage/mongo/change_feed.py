"""The change stream as a ChangeFeed: one stream on the whole database, opened again after any
error.

Only ids travel: what a listener sees is read when it is wanted, so an event is never too large, and
the same event costs the same whatever the document weighs.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import structlog
from pymongo.asynchronous.change_stream import AsyncChangeStream
from pymongo.errors import OperationFailure, PyMongoError

from domain.changes import Change, ChangedKind, HistoryLost
from storage.mongo.collections import Document
from storage.mongo.database import Database, to_moment

log = structlog.get_logger(__name__)

_KINDS: Final = {
    "conversations": ChangedKind.CONVERSATION,
    "turns": ChangedKind.TURN,
    "accounts": ChangedKind.ACCOUNT,
}
_WRITES: Final = ["insert", "update", "replace", "delete"]
_PIPELINE: Final[list[Mapping[str, Any]]] = [
    {
        "$match": {
            "$or": [
                {
                    "operationType": {"$in": _WRITES},
                    "ns.coll": {"$in": list(_KINDS)},
                    # An update that raises no version, such as a renewed lease, wakes nobody.
                    "$or": [
                        {"operationType": {"$ne": "update"}},
                        {"updateDescription.updatedFields.version": {"$exists": True}},
                    ],
                },
                {"operationType": {"$nin": _WRITES}},
            ]
        }
    },
    {"$project": {"operationType": 1, "ns.coll": 1, "documentKey._id": 1, "clusterTime": 1}},
]
_MAX_AWAIT_MS: Final = 1_000
_FIRST_PAUSE_SECONDS: Final = 0.05
_LONGEST_PAUSE_SECONDS: Final = 1.0
_HISTORY_LOST_CODES: Final = frozenset({280, 286})
"""The place is not to be found in the oplog, or not any more."""


class MongoChangeFeed:
    """See `domain.ports.ChangeFeed`."""

    def __init__(self, database: Database) -> None:
        self._watched = database.watched

    async def follow(self) -> AsyncIterator[Change | HistoryLost | None]:
        place = _Place()
        pause = _FIRST_PAUSE_SECONDS
        opened_before = False
        while True:
            try:
                async with await self._open(place) as stream:
                    if not opened_before:
                        opened_before = True
                        yield None
                    elif place.lost:
                        yield HistoryLost()
                    place.lost = False
                    pause = _FIRST_PAUSE_SECONDS
                    async for change in _read(stream, place):
                        yield change
            except PyMongoError as error:
                place.after_error(error)
                log.warning(
                    "change stream broke", error=type(error).__name__, history_lost=place.lost
                )
                await asyncio.sleep(pause * random.uniform(0.5, 1))
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    async def _open(self, place: "_Place") -> AsyncChangeStream[Document]:
        return await self._watched.watch(
            _PIPELINE,
            max_await_time_ms=_MAX_AWAIT_MS,
            resume_after=place.token,
            start_after=place.invalidated_token,
        )


class _Place:
    """Where in the history to go on. At most one of the tokens is set; none means from now on."""

    def __init__(self) -> None:
        self.token: Mapping[str, Any] | None = None
        self.invalidated_token: Mapping[str, Any] | None = None
        self.lost = False
        self._failed_token: Mapping[str, Any] | None = None

    def reached(self, token: Mapping[str, Any] | None) -> None:
        if token is not None:
            self.token, self.invalidated_token = token, None

    def invalidated(self) -> None:
        """The stream has ended for good: begin another after the event that ended it."""
        self.token, self.invalidated_token = None, self.token
        self.lost = True

    def after_error(self, error: PyMongoError) -> None:
        """Go on from the same token; from now on where there is none or it has failed twice."""
        server_refused = isinstance(error, OperationFailure) and not error.has_error_label(
            "ResumableChangeStreamError"
        )
        token = self.token or self.invalidated_token
        forgotten = isinstance(error, OperationFailure) and error.code in _HISTORY_LOST_CODES
        if token is None or forgotten or (server_refused and token == self._failed_token):
            # Whatever lies between is lost, or cannot be read: the state is read anew instead.
            self.token = self.invalidated_token = None
            self.lost = True
        self._failed_token = token if server_refused else None


async def _read(
    stream: AsyncChangeStream[Document], place: _Place
) -> AsyncIterator[Change | HistoryLost]:
    while stream.alive:
        event = await stream.try_next()
        place.reached(stream.resume_token)
        if event is None:
            continue
        operation = event["operationType"]
        if operation == "invalidate":
            place.invalidated()
            return
        if operation not in _WRITES:
            # A collection was dropped or renamed: nobody knows what is left.
            yield HistoryLost()
            continue
        yield Change(
            kind=_KINDS[event["ns"]["coll"]],
            id=str(event["documentKey"]["_id"]),
            deleted=operation == "delete",
            moment=to_moment(event["clusterTime"]),
        )
