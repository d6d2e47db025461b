"""Deleted conversations that can be restored: their documents, kept in another collection, so that
no query finds them, until they expire or are restored.

Each has `document` as it was in `collection`, except that its outputs have ended and show no
preview. Images have `key` and `renditionWidths` beside it: their bytes are still referred to.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from pymongo import DESCENDING, ReturnDocument

from domain.conflicts import Conflict
from domain.conversations import DeletedConversation
from domain.credits import charge_for
from domain.ids import ConversationId, ImageId, ViewerId
from domain.outputs import OutputStatus
from domain.rules import derive_status, end_of
from domain.turns import TurnStatus
from storage.mongo.collections import Document
from storage.mongo.credits import touch_account
from storage.mongo.database import Database, repository
from storage.mongo.images import hold_images, image_keys
from storage.mongo.output_rules import UNFINISHED_OUTPUT
from storage.mongo.periodic import surely_expired
from storage.mongo.transaction import Abort, Transaction
from storage.mongo.versions import NEXT_STATE

_ENDED: Final[Document] = {
    "creditsReserved": 0,
    "progress": None,
    "queuePosition": None,
    "leaseUntil": None,
    "notBefore": None,
    "deadlineAt": None,
}


@repository
class MongoTrashRepository:
    """See `domain.ports.cleanup.ExpiringRepository`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._trash = database.trash

    async def list_expired(self, *, limit: int) -> Mapping[str, Sequence[str]]:
        shown = {"key": 1, "renditionWidths": 1}
        cursor = self._trash.find({"until": {"$lt": surely_expired()}}, shown).limit(limit)
        return {
            document["_id"]: image_keys(document) if "key" in document else ()
            async for document in cursor
        }

    async def forget(self, ids: Iterable[str]) -> None:
        await self._trash.delete_many({"_id": {"$in": list(ids)}})


async def put_aside(
    transaction: Transaction,
    conversation: Document,
    *,
    turns: Iterable[Document],
    images: Iterable[Document],
    keep: timedelta,
) -> None:
    """Keep what has just been deleted. `images` are the deleted ones."""
    now = datetime.now(UTC)
    documents = [
        ("conversations", conversation),
        *(("turns", _end(turn, now)) for turn in turns),
        *(("images", image) for image in images),
    ]
    await transaction.trash.insert_many(
        {
            "_id": document["_id"],
            "ownerId": conversation["ownerId"],
            "conversationId": conversation["_id"],
            "collection": name,
            "document": document,
            "until": now + keep,
            **{key: document[key] for key in ("key", "renditionWidths") if name == "images"},
        }
        for name, document in documents
    )


async def list_put_aside(
    database: Database, viewer_id: ViewerId, *, limit: int
) -> list[DeletedConversation]:
    """The deleted conversations of a viewer, the latest deletion first."""
    wanted = {"ownerId": viewer_id, "collection": "conversations", **_restorable()}
    shown = {"until": 1, "document.title": 1, "document.turnCount": 1}
    cursor = database.trash.find(wanted, shown).sort("until", DESCENDING).limit(limit)
    return [
        DeletedConversation(
            id=entry["_id"],
            title=entry["document"]["title"],
            turn_count=entry["document"]["turnCount"],
            restorable_until=entry["until"],
        )
        async for entry in cursor
    ]


async def take_back(
    transaction: Transaction, viewer_id: ViewerId, conversation_id: ConversationId
) -> Document:
    """Restore the documents of a conversation, and return the conversation's own.

    Abort with STALE where they do not exist, with IMAGE_GONE where something that they refer to has
    been deleted in the meantime.
    """
    own = {"ownerId": viewer_id, "conversationId": conversation_id}
    documents = await transaction.trash.find({**own, **_restorable()}).to_list()
    kept: dict[str, list[Document]] = {"conversations": [], "turns": [], "images": []}
    for document in documents:
        kept[document["collection"]].append(document["document"])
    if not kept["conversations"]:
        raise Abort(Conflict.STALE)
    await touch_account(transaction, viewer_id, "restoredAt")
    await transaction.trash.delete_many(own)
    [conversation] = kept["conversations"]
    used = _used_images(conversation, kept["turns"])
    outputs = [output for turn in kept["turns"] for output in turn["outputs"]]
    ids = [image["id"] for output in outputs for image in output["images"]]
    others = await _take_images_of_others(transaction, viewer_id, used.union(ids))
    await transaction.images.insert_many([*kept["images"], *others])
    await hold_images(transaction, viewer_id, ids=used)
    there = set(
        await transaction.images.distinct("_id", {"_id": {"$in": ids}, "ownerId": viewer_id})
    )
    for output in outputs:
        output["images"] = [image for image in output["images"] if image["id"] in there]
    await transaction.turns.insert_many(kept["turns"])
    restored = await transaction.conversations.find_one_and_update(
        {"_id": conversation_id, "ownerId": viewer_id, "version": {"$exists": False}},
        [{"$replaceWith": {"$literal": conversation}}, {"$set": NEXT_STATE}],
        upsert=True,
        return_document=ReturnDocument.AFTER,
    )
    assert restored is not None
    return restored


async def _take_images_of_others(
    transaction: Transaction, viewer_id: ViewerId, ids: Collection[ImageId]
) -> list[Document]:
    """Take the images out of other conversations, which were deleted later and have not been
    restored.
    """
    wanted = {"_id": {"$in": [*ids]}, "ownerId": viewer_id, "collection": "images", **_restorable()}
    found = [entry["document"] async for entry in transaction.trash.find(wanted)]
    if found:
        await transaction.trash.delete_many(wanted)
    return found


def _restorable() -> Document:
    """Matches what can still be restored."""
    return {"until": {"$gt": datetime.now(UTC)}}


def _used_images(conversation: Document, turns: Sequence[Document]) -> set[ImageId]:
    """The images that the conversation starts from or refers to, its masks included."""
    references = {reference["image"]["id"] for turn in turns for reference in turn["references"]}
    masks = {turn["options"]["mask"]["id"] for turn in turns if turn["options"].get("mask")}
    source_image = conversation["sourceImage"]
    return references | masks | ({source_image["id"]} if source_image else set())


def _end_output(output: Document, now: datetime, *, asked: int) -> None:
    delivered = len(output["images"])
    status = end_of(OutputStatus.CANCELLED, has_images=delivered > 0)
    charged = charge_for(output["creditsReserved"], delivered=delivered, asked=asked)
    output |= {
        **_ENDED,
        "status": status.value,
        "creditsCharged": charged,
        "version": output["version"] + 1,
        "completedAt": now,
    }


def _end(turn: Document, now: datetime) -> Document:
    """The turn without running outputs, and without previews, whose bytes are deleted."""
    for output in turn["outputs"]:
        output["preview"] = None
        if output["status"] in UNFINISHED_OUTPUT:
            _end_output(output, now, asked=turn["options"]["imagesPerModel"])
    statuses = [OutputStatus(output["status"]) for output in turn["outputs"]]
    if turn.pop("waiting", None) is not None:
        turn["status"] = TurnStatus.CANCELLED.value
    elif statuses:
        turn["status"] = derive_status(statuses).value
    turn["version"] += 1
    turn["completedAt"] = turn["completedAt"] or now
    return turn
