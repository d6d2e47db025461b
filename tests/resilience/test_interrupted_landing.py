"""A worker that is stopped during a delivery: whatever is committed keeps its bytes."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from domain.captions import CaptionModelRegistry
from domain.claims import Claim
from domain.execution.image_writer import ImageWriter
from domain.execution.model_availability import ModelAvailability
from domain.execution.runner import OutputRunner
from domain.images import ImageRecord
from domain.models import ModelRegistry
from domain.outputs import Report
from domain.signing import Signer
from providers.catalogue import load_catalogue
from providers.local.provider import LocalProvider
from storage.imaging.threaded import ThreadedImageProcessor
from storage.mongo.claims import MongoClaimRepository
from storage.mongo.database import Database
from storage.mongo.images import MongoImageRepository
from storage.mongo.model_availability import MongoModelAvailabilityRepository
from storage.objects.folder import FolderObjectStore
from tests.resilience.evidence import read_stored
from tests.storage.builders import a_conversation

PATIENCE_SECONDS = 20.0


class CommitOnItsWay(MongoClaimRepository):
    """The real claims. A commit once sent is carried out, whether or not its sender still waits."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.sent = asyncio.Event()
        self.arrives = asyncio.Event()
        self.committed: asyncio.Task[bool] | None = None

    async def land(
        self, claim: Claim, records: Sequence[ImageRecord], report: Report, *, landed: int = 0
    ) -> bool:
        landing, landed_images = super().land, tuple(records)

        async def commit() -> bool:
            self.sent.set()
            await self.arrives.wait()
            return await landing(claim, landed_images, report, landed=landed)

        self.committed = asyncio.create_task(commit())
        return await asyncio.shield(self.committed)


async def test_a_delivery_committed_after_its_worker_was_stopped_keeps_its_bytes(
    database: Database, tmp_path: Path
) -> None:
    registry: ModelRegistry = load_catalogue(rehearsals=False)
    objects = FolderObjectStore(tmp_path / "objects", public_url="", signer=Signer(b"x" * 32))
    image_processor, local = ThreadedImageProcessor(), LocalProvider(objects)
    claims = CommitOnItsWay(database)
    runner = OutputRunner(
        claims=claims,
        images=MongoImageRepository(database),
        image_writer=ImageWriter(objects),
        image_processor=image_processor,
        registry=registry,
        providers={local.name: local},
        caption_models=CaptionModelRegistry([]),
        writers={},
        availability=ModelAvailability(MongoModelAvailabilityRepository(database), registry),
    )
    _, turn = await a_conversation(database, "local-silver")
    waiting = await claims.find_waiting(turn.owner_id, turn.outputs[0].id)
    assert waiting is not None
    claimed = await runner.claim(waiting)
    assert claimed is not None
    run = asyncio.create_task(claimed.run())
    await asyncio.wait_for(claims.sent.wait(), PATIENCE_SECONDS)

    run.cancel()
    await asyncio.wait([run], timeout=PATIENCE_SECONDS)
    claims.arrives.set()
    assert claims.committed is not None
    landed = await asyncio.wait_for(claims.committed, PATIENCE_SECONDS)
    for part in (image_processor, local, objects):
        await part.aclose()

    assert run.cancelled()
    if landed:
        stored = await read_stored(database.commands, tmp_path)
        assert {record["key"] for record in stored.images} <= stored.objects.keys()
