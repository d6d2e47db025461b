"""Shares as documents. A revoked share is deleted; the database deletes expired ones."""

from collections.abc import Sequence
from datetime import UTC, datetime

from pymongo import ReturnDocument

from domain.conflicts import Conflict
from domain.ids import ShareId, ViewerId
from domain.shares import Share
from storage.mongo.collections import Document
from storage.mongo.credits import touch_account
from storage.mongo.database import Database, repository
from storage.mongo.transaction import Abort, Transaction


@repository
class MongoShareRepository:
    """See `domain.ports.shares.ShareRepository`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._shares = database.shares

    async def create(
        self, share: Share, *, at_most: int, at_most_of_conversation: int
    ) -> Conflict | None:
        owner_id = share.owner_id
        of_owner = {"ownerId": owner_id, **_unexpired()}
        of_conversation = {**of_owner, "conversationId": share.conversation_id}
        touch = {"$set": {"sharedAt": share.created_at}}

        async def work(transaction: Transaction) -> None:
            # The write conflicts with the deletion of the conversation, and of the viewer, and with
            # another share, so that the second one counts the first.
            conversation = {"_id": share.conversation_id, "ownerId": owner_id}
            found = await transaction.conversations.update_one(conversation, touch)
            if not found.matched_count:
                raise Abort(Conflict.STALE)
            await touch_account(transaction, owner_id, "sharedAt")
            for query, limit in (
                (of_owner, at_most),
                (of_conversation, at_most_of_conversation),
            ):
                if await transaction.shares.count_documents(query, limit=limit) >= limit:
                    raise Abort(Conflict.LIMIT_REACHED)
            await transaction.shares.insert_one(_document(share))

        done = await self._database.transact(work, account=owner_id)
        return done if isinstance(done, Conflict) else None

    async def list(self, viewer_id: ViewerId) -> Sequence[Share]:
        cursor = self._shares.find({"ownerId": viewer_id, **_unexpired()})
        return [_read(document) async for document in cursor.sort({"createdAt": -1, "_id": -1})]

    async def get(self, viewer_id: ViewerId, share_id: ShareId) -> Share | None:
        document = await self._shares.find_one(_one(viewer_id, share_id) | _unexpired())
        return _read(document) if document else None

    async def view(self, viewer_id: ViewerId, share_id: ShareId, *, times: int) -> Share | None:
        # It raises no version: listeners to the share need not read it again.
        document = await self._shares.find_one_and_update(
            _one(viewer_id, share_id) | _unexpired(),
            {"$inc": {"views": times}},
            return_document=ReturnDocument.AFTER,
        )
        return _read(document) if document else None

    async def delete(self, viewer_id: ViewerId, share_id: ShareId) -> bool:
        deleted = await self._shares.delete_one(_one(viewer_id, share_id))
        return deleted.deleted_count == 1


def _one(viewer_id: ViewerId, share_id: ShareId) -> Document:
    return {"_id": share_id, "ownerId": viewer_id}


def _unexpired() -> Document:
    """Matches shares that have not expired: the database deletes those only once a minute."""
    return {"$or": [{"expiresAt": None}, {"expiresAt": {"$gt": datetime.now(UTC)}}]}


def _document(share: Share) -> Document:
    return {
        "_id": share.id,
        "ownerId": share.owner_id,
        "conversationId": share.conversation_id,
        "includesPrompts": share.includes_prompts,
        "expiresAt": share.expires_at,
        "views": share.views,
        "createdAt": share.created_at,
    }


def _read(document: Document) -> Share:
    return Share(
        id=document["_id"],
        owner_id=document["ownerId"],
        conversation_id=document["conversationId"],
        includes_prompts=document["includesPrompts"],
        expires_at=document["expiresAt"],
        views=document["views"],
        created_at=document["createdAt"],
    )
