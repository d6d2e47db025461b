"""Turns as documents, outputs embedded: one document is what is read, written and watched."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import ClassVar, Final

from pymongo import ReturnDocument

from domain.changes import ClusterTime
from domain.conflicts import Conflict
from domain.idempotency import IdempotencyKey
from domain.ids import (
    ConversationId,
    TurnId,
    ViewerId,
    turn_id_of,
    turn_id_range,
)
from domain.models import AspectRatio, ImageFormat, Quality, Resolution
from domain.outputs import Output
from domain.pages import Page, PageRequest, cut
from domain.stored import (
    Coded,
    Instant,
    Key,
    Listed,
    Many,
    One,
    Property,
    Stored,
    Wanted,
    Written,
    projection,
)
from domain.turns import (
    PlannedOutput,
    Turn,
    TurnOptions,
    TurnPlan,
    TurnsAsOf,
    TurnStatus,
)
from storage.mongo.accounts import move_credits, releases, reserve_credits
from storage.mongo.collections import UNFINISHED_TURN, Document
from storage.mongo.database import SHOWN, Database, cluster_time_of, from_cluster_time, repository
from storage.mongo.idempotency import use_key
from storage.mongo.outbox import announce_ends
from storage.mongo.output_rules import (
    MAY_BE_CANCELLED,
    UNFINISHED_OUTPUT,
    any_output,
    from_now,
    is_slot,
)
from storage.mongo.output_updates import ENDED, moving
from storage.mongo.outputs import (
    StoredOutput,
    StoredReference,
    queued_output,
    reference_documents,
)
from storage.mongo.transaction import Abort, Transaction

_MAX_IN_PROGRESS: Final = 100
_PAGE: Final = 50


@repository
class MongoTurnRepository:
    """See `domain.ports.TurnRepository`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._turns = database.turns
        self._shown = database.turns.with_options(codec_options=SHOWN)
        self._images = database.images

    async def get_many(self, viewer_id: ViewerId, ids: Iterable[TurnId]) -> Mapping[TurnId, Turn]:
        return await self._get_many(viewer_id, ids)

    async def _get_many(self, viewer_id: ViewerId, ids: Iterable[TurnId]) -> Mapping[TurnId, Turn]:
        cursor = self._turns.find({"_id": {"$in": list(set(ids))}, "ownerId": viewer_id})
        return {TurnId(found["_id"]): read_turn(found) async for found in cursor}

    async def latest_of_many(
        self, viewer_id: ViewerId, ids: Iterable[ConversationId]
    ) -> Mapping[ConversationId, Turn]:
        stages: list[Document] = [
            {"$match": {"_id": {"$in": list(set(ids))}, "ownerId": viewer_id}},
            {"$project": {"last": {"$subtract": ["$turnCount", 1]}}},
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
        found = (
            await self._shown.find(
                {"_id": bounds, "ownerId": viewer_id}, shown and {**shown, "turnIndex": 1}
            )
            .sort("_id", -1 if request.backwards else 1)
            .limit(request.size + 1)
            .to_list()
        )
        return cut(request, [read_turn(one) for one in found], lambda turn: (turn.turn_index,))

    async def latest_with_images(
        self, viewer_id: ViewerId, conversation_id: ConversationId
    ) -> Turn | None:
        query = {
            "_id": _range(conversation_id),
            "ownerId": viewer_id,
            "outputs.images.0": {"$exists": True},
        }
        found = await self._turns.find_one(query, sort=[("_id", -1)])
        return read_turn(found) if found else None

    async def in_progress(self, viewer_id: ViewerId) -> Sequence[Turn]:
        query = {"ownerId": viewer_id, "status": UNFINISHED_TURN}
        found = await self._turns.find(query).sort("_id", 1).limit(_MAX_IN_PROGRESS).to_list()
        return [read_turn(document) for document in found]

    async def current(
        self,
        viewer_id: ViewerId,
        conversation_id: ConversationId,
        *,
        changed_since: ClusterTime | None,
        recent: timedelta,
        after_index: int = -1,
        at_least: ClusterTime | None = None,
    ) -> TurnsAsOf:
        alternatives: list[Document] = [
            {"status": UNFINISHED_TURN},
            {"$expr": {"$gte": ["$updatedAt", from_now(-recent)]}},
        ]
        if changed_since is not None:
            alternatives.append({"changedAt": {"$gte": from_cluster_time(changed_since)}})
        _, high = turn_id_range(conversation_id)
        later = {"$gt": turn_id_of(conversation_id, after_index), "$lt": high}
        own: Document = {"_id": later, "ownerId": viewer_id}
        stages: list[Document] = [
            {"$match": own},
            {"$sort": {"_id": -1}},
            {"$limit": 1},
            {
                "$unionWith": {
                    "coll": self._turns.name,
                    "pipeline": [
                        {"$match": {**own, "$or": alternatives}},
                        {"$sort": {"_id": 1}},
                        {"$limit": _PAGE + 1},
                    ],
                }
            },
        ]
        async with self._database.session() as session:
            if at_least is not None:
                session.advance_operation_time(from_cluster_time(at_least))
            cursor = await self._shown.aggregate(stages, session=session)
            latest, *found = await cursor.to_list() or [{}]
            # It may be newer than what was read, by less time than a read may take: see `recent`.
            cluster_time = cluster_time_of(session)
        more = len(found) > _PAGE
        page = found[:_PAGE]
        if latest and not more and all(one["_id"] < latest["_id"] for one in page):
            page.append(latest)
        return TurnsAsOf(tuple(map(read_turn, page)), cluster_time, more)

    async def retry(
        self,
        viewer_id: ViewerId,
        output: Output,
        *,
        planned: PlannedOutput,
        max_active_outputs: int,
        key: IdempotencyKey | None,
    ) -> tuple[Turn, ClusterTime] | Conflict:
        slot, turn_id = output.slot, output.turn_id
        unchanged = {
            "slot": slot,
            "attempt": output.attempt,
            "status": output.status.value,
        }
        changes: Document = {
            name: {"$literal": value} for name, value in queued_output(planned).items()
        } | {
            "attempt": output.attempt + 1,
            "fence": {"$add": ["$$output.fence", 1]},
            "queuedAt": "$$NOW",
        }

        async def work(transaction: Transaction) -> Turn:
            await use_key(transaction, viewer_id, key=key, turn_id=turn_id, slot=slot)
            found = await transaction.turns.find_one_and_update(
                {"_id": turn_id, "ownerId": viewer_id, "outputs": {"$elemMatch": unchanged}},
                moving(is_slot(slot), changes),
                return_document=ReturnDocument.AFTER,
            )
            if found is None:
                raise Abort(Conflict.STALE)
            turn = read_turn(found)
            queued = [one for one in turn.outputs if one.slot == slot]
            await reserve_credits(
                transaction, queued, owner_id=viewer_id, max_active=max_active_outputs
            )
            return turn

        retried = await self._database.transact(work, account=viewer_id)
        return retried if isinstance(retried, Conflict) else (retried.result, retried.cluster_time)

    async def cancel(
        self, viewer_id: ViewerId, turn_id: TurnId, slots: Iterable[int]
    ) -> Turn | None:
        wanted_slots = list(slots)
        wanted = {"$and": [{"$in": ["$$output.slot", wanted_slots]}, MAY_BE_CANCELLED]}

        async def work(transaction: Transaction) -> Turn:
            before = await transaction.turns.find_one_and_update(
                {"_id": turn_id, "ownerId": viewer_id, "$expr": any_output(wanted)},
                moving(wanted, {**ENDED, "status": "CANCELLED"}),
            )
            if before is None:
                raise Abort(Conflict.STALE)
            ended = [
                output
                for output in before["outputs"]
                if output["slot"] in wanted_slots and output["status"] in UNFINISHED_OUTPUT
            ]
            after = await transaction.turns.find_one({"_id": turn_id, "ownerId": viewer_id})
            assert after is not None
            await announce_ends(
                transaction, viewer_id, turn_id, slots=[output["slot"] for output in ended]
            )
            await move_credits(transaction, viewer_id, movements=releases(turn_id, ended))
            return read_turn(after)

        cancelled = await self._database.transact(work, account=viewer_id)
        return None if isinstance(cancelled, Conflict) else cancelled.result


async def insert_turn(
    transaction: Transaction,
    *,
    owner_id: ViewerId,
    conversation_id: ConversationId,
    turn_index: int,
    plan: TurnPlan,
) -> Turn:
    """Write a new turn. One that is there already is never changed: the insertion fails."""
    turn_id = turn_id_of(conversation_id, turn_index)
    document = _new_turn_document(owner_id, turn_index, plan)
    found = await transaction.turns.find_one_and_update(
        {"_id": turn_id, "ownerId": owner_id, "version": {"$exists": False}},
        [
            {
                "$replaceWith": {
                    "$mergeObjects": [
                        {"$literal": {"_id": turn_id, **document}},
                        {
                            "outputs": {
                                "$map": {
                                    "input": {"$literal": document["outputs"]},
                                    "in": {"$mergeObjects": ["$$this", {"queuedAt": "$$NOW"}]},
                                }
                            },
                            "changedAt": "$$CLUSTER_TIME",
                            "createdAt": "$$NOW",
                            "updatedAt": "$$NOW",
                        },
                    ]
                }
            }
        ],
        upsert=True,
        return_document=ReturnDocument.AFTER,
    )
    assert found is not None
    return read_turn(found)


class StoredOptions(Stored, TurnOptions):
    __slots__ = ("companion", "record")
    kind = TurnOptions
    fields: ClassVar = {
        "images_per_model": Key("imagesPerModel"),
        "previews": Key("previews"),
        "quality": Coded("quality", Quality),
        "format": Coded("format", ImageFormat),
        "width": Key("width"),
        "height": Key("height"),
        "seed": Key("seed"),
        "negative_prompt": Key("negativePrompt"),
        "earlier_messages": Key("earlierMessages", default=None, required=False),
        "context": Property(("earlierMessages",)),
    }


class StoredTurn(Stored, Turn):
    __slots__ = ("companion", "record")
    kind = Turn
    fields: ClassVar = {
        "id": Key("_id"),
        "owner_id": Key("ownerId"),
        "turn_index": Key("turnIndex"),
        "user_message": Key("userMessage"),
        "selected_model_ids": Listed("selectedModels"),
        "references": Many("references", StoredReference),
        "previous_were_named": Key("previousWereNamed", default=False, required=False),
        "aspect_ratio": Written("aspectRatio", AspectRatio.parse),
        "resolution": Coded("resolution", Resolution),
        "options": One("options", StoredOptions),
        "status": Coded("status", TurnStatus),
        "outputs": Many("outputs", StoredOutput, inherits=(("turnId", "_id"),)),
        "version": Key("version"),
        "created_at": Instant("createdAt"),
        "updated_at": Instant("updatedAt"),
        "completed_at": Instant("completedAt"),
        "error": Property(("status", "outputs.error")),
    }


read_turn = StoredTurn.of


def _new_turn_document(owner_id: ViewerId, turn_index: int, plan: TurnPlan) -> Document:
    options = plan.options
    return {
        "ownerId": owner_id,
        "turnIndex": turn_index,
        "userMessage": plan.user_message,
        "selectedModels": [planned.requested_model_id for planned in plan.outputs],
        "references": reference_documents(plan.references),
        "previousWereNamed": plan.previous_were_named,
        "aspectRatio": str(plan.aspect_ratio),
        "resolution": plan.resolution.value,
        "options": {
            "imagesPerModel": options.images_per_model,
            "previews": options.previews,
            "quality": options.quality,
            "format": options.format,
            "width": options.width,
            "height": options.height,
            "seed": options.seed,
            "negativePrompt": options.negative_prompt,
            "earlierMessages": options.earlier_messages,
        },
        "status": TurnStatus.PENDING.value,
        "outputs": [
            {"slot": slot, "attempt": 1, "fence": 0, "version": 1, **queued_output(planned)}
            for slot, planned in enumerate(plan.outputs, start=1)
        ],
        "version": 1,
        "completedAt": None,
    }


def _range(conversation_id: ConversationId) -> Document:
    low, high = turn_id_range(conversation_id)
    return {"$gte": low, "$lt": high}
