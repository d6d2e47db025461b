"""Models that are withdrawn from providers, for as long as their documents live, and names that are
switched off. Their times are the database's, as those of the outputs that they are compared with.

The document of a switch has no `createdAt`, so it does not expire. A document of the previous
release with neither is that of a model that it has withdrawn from all of its providers; it is
ignored.
"""

from typing import Final

from domain.ids import ModelId
from domain.ports.model_availability import SwitchedOff, Unavailable
from domain.registry import Withdrawal
from storage.mongo.collections import Document
from storage.mongo.database import Database, repository

_OFF: Final = "off "
"""The beginning of the id of a switch, before the name."""


@repository
class MongoModelAvailabilityRepository:
    """See `domain.ports.model_availability.ModelAvailabilityRepository`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def withdraw(self, model_id: ModelId, provider: str) -> None:
        # The first time stays: it tells which outputs were planned with another provider.
        since = {"$ifNull": ["$createdAt", "$$NOW"]}
        fields = {"model": _value(model_id), "provider": _value(provider), "createdAt": since}
        await self._database.withdrawals.update_one(
            {"_id": f"{model_id} {provider}"}, [{"$set": fields}], upsert=True
        )

    async def find_unavailable(self) -> Unavailable:
        documents = await self._database.withdrawals.find({}).to_list()
        return Unavailable(
            withdrawn=[
                Withdrawal(document["model"], document["provider"], document["createdAt"])
                for document in documents
                if "provider" in document
            ],
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
            [{"$set": {"reason": _value(reason), "offSince": {"$ifNull": ["$offSince", "$$NOW"]}}}],
            upsert=True,
        )

    async def switch_on(self, name: str) -> bool:
        named = [{"_id": _OFF + name}, {"model": name}, {"provider": name}]
        deleted = await self._database.withdrawals.delete_many({"$or": named})
        return deleted.deleted_count > 0


def _value(text: str) -> Document:
    """The text as a value: of an expression it could be the name of a field."""
    return {"$literal": text}
