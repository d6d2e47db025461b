"""Turns: read by their owners, and inserted by transactions."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Final

from pymongo import ReturnDocument

from domain.changes import ClusterTime
from domain.ids import (
    ConversationId,
    TurnId,
    ViewerId,
    turn_id_of,
    turn_id_range,
)
from domain.pages import Page, PageRequest, cut
from domain.stored import Wanted, projection
from domain.turns import Turn, TurnPlan, TurnsAsOf, TurnStatus, WaitingEdit
from storage.mongo.collections import OPEN_TURN, Document
from storage.mongo.database import (
    SHOWN,
    Database,
    Session,
    cluster_time_of,
    from_cluster_time,
    repository,
)
from storage.mongo.direct_reads import read_all
from storage.mongo.output_rules import (
    from_now,
)
from storage.mongo.output_updates import insert_update
from storage.mongo.stored_parents import imported_parent, new_parent
from storage.mongo.stored_turns import StoredTurn, read_turn
from storage.mongo.transaction import Transaction

_MAX_IN_PROGRESS: Final = 100
_PAGE: Final = 50
_VERSION_ALONE: Final = {
    name: f"${name}" for name in ("_id", "ownerId", "turnIndex", "status", "version")
}
_ENDED_BY_VERSION: Final[Document] = {
    "$replaceWith": {
        "$cond": [{"$in": ["$status", OPEN_TURN["$in"]]}, "$$ROOT", _VERSION_ALONE],
    }
}
"""Of turns that have ended, the first state of a conversation needs to know no more."""
LAST_INDEX: Final = {"$ifNull": ["$lastTurnIndex", {"$subtract": ["$turnCount", 1]}]}
"""The index of the conversation's latest turn that is not deleted."""


