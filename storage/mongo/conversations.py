"""Conversations as documents, and the transactions that start, continue and delete them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from pymongo import ReturnDocument

from domain.changes import ClusterTime
from domain.conflicts import Conflict
from domain.conversations import Conversation, DeletedConversation
from domain.idempotency import IdempotencyKey
from domain.ids import ConversationId, ImageId, ViewerId, turn_id_of, turn_id_range
from domain.images import Image
from domain.models import AspectRatio, Resolution
from domain.pages import Page, PageRequest
from domain.turns import Turn, TurnPlan
from storage.mongo.collections import Document
from storage.mongo.credits import refuse_while_erased, reserve_credits
from storage.mongo.database import Committed, Database, cluster_time_of, repository
from storage.mongo.idempotency import use_key
from storage.mongo.images import hold_images, image_document, image_keys, read_image
from storage.mongo.jobs import EXPORT_KEYS, export_keys
from storage.mongo.model_stats import count_asked
from storage.mongo.pages import beyond, read_page
from storage.mongo.parents import delete_parents
from storage.mongo.prompts import count_prompt_use
from storage.mongo.stored_turns import read_turn
from storage.mongo.text_search import with_words, words_added, words_to_find
from storage.mongo.transaction import Abort, Transaction
from storage.mongo.trash import list_put_aside, put_aside, take_back
from storage.mongo.turns import insert_turn
from storage.mongo.versions import NEXT_STATE


@repository
class MongoConversationRepository:
    """See `domain.ports.conversations.ConversationRepository`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._conversations = database.conversations

    async def get_many(
        self, viewer_id: ViewerId, ids: Iterable[ConversationId]
    ) -> Mapping[ConversationId, Conversation]:
        query = {"_id": {"$in": list(set(ids))}, "ownerId": viewer_id}
        async with self._database.session() as session:
            documents = await self._conversations.find(query, _SHOWN, session=session).to_list()
            cluster_time = cluster_time_of(session)
        return {
            document["_id"]: read_conversation(document, cluster_time) for document in documents
        }

    async def get_with_latest_turn(
        self, viewer_id: ViewerId, conversation_id: ConversationId
    ) -> tuple[Conversation, Turn | None] | None:
        low, high = turn_id_range(conversation_id)
        own_turns = {"_id": {"$gte": low, "$lt": high}, "ownerId": viewer_id}
        latest = [{"$match": own_turns}, {"$sort": {"_id": -1}}, {"$limit": 1}]
        stages: list[Document] = [
            {"$match": {"_id": conversation_id, "ownerId": viewer_id}},
            {"$project": _SHOWN},
            {"$unionWith": {"coll": self._database.turns.name, "pipeline": latest}},
        ]
        async with self._database.session() as session:
            cursor = await self._conversations.aggregate(stages, session=session)
            found = await cursor.to_list()
            cluster_time = cluster_time_of(session)
            if not found or found[0]["_id"] != conversation_id:
                return None
            # The turn is read last: it may be newer than the count, which the next write compares.
            conversation, turn = found[0], found[1] if found[1:] else None
            last = last_turn_index(conversation)
            if last > (turn["turnIndex"] if turn else -1):
                # It was deleted meanwhile, or is on another shard, which shows a commit a moment
                # later. The session is causally consistent: this read waits for that.
                counted = {"_id": turn_id_of(conversation_id, last), "ownerId": viewer_id}
                turn = await self._database.turns.find_one(counted, session=session) or turn
        return read_conversation(conversation, cluster_time), read_turn(turn) if turn else None

    async def page(
        self,
        viewer_id: ViewerId,
        request: PageRequest,
        *,
        source_image_id: ImageId | None,
        words: Sequence[str],
    ) -> Page[Conversation]:
        query: Document = {
            "ownerId": viewer_id,
            **with_words(words),
            **beyond(request, "updatedAt"),
        }
        if source_image_id is not None:
            query["sourceImage.id"] = source_image_id
        async with self._database.session() as session:
            return await read_page(
                self._conversations.find(query, _SHOWN, session=session),
                request,
                sorted_by="updatedAt",
                read=lambda document: read_conversation(document, cluster_time_of(session)),
            )

    async def start(
        self,
        viewer_id: ViewerId,
        conversation_id: ConversationId,
        *,
        title: str,
        source_image: Image | None,
        plan: TurnPlan,
        max_active_outputs: int,
        key: IdempotencyKey | None,
    ) -> tuple[Conversation, Turn] | Conflict:
        document: Document = {
            "_id": conversation_id,
            "ownerId": viewer_id,
            "title": title,
            "sourceImage": source_image and image_document(source_image),
            "aspectRatio": str(plan.aspect_ratio),
            "resolution": plan.resolution.value,
            "turnCount": 1,
            "words": words_to_find(title, plan.user_message),
            "version": 1,
        }
        new_turn = _NewTurn(
            owner_id=viewer_id,
            conversation_id=conversation_id,
            turn_index=0,
            plan=plan,
            source_ids=frozenset([source_image.id] if source_image is not None else []),
            max_active_outputs=max_active_outputs,
            key=key,
        )

        async def work(transaction: Transaction) -> tuple[Document, Turn]:
            await new_turn.use_key(transaction)
            found = await insert_conversation(transaction, document)
            return found, await new_turn.write(transaction)

        return _as_of(await self._database.transact(work, account=viewer_id))

    async def append_turn(
        self,
        viewer_id: ViewerId,
        conversation: Conversation,
        *,
        plan: TurnPlan,
        max_active_outputs: int,
        key: IdempotencyKey | None,
    ) -> tuple[Conversation, Turn] | Conflict:
        turn_index = conversation.next_turn_index
        new_turn = _NewTurn(
            owner_id=viewer_id,
            conversation_id=conversation.id,
            turn_index=turn_index,
            plan=plan,
            max_active_outputs=max_active_outputs,
            key=key,
        )

        async def work(transaction: Transaction) -> tuple[Document, Turn]:
            await new_turn.use_key(transaction)
            document = await transaction.conversations.find_one_and_update(
                {"_id": conversation.id, "ownerId": viewer_id, "turnCount": turn_index},
                [
                    {
                        "$set": {
                            "turnCount": turn_index + 1,
                            "lastTurnIndex": turn_index,
                            "words": words_added(after=plan.user_message),
                            **NEXT_STATE,
                        }
                    }
                ],
                return_document=ReturnDocument.AFTER,
            )
            if document is None:
                raise Abort(Conflict.STALE)
            return document, await new_turn.write(transaction)

        return _as_of(await self._database.transact(work, account=viewer_id))

    async def rename(
        self, viewer_id: ViewerId, conversation_id: ConversationId, title: str
    ) -> Conversation | None:
        async with self._database.session() as session:
            document = await self._conversations.find_one_and_update(
                {"_id": conversation_id, "ownerId": viewer_id},
                [
                    {
                        "$set": {
                            "title": {"$literal": title},
                            "titleWasGiven": True,
                            "words": words_added(before=title),
                            **NEXT_STATE,
                        }
                    }
                ],
                return_document=ReturnDocument.AFTER,
                session=session,
            )
            return read_conversation(document, cluster_time_of(session)) if document else None

    async def delete(
        self,
        viewer_id: ViewerId,
        conversation_id: ConversationId,
        *,
        keep_images: bool = False,
        restorable_for: timedelta | None = None,
    ) -> Sequence[str] | None:
        low, high = turn_id_range(conversation_id)
        own_turns = {"_id": {"$gte": low, "$lt": high}, "ownerId": viewer_id}

        async def work(transaction: Transaction) -> list[str]:
            deleted = await transaction.conversations.find_one_and_delete(
                {"_id": conversation_id, "ownerId": viewer_id}
            )
            if deleted is None:
                raise Abort(Conflict.STALE)
            turns, images = [], []
            if restorable_for is not None:
                turns = await transaction.turns.find(own_turns).to_list()
                images = await _find_images(transaction, viewer_id, turns)
            keys = await _delete_shares_and_exports(transaction, viewer_id, conversation_id)
            keys += await delete_parents(
                transaction,
                viewer_id,
                own_turns,
                among=transaction.turns,
                besides=conversation_id,
                keep_images=keep_images,
            )
            if restorable_for is None:
                return keys
            deleted_images = await _without_existing(transaction, viewer_id, images)
            await put_aside(
                transaction, deleted, turns=turns, images=deleted_images, keep=restorable_for
            )
            needed = {key for image in deleted_images for key in image_keys(image)}
            return [key for key in keys if key not in needed]

        deleted = await self._database.transact(work, account=viewer_id)
        return None if isinstance(deleted, Conflict) else deleted.result

    async def list_restorable(
        self, viewer_id: ViewerId, *, limit: int
    ) -> Sequence[DeletedConversation]:
        return await list_put_aside(self._database, viewer_id, limit=limit)

    async def restore(
        self, viewer_id: ViewerId, conversation_id: ConversationId
    ) -> Conversation | Conflict:
        async def work(transaction: Transaction) -> Document:
            return await take_back(transaction, viewer_id, conversation_id)

        restored = await self._database.transact(work, account=viewer_id)
        if isinstance(restored, Conflict):
            return restored
        return read_conversation(restored.result, restored.cluster_time)


