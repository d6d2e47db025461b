"""Exports as documents: jobs with a lease, which is renewed by every write of their progress."""

from collections.abc import Iterable, Mapping
from datetime import timedelta

from pymongo import ReturnDocument

from domain.conflicts import Conflict
from domain.errors import GenerationErrorCode
from domain.exports import Export, ExportClaim
from domain.ids import ExportId, ViewerId
from domain.outputs import MAX_COUNT, GenerationError, OutputStatus
from storage.mongo.accounts import touch_account
from storage.mongo.collections import UNFINISHED_JOB, Document
from storage.mongo.database import Database, repository
from storage.mongo.output_rules import from_now
from storage.mongo.transaction import Abort, Transaction


@repository
class MongoExportRepository:
    """See `domain.ports.ExportRepository`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._exports = database.exports

    async def create(self, export: Export, *, at_most: int) -> bool:
        running = {"ownerId": export.owner_id, "status": UNFINISHED_JOB}

        async def work(transaction: Transaction) -> None:
            # Two of a viewer's transactions conflict here, so that the second counts the first.
            await touch_account(transaction, export.owner_id, "exportedAt")
            if await transaction.exports.count_documents(running, limit=at_most) >= at_most:
                raise Abort(Conflict.LIMIT_REACHED)
            await transaction.exports.insert_one(_document(export))

        done = await self._database.transact(work, account=export.owner_id)
        return not isinstance(done, Conflict)

    async def get_many(
        self, viewer_id: ViewerId, ids: Iterable[ExportId]
    ) -> Mapping[ExportId, Export]:
        query = {"_id": {"$in": list(set(ids))}, "ownerId": viewer_id}
        return {ExportId(found["_id"]): _read(found) async for found in self._exports.find(query)}

    async def claim(self, *, lease: timedelta, max_tries: int) -> ExportClaim | None:
        # Missing sorts before every date: one that was never claimed has no lease.
        is_free = {"$expr": {"$lte": ["$leaseUntil", "$$NOW"]}}
        found = await self._exports.find_one_and_update(
            {"status": UNFINISHED_JOB, "fence": {"$lt": max_tries}, **is_free},
            [
                {
                    "$set": {
                        "status": OutputStatus.GENERATING.value,
                        "fence": {"$add": ["$fence", 1]},
                        "leaseUntil": from_now(lease),
                    }
                }
            ],
            sort=[("createdAt", 1)],
            return_document=ReturnDocument.AFTER,
        )
        return ExportClaim(_read(found), found["fence"]) if found else None

    async def abandon(self, *, max_tries: int, error: GenerationError, kept: timedelta) -> None:
        await self._exports.update_many(
            {
                "status": UNFINISHED_JOB,
                "fence": {"$gte": max_tries},
                "$expr": {"$lte": ["$leaseUntil", "$$NOW"]},
            },
            [{"$set": {**_failed(error), "expiresAt": from_now(kept)}}],
        )

    async def renew(self, claim: ExportClaim, *, progress: float | None, lease: timedelta) -> bool:
        return await self._write(
            claim, [{"$set": {"progress": progress, "leaseUntil": from_now(lease)}}]
        )

    async def complete(
        self, claim: ExportClaim, *, key: str, byte_size: int, kept: timedelta
    ) -> bool:
        done: Document = {
            "status": OutputStatus.COMPLETED.value,
            "progress": None,
            "key": key,
            "byteSize": byte_size,
            "expiresAt": from_now(kept),
        }
        return await self._write(claim, [{"$set": done}])

    async def fail(self, claim: ExportClaim, error: GenerationError, *, kept: timedelta) -> bool:
        return await self._write(claim, [{"$set": {**_failed(error), "expiresAt": from_now(kept)}}])

    async def _write(self, claim: ExportClaim, update: list[Document]) -> bool:
        export = claim.export
        written = await self._exports.update_one(
            {
                "_id": export.id,
                "ownerId": export.owner_id,
                "status": UNFINISHED_JOB,
                "fence": claim.fence,
            },
            update,
        )
        return written.matched_count == 1


def _failed(error: GenerationError) -> Document:
    return {
        "status": OutputStatus.FAILED.value,
        "progress": None,
        "error": {"code": error.code.value, "retryable": error.retryable},
    }


def _document(export: Export) -> Document:
    return {
        "_id": export.id,
        "ownerId": export.owner_id,
        "conversationId": export.conversation_id,
        "status": export.status.value,
        "progress": export.progress,
        "key": export.key,
        "byteSize": export.byte_size,
        "expiresAt": export.expires_at,
        "error": None,
        "fence": 0,
        "leaseUntil": None,
        "createdAt": export.created_at,
    }


def _read(document: Document) -> Export:
    error, byte_size = document["error"], document["byteSize"]
    return Export(
        id=document["_id"],
        owner_id=document["ownerId"],
        conversation_id=document["conversationId"],
        status=OutputStatus(document["status"]),
        progress=document["progress"],
        key=document["key"],
        byte_size=byte_size if byte_size is None or byte_size <= MAX_COUNT else None,
        expires_at=document["expiresAt"],
        error=GenerationError(GenerationErrorCode(error["code"]), error["retryable"])
        if error
        else None,
        created_at=document["createdAt"],
    )
