"""Models that have been withdrawn, for as long as their documents live."""

from collections.abc import Collection
from datetime import UTC, datetime

from domain.ids import ModelId
from storage.mongo.database import Database, repository


@repository
class MongoWithdrawnModelRepository:
    """See `domain.ports.WithdrawnModelRepository`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, model_id: ModelId) -> None:
        await self._database.withdrawals.update_one(
            {"_id": model_id}, {"$set": {"createdAt": datetime.now(UTC)}}, upsert=True
        )

    async def ids(self) -> Collection[ModelId]:
        return [found["_id"] async for found in self._database.withdrawals.find({}, {"_id": 1})]