@repository
class MongoTurnRepository:
    """See `domain.ports.turns.TurnRepository`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._turns = database.turns
        self._shown = database.turns.with_options(codec_options=SHOWN)
        self._images = database.images

    async def get_many(self, viewer_id: ViewerId, ids: Iterable[TurnId]) -> Mapping[TurnId, Turn]:
        return await self._get_many(viewer_id, ids)

    async def _get_many(self, viewer_id: ViewerId, ids: Iterable[TurnId]) -> Mapping[TurnId, Turn]:
        cursor = self._turns.find({"_id": {"$in": list(set(ids))}, "ownerId": viewer_id})
        return {TurnId(document["_id"]): read_turn(document) async for document in cursor}

    async def find_latest_of_many(
        self, viewer_id: ViewerId, ids: Iterable[ConversationId]
    ) -> Mapping[ConversationId, Turn]:
        stages: list[Document] = [
            {"$match": {"_id": {"$in": list(set(ids))}, "ownerId": viewer_id}},
            {"$project": {"last": LAST_INDEX}},
        ]
        wanted = [
            turn_id_of(found["_id"], found["last"])
            async for found in await self._database.conversations.aggregate(stages)
        ]
        turns = await self._get_many(viewer_id, wanted)
        return {turn.conversation_id: turn for turn in turns.values()}

    async def page(
        self,
        viewer_id: ViewerId,
        conversation_id: ConversationId,
        request: PageRequest,
        *,
        wanted: Wanted | None = None,
    ) -> Page[Turn]:
        bounds = _range(conversation_id)
        if request.position is not None:
            bound = turn_id_of(conversation_id, int(request.position[0]))
            bounds |= {"$lt": bound} if request.backwards else {"$gt": bound}
        shown = projection(StoredTurn, wanted)
        documents = (
            await self._shown.find(
                {"_id": bounds, "ownerId": viewer_id}, shown and {**shown, "turnIndex": 1}
            )
            .sort("_id", -1 if request.backwards else 1)
            .limit(request.size + 1)
            .to_list()
        )
        return cut(
            request,
            [read_turn(document) for document in documents],
            lambda turn: (turn.turn_index,),
        )

    async def find_latest_with_images(
        self, viewer_id: ViewerId, conversation_id: ConversationId
    ) -> Turn | None:
        query = {
            "_id": _range(conversation_id),
            "ownerId": viewer_id,
            "outputs.images.0": {"$exists": True},
        }
        document = await self._turns.find_one(query, sort=[("_id", -1)])
        return read_turn(document) if document else None

    async def list_in_progress(self, viewer_id: ViewerId) -> Sequence[Turn]:
        query = {"ownerId": viewer_id, "status": OPEN_TURN}
        documents = await self._turns.find(query).sort("_id", 1).limit(_MAX_IN_PROGRESS).to_list()
        return [read_turn(document) for document in documents]

    async def read_current(
        self,
        viewer_id: ViewerId,
        conversation_id: ConversationId,
        *,
        changed_since: ClusterTime | None,
        recent: timedelta,
        after_index: int = -1,
        at_least: ClusterTime | None = None,
    ) -> TurnsAsOf:
        _, high = turn_id_range(conversation_id)
        later = {"$gt": turn_id_of(conversation_id, after_index), "$lt": high}
        own: Document = {"_id": later, "ownerId": viewer_id}
        others = _changed(own, changed_since, recent)
        stages: list[Document] = [
            {"$match": own},
            {"$sort": {"_id": -1}},
            {"$limit": 1},
            {"$unionWith": {"coll": self._turns.name, "pipeline": others}},
        ]
        async with self._database.session() as session:
            if at_least is not None:
                session.advance_operation_time(from_cluster_time(at_least))
            command = {"aggregate": self._turns.name, "pipeline": stages}
            latest, *found = await read_all(self._database, command, session) or [{}]
            # It may be newer than what was read, by less time than a read may take: see `recent`.
            own_record = {"_id": conversation_id, "ownerId": viewer_id}
            exists = bool(latest) or after_index >= 0 or await self._exists(own_record, session)
            cluster_time = cluster_time_of(session)
        more = len(found) > _PAGE
        page = found[:_PAGE]
        if latest and not more:
            page = _ending_with(latest, page)
        return TurnsAsOf(tuple(map(read_turn, page)), cluster_time, more, exists)

    async def _exists(self, conversation: Document, session: Session) -> bool:
        document = self._database.conversations.find_one(conversation, {"_id": 1}, session=session)
        return await document is not None


def _changed(own: Document, since: ClusterTime | None, recent: timedelta) -> list[Document]:
    """The stages that find a page of turns which are open, or have changed recently."""
    alternatives: list[Document] = [
        {"status": OPEN_TURN},
        {"$expr": {"$gte": ["$updatedAt", from_now(-recent)]}},
    ]
    if since is not None:
        alternatives.append({"changedAt": {"$gte": from_cluster_time(since)}})
    page: list[Document] = [
        {"$match": {**own, "$or": alternatives}},
        {"$sort": {"_id": 1}},
        {"$limit": _PAGE + 1},
    ]
    return page if since is not None else [*page, _ENDED_BY_VERSION]


def _ending_with(latest: Document, page: list[Document]) -> list[Document]:
    """The page with the whole latest turn. One that was added after the read began, and has even
    ended, is left out: it is offered as a change.
    """
    before = [turn for turn in page if turn["_id"] < latest["_id"]]
    others = [turn for turn in page[len(before) :] if "outputs" in turn]
    return [*before, *(others or ([latest] if "outputs" in latest else []))]


async def insert_turn(
    transaction: Transaction,
    *,
    owner_id: ViewerId,
    conversation_id: ConversationId,
    turn_index: int,
    plan: TurnPlan,
) -> Turn:
    """Write a new turn. One that exists already is never changed: the insertion fails."""
    turn_id = turn_id_of(conversation_id, turn_index)
    document = new_parent(owner_id, plan) | {"turnIndex": turn_index}
    if plan.waiting is not None:
        document |= {
            "status": TurnStatus.WAITING.value,
            "outputs": [],
            "waiting": _waiting_document(plan.waiting),
        }
    found = await transaction.turns.find_one_and_update(
        {"_id": turn_id, "ownerId": owner_id, "version": {"$exists": False}},
        insert_update(turn_id, document),
        upsert=True,
        return_document=ReturnDocument.AFTER,
    )
    assert found is not None
    return read_turn(found)


def imported_turn(turn: Turn) -> Document:
    return imported_parent(turn) | {
        "turnIndex": turn.turn_index,
        "status": turn.status.value,
        # Other conversations may have its images too, and how they were made was never counted
        # here.
        "copied": True,
    }


def _waiting_document(waiting: WaitingEdit) -> Document:
    named, previous = waiting.selected_models, waiting.previous_output_ids
    return {
        "selectedModels": None if named is None else list(named),
        "previousOutputIds": None if previous is None else list(previous),
        "maxCredits": waiting.max_credits,
    }


def _range(conversation_id: ConversationId) -> Document:
    low, high = turn_id_range(conversation_id)
    return {"$gte": low, "$lt": high}