async def insert_conversation(transaction: Transaction, document: Document) -> Document:
    """Write a new conversation, and return it with its times."""
    key = {"_id": document["_id"], "ownerId": document["ownerId"], "version": {"$exists": False}}
    times = {"createdAt": "$$NOW", "updatedAt": "$$NOW"}
    found = await transaction.conversations.find_one_and_update(
        key,
        [{"$replaceWith": {"$mergeObjects": [{"$literal": document}, times]}}],
        upsert=True,
        return_document=ReturnDocument.AFTER,
    )
    assert found is not None
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _NewTurn:
    """Write a turn with everything that belongs to its transaction."""

    owner_id: ViewerId
    conversation_id: ConversationId
    turn_index: int
    plan: TurnPlan
    max_active_outputs: int
    key: IdempotencyKey | None
    source_ids: frozenset[ImageId] = frozenset()
    """The source image of a conversation that starts with this turn."""

    async def use_key(self, transaction: Transaction) -> None:
        """Store the idempotency key. Call this first: a repeated request is then recognised
        before any other conflict.
        """
        turn_id = turn_id_of(self.conversation_id, self.turn_index)
        await use_key(transaction, self.owner_id, key=self.key, parent_id=turn_id)

    async def write(self, transaction: Transaction) -> Turn:
        """Write the turn and reserve its credits. Call this last, since all transactions of a
        viewer write to the account.
        """
        owner_id, plan = self.owner_id, self.plan
        used = {reference.image.id for reference in plan.references} | self.source_ids
        if plan.options.mask is not None:
            used |= {plan.options.mask.id}
        await hold_images(transaction, owner_id, ids=used)
        turn = await insert_turn(
            transaction,
            owner_id=owner_id,
            conversation_id=self.conversation_id,
            turn_index=self.turn_index,
            plan=plan,
        )
        await count_prompt_use(transaction, owner_id, text=plan.user_message)
        await count_asked(
            transaction, owner_id, turn, slots=[output.slot for output in turn.outputs]
        )
        if plan.waiting is not None:
            await refuse_while_erased(transaction, owner_id)
            return turn
        await reserve_credits(
            transaction, turn.outputs, owner_id=owner_id, max_active=self.max_active_outputs
        )
        return turn


