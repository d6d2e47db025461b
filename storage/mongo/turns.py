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
from domain.turns import CurrentTurns, Turn, TurnPlan, TurnsAsOf, TurnStatus, WaitingEdit
from storage.mongo.collections import OPEN_TURN, Document
from storage.mongo.current_turns import read_current
from storage.mongo.database import (
    SHOWN,
    Database,
    repository,
)
from storage.mongo.output_updates import insert_update
from storage.mongo.stored_parents import imported_parent, new_parent
from storage.mongo.stored_turns import StoredTurn, read_turn
from storage.mongo.transaction import Transaction

_MAX_IN_PROGRESS: Final = 100
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
        requests: Sequence[CurrentTurns],
        *,
        recent: timedelta,
        at_least: ClusterTime | None = None,
    ) -> Sequence[TurnsAsOf]:
        return await read_current(self._database, requests, recent=recent, at_least=at_least)


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
