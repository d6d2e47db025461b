"""Models that are withdrawn, for as long as their documents live, and names that are switched off.

The document of a switch has no `createdAt`, so it does not expire.
"""

from datetime import UTC, datetime
from typing import Final

from domain.ids import ModelId
from domain.ports.execution import SwitchedOff, Unavailable
from storage.mongo.database import Database, repository

_OFF: Final = "off "
"""The beginning of the id of a switch, before the name."""


@repository
class MongoModelAvailabilityRepository:
    """See `domain.ports.execution.ModelAvailabilityRepository`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def withdraw(self, model_id: ModelId) -> None:
        await self._database.withdrawals.update_one(
            {"_id": model_id}, {"$set": {"createdAt": datetime.now(UTC)}}, upsert=True
        )

    async def find_unavailable(self) -> Unavailable:
        documents = await self._database.withdrawals.find({}).to_list()
        return Unavailable(
            withdrawn=[document["_id"] for document in documents if "offSince" not in document],
            off=[
                SwitchedOff(
                    name=document["_id"].removeprefix(_OFF),
                    reason=document["reason"],
                    since=document["offSince"],
                )
                for document in documents
                if "offSince" in document
            ],
        )

    async def switch_off(self, name: str, *, reason: str) -> None:
        await self._database.withdrawals.update_one(
            {"_id": _OFF + name},
            {"$set": {"reason": reason}, "$setOnInsert": {"offSince": datetime.now(UTC)}},
            upsert=True,
        )

    async def switch_on(self, name: str) -> bool:
        ids = [name, _OFF + name]
        deleted = await self._database.withdrawals.delete_many({"_id": {"$in": ids}})
        return deleted.deleted_count > 0
