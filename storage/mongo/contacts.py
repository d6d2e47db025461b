"""When any process last reached the database: the evidence that live workers could renew leases."""

from datetime import timedelta
from typing import Final

from pymongo import ReturnDocument

from storage.mongo.collections import Document
from storage.mongo.database import Database, repository

_ID: Final = "contact"
_SINCE_LAST: Final[Document] = {"$subtract": ["$$NOW", "$at"]}
"""In milliseconds."""


@repository
class MongoContactRepository:
    """See `domain.ports.execution.ContactRepository`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def note(self, *, longest_gap: timedelta) -> timedelta:
        milliseconds = round(longest_gap.total_seconds() * 1000)
        # Missing sorts before every date: without a last time, there is a gap.
        is_unbroken = {"$and": [{"$gt": ["$at", None]}, {"$lte": [_SINCE_LAST, milliseconds]}]}
        document = await self._database.periodic_jobs.find_one_and_update(
            {"_id": _ID},
            [
                {"$set": {"since": {"$cond": [is_unbroken, "$since", "$$NOW"]}}},
                {"$set": {"at": "$$NOW"}},
            ],
            upsert=True,
            return_document=ReturnDocument.AFTER,
        )
        assert document is not None, "It is made where there is none."
        # A clock that was set back gives a negative time.
        noted: timedelta = document["at"] - document["since"]
        return max(noted, timedelta(0))
