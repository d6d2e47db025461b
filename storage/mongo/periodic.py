"""Periodic jobs: which process does one next, by the database's clock.

The document of a job is made by the first process that asks for it. To ask for one that is not due
writes nothing.
"""

import secrets
from datetime import UTC, datetime, timedelta
from typing import Final

from pymongo import ReturnDocument

from domain.ports.cleanup import PeriodicJob
from storage.mongo.collections import Document
from storage.mongo.database import Database, repository
from storage.mongo.output_rules import from_now

_CLOCKS_DIFFER: Final = timedelta(minutes=1)
_DUE: Final[Document] = {"$lte": ["$notBefore", "$$NOW"]}
"""Missing sorts before every date, so that a new one is due."""


@repository
class MongoPeriodicJobRepository:
    """See `domain.ports.PeriodicJobRepository`."""

    def __init__(self, database: Database) -> None:
        self._chores = database.periodic_jobs
        self._database = database

    async def begin(self, name: str, *, every: timedelta) -> PeriodicJob | None:
        ours = secrets.token_hex(8)
        begun: Document = {
            "times": {"$add": [{"$ifNull": ["$times", -1]}, 1]},
            "begunBy": ours,
            "begunAt": "$$NOW",
            "notBefore": from_now(every),
        }
        found = await self._chores.find_one_and_update(
            {"_id": name},
            [
                {
                    "$set": {
                        field: {"$cond": [_DUE, value, f"${field}"]}
                        for field, value in begun.items()
                    }
                }
            ],
            upsert=True,
            return_document=ReturnDocument.AFTER,
        )
        assert found is not None
        return PeriodicJob(found["times"], found["begunAt"]) if found["begunBy"] == ours else None


def surely_over() -> datetime:
    """What ends before has ended by the clock of every process."""
    return datetime.now(UTC) - _CLOCKS_DIFFER
