"""The storage on a replica set whose primary changes, or cannot reach the other members."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pymongo
import pytest

from domain.captions import CaptionModelRegistry
from domain.claims import Claim
from domain.errors import Overloaded
from domain.execution.image_writer import ImageWriter
from domain.execution.model_availability import ModelAvailability
from domain.execution.runner import OutputRunner
from domain.ids import ViewerId, new_conversation_id
from domain.images import ImageRecord
from domain.outputs import Report
from domain.signing import Signer
from providers.catalogue import load_catalogue
from providers.local.provider import LocalProvider
from storage.imaging.threaded import ThreadedImageProcessor
from storage.mongo.claims import MongoClaimRepository
from storage.mongo.conversations import MongoConversationRepository
from storage.mongo.database import Database, open_database
from storage.mongo.images import MongoImageRepository
from storage.mongo.model_availability import MongoModelAvailabilityRepository
from storage.objects.folder import FolderObjectStore
from tests.resilience.evidence import read_stored
from tests.resilience.replica_set import Member, ReplicaSet, open_replica_set
from tests.storage.builders import a_conversation
from tests.tools import need_mongod

PATIENCE_SECONDS = 30.0
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
    objects = FolderObjectStore(tmp_path / "objects", public_url="", signer=Signer(b"x" * 32))
    image_processor, local = ThreadedImageProcessor(), LocalProvider(objects)
    claims = ConfirmedLate(replicated, others)
    registry = load_catalogue(rehearsals=False)
    runner = OutputRunner(
        claims=claims,
        images=MongoImageRepository(replicated),
        image_writer=ImageWriter(objects),
        image_processor=image_processor,
        registry=registry,
        providers={local.name: local},
        caption_models=CaptionModelRegistry([]),
        writers={},
        availability=ModelAvailability(MongoModelAvailabilityRepository(replicated), registry),
    )
    _, turn = await a_conversation(replicated, "local-silver")
    waiting = await claims.find_waiting(turn.owner_id, turn.outputs[0].id)
    assert waiting is not None
    claimed = await runner.claim(waiting)
    assert claimed is not None

    await asyncio.wait_for(claimed.run(), PATIENCE_SECONDS)
    assert claims.returned is not None
    await claims.returned
    await replica_set.until_healthy()
    for part in (image_processor, local, objects):
        await part.aclose()

    stored = await read_stored(replicated.commands, tmp_path)
    assert [record["origin"] for record in stored.images] == ["OUTPUT"]
    assert {record["key"] for record in stored.images} <= stored.objects.keys()