def imported_conversation(conversation: Conversation, texts: str) -> Document:
    """The document of a conversation. Searches find it by `texts` and its title."""
    source_image = conversation.source_image
    return {
        "_id": conversation.id,
        "ownerId": conversation.owner_id,
        "title": conversation.title,
        "titleWasGiven": conversation.title_was_given,
        "sourceImage": source_image and image_document(source_image),
        "aspectRatio": str(conversation.aspect_ratio),
        "resolution": conversation.resolution.value,
        "turnCount": conversation.next_turn_index,
        "deletedTurns": conversation.deleted_turns,
        "words": words_to_find(conversation.title, texts),
        "version": 1,
        "createdAt": conversation.created_at,
        "updatedAt": conversation.updated_at,
    }


def read_conversation(document: Document, cluster_time: ClusterTime) -> Conversation:
    source_image = document["sourceImage"]
    return Conversation(
        id=document["_id"],
        owner_id=document["ownerId"],
        title=document["title"],
        source_image=read_image(source_image) if source_image else None,
        aspect_ratio=AspectRatio.parse(document["aspectRatio"]),
        resolution=Resolution(document["resolution"]),
        turn_count=document["turnCount"] - document.get("deletedTurns", 0),
        deleted_turns=document.get("deletedTurns", 0),
        created_at=document["createdAt"],
        updated_at=document["updatedAt"],
        as_of=cluster_time,
        title_was_given=document.get("titleWasGiven", False),
    )


def last_turn_index(document: Document) -> int:
    """The time of the latest turn that is not deleted."""
    found: int = document.get("lastTurnIndex", document["turnCount"] - 1)
    return found


def _as_of(
    written: Committed[tuple[Document, Turn]] | Conflict,
) -> tuple[Conversation, Turn] | Conflict:
    if isinstance(written, Conflict):
        return written
    document, turn = written.result
    return read_conversation(document, written.cluster_time), turn


_SHOWN: Final = {"words": 0}
"""The fields that are read. Words are only searched."""


async def _find_images(
    transaction: Transaction, viewer_id: ViewerId, turns: Iterable[Document]
) -> list[Document]:
    outputs = [output for turn in turns for output in turn["outputs"]]
    ids = [image["id"] for output in outputs for image in output["images"]]
    query = {"_id": {"$in": ids}, "ownerId": viewer_id}
    return await transaction.images.find(query).to_list()


async def _without_existing(
    transaction: Transaction, viewer_id: ViewerId, images: Sequence[Document]
) -> list[Document]:
    ids = [image["_id"] for image in images]
    query = {"_id": {"$in": ids}, "ownerId": viewer_id}
    existing = set(await transaction.images.distinct("_id", query))
    return [image for image in images if image["_id"] not in existing]


async def _delete_shares_and_exports(
    transaction: Transaction, viewer_id: ViewerId, conversation_id: ConversationId
) -> list[str]:
    """Delete them. Return the keys of the exports' ZIPs."""
    query = {"ownerId": viewer_id, "conversationId": conversation_id}
    await transaction.shares.delete_many(query)
    exports = await transaction.exports.find(query, EXPORT_KEYS).to_list()
    await transaction.exports.delete_many(query)
    return [key for export in exports for key in export_keys(export)]
