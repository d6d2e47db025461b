"""A run of a local model in the test's own process, on claims that misbehave."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from domain.captions import CaptionModelRegistry
from domain.execution.image_writer import ImageWriter
from domain.execution.model_availability import ModelAvailability
from domain.execution.runner import OutputRun, OutputRunner
from domain.signing import Signer
from providers.catalogue import load_catalogue
from providers.local.provider import LocalProvider
from storage.imaging.threaded import ThreadedImageProcessor
from storage.mongo.claims import MongoClaimRepository
from storage.mongo.database import Database
from storage.mongo.images import MongoImageRepository
from storage.mongo.model_availability import MongoModelAvailabilityRepository
from storage.objects.folder import FolderObjectStore
from tests.storage.builders import a_conversation


@asynccontextmanager
async def claim_local_output(
    database: Database, claims: MongoClaimRepository, folder: Path
) -> AsyncIterator[OutputRun]:
    """Claim the output of a new conversation; its run ends with the block."""
    objects = FolderObjectStore(folder / "objects", public_url="", signer=Signer(b"x" * 32))
    image_processor, local = ThreadedImageProcessor(), LocalProvider(objects)
    registry = load_catalogue(rehearsals=False)
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
    run = await runner.claim(waiting)
    assert run is not None
    try:
        yield run
    finally:
        for part in (image_processor, local, objects):
            await part.aclose()
