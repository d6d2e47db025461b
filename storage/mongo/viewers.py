"""Viewers who are known, and those who are blocked."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Final

from pymongo.errors import DuplicateKeyError

from domain.conflicts import Conflict
from domain.ids import ViewerId
from domain.images import ImageRecord
from domain.ports.viewers import Block
from storage.mongo.collections import Document
from storage.mongo.database import Database, repository
from storage.mongo.images import record_document
from storage.mongo.transaction import Abort, Transaction

IS_BLOCKED: Final[Document] = {"blockedAt": {"$exists": True}}


@repository
class MongoViewerRepository:
    """See `domain.ports.viewers.ViewerRepository`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def is_known(self, viewer_id: ViewerId) -> bool:
        known = {"_id": viewer_id, "firstSeenAt": {"$exists": True}}
        return await self._database.viewers.find_one(known, {"_id": 1}) is not None

    async def welcome(self, viewer_id: ViewerId, samples: Sequence[ImageRecord]) -> bool:
        async def work(transaction: Transaction) -> None:
            try:
                # A blocked viewer has a document already.
                await transaction.viewers.update_one(
                    {"_id": viewer_id, "firstSeenAt": {"$exists": False}},
                    {"$set": {"firstSeenAt": datetime.now(UTC)}},
                    upsert=True,
                )
            except DuplicateKeyError:
                raise Abort(Conflict.STALE) from None
            if samples:
                await transaction.images.insert_many(
                    record_document(viewer_id, record) for record in samples
                )

        return not isinstance(await self._database.transact(work), Conflict)

    async def block(self, viewer_id: ViewerId, *, reason: str | None) -> None:
        block = {"blockedAt": datetime.now(UTC), "blockedBecause": reason}
        await self._database.viewers.update_one({"_id": viewer_id}, {"$set": block}, upsert=True)

    async def unblock(self, viewer_id: ViewerId) -> bool:
        result = await self._database.viewers.update_one(
            {"_id": viewer_id, **IS_BLOCKED}, {"$unset": {"blockedAt": 1, "blockedBecause": 1}}
        )
        return result.modified_count == 1

    async def list_blocked(self) -> Collection[ViewerId]:
        return [
            document["_id"]
            async for document in self._database.viewers.find(IS_BLOCKED, {"_id": 1})
        ]

    async def list_blocks(self) -> Sequence[Block]:
        return [
            Block(document["_id"], document["blockedAt"], document.get("blockedBecause"))
            async for document in self._database.viewers.find(IS_BLOCKED).sort("blockedAt")
        ]
