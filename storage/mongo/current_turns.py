"""The present state of conversations: that of several is read by one command."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from domain.changes import ClusterTime
from domain.ids import turn_id_of, turn_id_range
from domain.turns import CurrentTurns, TurnsAsOf
from storage.mongo.collections import OPEN_TURN, Document
from storage.mongo.database import Database, Session, cluster_time_of, from_cluster_time
from storage.mongo.direct_reads import read_all
from storage.mongo.output_rules import from_now
from storage.mongo.stored_turns import read_turn

_PAGE: Final = 50
_REQUEST: Final = "request"
"""The key that is added to each document: the number of the request that it answers."""
_VERSION_ALONE: Final = {
    name: f"${name}" for name in ("_id", "ownerId", "turnIndex", "status", "version")
}
_ENDED_BY_VERSION: Final[Document] = {
    "$replaceWith": {
        "$cond": [{"$in": ["$status", OPEN_TURN["$in"]]}, "$$ROOT", _VERSION_ALONE],
    }
}
"""Of turns that have ended, the first state of a conversation needs to know no more."""


async def read_current(
    database: Database,
    requests: Sequence[CurrentTurns],
    *,
    recent: timedelta,
    at_least: ClusterTime | None,
) -> Sequence[TurnsAsOf]:
    """See `domain.ports.turns.TurnRepository.read_current`."""
    stages: list[Document] = []
    for number, request in enumerate(requests):
        latest, changed = _stages(number, request, recent)
        stages += [_union(latest)] if stages else latest
        stages.append(_union(changed))
    answers: list[list[Document]] = [[] for _ in requests]
    async with database.session() as session:
        if at_least is not None:
            session.advance_operation_time(from_cluster_time(at_least))
        command = {"aggregate": "turns", "pipeline": stages}
        for document in await read_all(database, command, session):
            answers[document.pop(_REQUEST)].append(document)
        known = [
            bool(found) or request.after_index >= 0 or await _exists(database, request, session)
            for request, found in zip(requests, answers, strict=True)
        ]
        # It may be newer than what was read, by less time than a read may take: see `recent`.
        cluster_time = cluster_time_of(session)
    return [
        _page(found, cluster_time, exists) for found, exists in zip(answers, known, strict=True)
    ]


def _union(stages: list[Document]) -> Document:
    return {"$unionWith": {"coll": "turns", "pipeline": stages}}


def _stages(
    number: int, request: CurrentTurns, recent: timedelta
) -> tuple[list[Document], list[Document]]:
    """The stages that find the latest turn, and those that find a page of turns which are open, or
    have changed recently.
    """
    _, high = turn_id_range(request.conversation_id)
    later = {"$gt": turn_id_of(request.conversation_id, request.after_index), "$lt": high}
    own: Document = {"_id": later, "ownerId": request.viewer_id}
    alternatives: list[Document] = [
        {"status": OPEN_TURN},
        {"$expr": {"$gte": ["$updatedAt", from_now(-recent)]}},
    ]
    since = request.changed_since
    if since is not None:
        alternatives.append({"changedAt": {"$gte": from_cluster_time(since)}})
    marked: Document = {"$set": {_REQUEST: number}}
    latest: list[Document] = [{"$match": own}, {"$sort": {"_id": -1}}, {"$limit": 1}, marked]
    changed: list[Document] = [
        {"$match": {**own, "$or": alternatives}},
        {"$sort": {"_id": 1}},
        {"$limit": _PAGE + 1},
    ]
    if since is None:
        changed.append(_ENDED_BY_VERSION)
    return latest, [*changed, marked]


async def _exists(database: Database, request: CurrentTurns, session: Session) -> bool:
    own = {"_id": request.conversation_id, "ownerId": request.viewer_id}
    return await database.conversations.find_one(own, {"_id": 1}, session=session) is not None


def _page(found: list[Document], cluster_time: ClusterTime, exists: bool) -> TurnsAsOf:
    """The page of what was found: the latest turn, and the changed ones."""
    latest, *changed = found or [{}]
    more = len(changed) > _PAGE
    page = changed[:_PAGE]
    if latest and not more:
        page = _ending_with(latest, page)
    return TurnsAsOf(tuple(map(read_turn, page)), cluster_time, more, exists)


def _ending_with(latest: Document, page: list[Document]) -> list[Document]:
    """The page with the whole latest turn. One that was added after the read began, and has even
    ended, is left out: it is offered as a change.
    """
    before = [turn for turn in page if turn["_id"] < latest["_id"]]
    others = [turn for turn in page[len(before) :] if "outputs" in turn]
    return [*before, *(others or ([latest] if "outputs" in latest else []))]
