"""The storage on a replica set whose primary changes, or cannot reach the other members."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pymongo
import pytest

from domain.claims import Claim
from domain.errors import Overloaded
from domain.ids import ViewerId, new_conversation_id
from domain.images import ImageRecord
from domain.outputs import Report
from storage.mongo.claims import MongoClaimRepository
from storage.mongo.conversations import MongoConversationRepository
from storage.mongo.database import Database, open_database
from tests.resilience.evidence import read_stored
from tests.resilience.local_runs import claim_local_output
from tests.resilience.replica_set import Member, ReplicaSet, open_replica_set
from tests.tools import need_mongod
from tests.waits import PATIENCE_SECONDS

STEP_DOWNS = 5
CALLS_AT_ONCE = 60
CONFIRMED_SECONDS = 0.7
AWAY_SECONDS = 1.5
ELECTION_SECONDS = 15.0
"""Long enough that the primary stays primary while the others are unavailable."""


@pytest.fixture(scope="module")
async def replica_set(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ReplicaSet]:
    folder = tmp_path_factory.mktemp("set")
    async with open_replica_set(
        folder, binary=need_mongod(), election_seconds=ELECTION_SECONDS
    ) as opened:
        yield opened


@pytest.fixture
async def replicated(replica_set: ReplicaSet) -> AsyncIterator[Database]:
    await replica_set.repair()
    async with open_database(replica_set.uri, "replicated") as database:
        yield database


async def test_a_call_during_a_stepdown_succeeds_or_is_refused_as_overloaded(
    replica_set: ReplicaSet, replicated: Database
) -> None:
    conversations = MongoConversationRepository(replicated)
    viewer_id, conversation_id = ViewerId("user_nobody"), new_conversation_id()

    async def many_calls() -> list[object]:
        call = conversations.get_many
        calls = [call(viewer_id, [conversation_id]) for _ in range(CALLS_AT_ONCE)]
        return await asyncio.gather(*calls, return_exceptions=True)

    meanwhile: list[object] = []
    afterwards: list[object] = []
    for _ in range(STEP_DOWNS):
        stepping_down = asyncio.create_task(replica_set.step_down())
        meanwhile += await many_calls()
        await stepping_down
        await replica_set.until_healthy()
        # Some member is the primary again: no connection to it has been spoilt.
        afterwards += await many_calls()

    assert [one for one in meanwhile if one != {} and not isinstance(one, Overloaded)] == []
    assert [one for one in afterwards if one != {}] == []


async def test_a_new_primary_is_read_once_it_has_caught_up(
    replica_set: ReplicaSet, replicated: Database
) -> None:
    conversations = MongoConversationRepository(replicated)

    async def read() -> None:
        await conversations.get_many(ViewerId("user_nobody"), [new_conversation_id()])

    await read()
    await replica_set.step_down()
    await replica_set.until_healthy()
    primary = await replica_set.until_primary()
    others = [member for member in replica_set.members if member is not primary]

    # A majority has to follow the new primary before the first read, and not afterwards.
    await asyncio.gather(*(member.freeze() for member in others))
    first = asyncio.create_task(read())
    await asyncio.wait([first], timeout=AWAY_SECONDS)
    assert not first.done()
    await asyncio.gather(*(member.thaw() for member in others))
    await asyncio.wait_for(first, PATIENCE_SECONDS)

    await asyncio.gather(*(member.freeze() for member in others))
    await asyncio.wait_for(read(), PATIENCE_SECONDS)


class ConfirmedLate(MongoClaimRepository):
    """The real claims. The commit of the first delivery is not confirmed in time."""

    def __init__(self, database: Database, others: Sequence[Member]) -> None:
        super().__init__(database)
        self._others = others
        self.returned: asyncio.Task[None] | None = None

    async def land(
        self, claim: Claim, records: Sequence[ImageRecord], report: Report, *, landed: int = 0
    ) -> bool:
        if self.returned is not None:
            return await super().land(claim, records, report, landed=landed)
        await asyncio.gather(*(member.freeze() for member in self._others))
        self.returned = asyncio.create_task(self._return())
        with pymongo.timeout(CONFIRMED_SECONDS):
            return await super().land(claim, records, report, landed=landed)

    async def _return(self) -> None:
        await asyncio.sleep(AWAY_SECONDS)
        await asyncio.gather(*(member.thaw() for member in self._others))


async def test_a_delivery_that_is_confirmed_late_keeps_its_bytes(
    replica_set: ReplicaSet, replicated: Database, tmp_path: Path
) -> None:
    primary = await replica_set.until_primary()
    others = [member for member in replica_set.members if member is not primary]
    claims = ConfirmedLate(replicated, others)
    async with claim_local_output(replicated, claims, tmp_path) as claimed:
        await asyncio.wait_for(claimed.run(), PATIENCE_SECONDS)
        assert claims.returned is not None
        await claims.returned
        await replica_set.until_healthy()

    stored = await read_stored(replicated.commands, tmp_path)
    assert [record["origin"] for record in stored.images] == ["OUTPUT"]
    assert {record["key"] for record in stored.images} <= stored.objects.keys()
