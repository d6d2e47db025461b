"""The unfinished outputs of all viewers, counted by model and status."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from domain.ids import ViewerId, output_id_of
from domain.outputs import OutputStatus
from domain.ports.operators import Backlog, StuckOutput
from domain.rules import MAX_QUEUED
from storage.mongo.collections import SEARCHED_FIRST, UNFINISHED_PARENT, Document, over_all_parents
from storage.mongo.database import Database, repository
from storage.mongo.output_rules import UNFINISHED_OUTPUT, is_stuck, of_output

_MILLISECOND: Final = timedelta(milliseconds=1)
_UNFINISHED: Final[list[Document]] = [
    {"$match": {"status": UNFINISHED_PARENT}},
    {"$project": {"ownerId": 1, "output": "$outputs"}},
    {"$unwind": "$output"},
    # What waits for a caption is in no queue.
    {"$match": {"output.status": {"$in": UNFINISHED_OUTPUT}, "output.waits": {"$ne": True}}},
]
_IS_STUCK: Final = of_output(is_stuck(MAX_QUEUED))
_BACKLOGS: Final[list[Document]] = [
    *over_all_parents(_UNFINISHED),
    {
        "$group": {
            "_id": {"model": "$output.model", "status": "$output.status"},
            "count": {"$sum": 1},
            "oldest": {"$max": {"$subtract": ["$$NOW", "$output.queuedAt"]}},
            "stuck": {"$sum": {"$cond": [_IS_STUCK, 1, 0]}},
            "credits": {"$sum": "$output.creditsReserved"},
        }
    },
    {"$sort": {"_id": 1}},
]
_STUCK: Final[list[Document]] = [
    *over_all_parents(_UNFINISHED),
    {"$match": {"$expr": _IS_STUCK}},
    {"$sort": {"output.queuedAt": 1}},
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
                model_id=document["_id"]["model"],
                status=OutputStatus(document["_id"]["status"]),
                count=document["count"],
                oldest=document["oldest"] * _MILLISECOND,
                stuck=document["stuck"],
                credits_reserved=document["credits"],
            )
            async for document in await self._unfinished.aggregate(_BACKLOGS)
        ]

    async def list_stuck(self, *, limit: int) -> Sequence[StuckOutput]:
        return [
            StuckOutput(
                output_id=output_id_of(document["_id"], document["output"]["slot"]),
                viewer_id=document["ownerId"],
                model_id=document["output"]["model"],
                status=OutputStatus(document["output"]["status"]),
                queued_at=document["output"]["queuedAt"],
                lease_until=document["output"].get("leaseUntil"),
            )
            async for document in await self._unfinished.aggregate([*_STUCK, {"$limit": limit}])
        ]

    async def list_deletions(self, *, limit: int) -> Sequence[ViewerId]:
        begun = {"erasure.leaseUntil": {"$exists": True}}
        cursor = self._database.accounts.find(begun, {"_id": 1}).limit(limit)
        return [document["_id"] async for document in cursor]
