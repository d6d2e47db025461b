"""The report of commands that go to all shards; see `shard_keys.py`."""

import pytest

from storage.mongo.collections import COLLECTIONS, Document
from storage.mongo.database import Database, repository
from tests.shard_keys import SHARD_KEYS, ShardKeys

NOT_SHARDED = {"chores", "stores", "withdrawals", "documents", "permits"}


@repository
class CarelessRepository:
    """Queries all shards for what one of them has."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self) -> None:
        await self._database.turns.find_one({"_id": "turn_x"})

    async def count(self) -> None:
        owners = {"ownerId": {"$in": ["a", "b"]}}
        stages: list[Document] = [{"$match": {"_id": "turn_x"}}, {"$match": owners}]
        await (await self._database.turns.aggregate(stages)).to_list()

    async def find_own(self) -> None:
        await self._database.turns.find_one({"_id": "turn_x", "ownerId": "a"})


async def test_a_command_without_the_owner_is_reported(
    database: Database, shard_keys: ShardKeys
) -> None:
    careless = CarelessRepository(database)

    await careless.find_own()
    assert shard_keys.violations == []

    await careless.find()
    await careless.count()
    found, shard_keys.violations = shard_keys.violations, []
    stages = "{$and: [{_id: …}, {ownerId: {$in: […, …]}}]}"
    assert found == [
        "CarelessRepository.find: find in turns: {_id: …}",
        f"CarelessRepository.count: aggregate in turns: {stages}",
    ]


@pytest.mark.parametrize("name", COLLECTIONS)
def test_every_collection_is_declared_as_sharded_or_not(name: str) -> None:
    assert (name in SHARD_KEYS) != (name in NOT_SHARDED)
