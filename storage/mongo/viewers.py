"""Viewers that have been here before."""

from collections.abc import Sequence
from datetime import UTC, datetime

from pymongo.errors import DuplicateKeyError

from domain.conflicts import Conflict
from domain.ids import ViewerId
from domain.images import ImageRecord
from storage.mongo.database import Database, repository
from storage.mongo.images import record_document
from storage.mongo.transaction import Abort, Transaction


@repository
class MongoViewerRepository:
    """See `domain.ports.ViewerRepository`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def is_known(self, viewer_id: ViewerId) -> bool:
        return await self._database.viewers.find_one({"_id": viewer_id}, {"_id": 1}) is not None

    async def welcome(self, viewer_id: ViewerId, samples: Sequence[ImageRecord]) -> bool:
        async def work(transaction: Transaction) -> None:
            try:
                await transaction.viewers.insert_one(
                    {"_id": viewer_id, "firstSeenAt": datetime.now(UTC)}
                )
            except DuplicateKeyError:
                raise Abort(Conflict.STALE) from None
            if samples:
                await transaction.images.insert_many(
                    record_document(viewer_id, record) for record in samples
                )

        return not isinstance(await self._database.transact(work), Conflict)
