"""The unfinished outputs of all viewers, counted by model and status."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from domain.execution.rules import MAX_QUEUED
from domain.outputs import OutputStatus
from domain.ports.operators import Backlog
from storage.mongo.collections import SEARCHED_FIRST, UNFINISHED_PARENT, Document, over_all_parents
from storage.mongo.database import Database, repository
from storage.mongo.output_rules import UNFINISHED_OUTPUT, is_stuck, of_output

_MILLISECOND: Final = timedelta(milliseconds=1)
_UNFINISHED: Final[list[Document]] = [
    {"$match": {"status": UNFINISHED_PARENT}},
    {"$unwind": "$outputs"},
    {"$project": {"output": "$outputs"}},
    # What waits for a caption is in no queue.
    {"$match": {"output.status": {"$in": UNFINISHED_OUTPUT}, "output.waits": {"$ne": True}}},
]
_BACKLOGS: Final[list[Document]] = [
    *over_all_parents(_UNFINISHED),
    {
        "$group": {
            "_id": {"model": "$output.model", "status": "$output.status"},
            "count": {"$sum": 1},
            "oldest": {"$max": {"$subtract": ["$$NOW", "$output.queuedAt"]}},
            "stuck": {"$sum": {"$cond": [of_output(is_stuck(MAX_QUEUED)), 1, 0]}},
            "credits": {"$sum": "$output.creditsReserved"},
        }
    },
    {"$sort": {"_id": 1}},
]


@repository
class MongoBacklogRepository:
    """See `domain.ports.operators.BacklogRepository`. It reads what is unfinished, by an index."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._unfinished = database.collection(SEARCHED_FIRST)

    async def list_backlogs(self) -> Sequence[Backlog]:
        return [
            Backlog(
                model_id=found["_id"]["model"],
                status=OutputStatus(found["_id"]["status"]),
                count=found["count"],
                oldest=found["oldest"] * _MILLISECOND,
                stuck=found["stuck"],
                credits_reserved=found["credits"],
            )
            async for found in await self._unfinished.aggregate(_BACKLOGS)
        ]
