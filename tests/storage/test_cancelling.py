"""The jobs of a cancelled output, where its provider or the database is slow."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from domain.captions import CaptionModelRegistry
from domain.claims import Claim
from domain.errors import Overloaded
from domain.execution import image_runs
from domain.execution.image_writer import ImageWriter
from domain.execution.model_availability import ModelAvailability
from domain.execution.runner import OutputRunner
from domain.generation import Delivery, GenerationRequest
from domain.models import ModelRegistry
from domain.outputs import ProviderJob
from domain.ports.providers import RunObserver
from domain.retries import RetryPolicy
from domain.signing import Signer
from storage.imaging.threaded import ThreadedImageProcessor
from storage.mongo.claims import MongoClaimRepository
from storage.mongo.database import Database
from storage.mongo.images import MongoImageRepository
from storage.mongo.model_availability import MongoModelAvailabilityRepository
from storage.mongo.outputs import MongoOutputRepository
from storage.objects.folder import FolderObjectStore
from tests.storage.builders import ANA, a_conversation, a_model, as_stored
from tests.waits import PATIENCE_SECONDS, eventually

QUICK = RetryPolicy(first_pause_seconds=0.01, longest_pause_seconds=0.01)


class Accepts:
    """A provider that accepts each of two jobs when it may, and finishes none."""

    name = "local"
    max_concurrent_runs = 1

    def __init__(self, *, silent: int = 0) -> None:
        """`silent`: how many cancellations of a job it does not answer."""
        self.may_accept = asyncio.Event(), asyncio.Event()
        self.asked: set[int] = set()
        self.ended: set[int] = set()
        self.cancelled: list[str] = []
        self._silent = silent

    async def generate(self, request: GenerationRequest, observer: RunObserver) -> Delivery:
        try:
            await observer.submitting()
            self.asked.add(request.run)
            await self.may_accept[request.run].wait()
            await observer.submitted({"id": str(request.run)})
            await asyncio.Event().wait()
            raise AssertionError
        finally:
            self.ended.add(request.run)

    async def cancel(self, job: ProviderJob) -> bool:
        self.cancelled.append(job["id"])
        return self.cancelled.count(job["id"]) > self._silent


class AwayForAMoment(MongoClaimRepository):
    """A database that cannot be asked at first whether the output is still wanted."""

    failures = 2

    async def is_abandoned(self, claim: Claim) -> bool:
        self.failures -= 1
        if self.failures >= 0:
            raise Overloaded
        return await super().is_abandoned(claim)


@pytest.fixture
async def run_and_cancel(database: Database, tmp_path: Path) -> AsyncIterator["RunAndCancel"]:
    objects = FolderObjectStore(tmp_path, public_url="", signer=Signer(b"x" * 32))
    processor = ThreadedImageProcessor()
    yield RunAndCancel(database, objects, processor)
    await processor.aclose()
    await objects.aclose()


class RunAndCancel:
    """Runs an output of two jobs, which is cancelled before the provider has accepted either."""

    def __init__(
        self, database: Database, objects: FolderObjectStore, processor: ThreadedImageProcessor
    ) -> None:
        self._database = database
        self._objects = objects
        self._processor = processor

    def runner(self, provider: Accepts, claims: MongoClaimRepository) -> OutputRunner:
        registry = ModelRegistry([replace(a_model(), max_images=2, images_per_run=1)])
        return OutputRunner(
            claims=claims,
            images=MongoImageRepository(self._database),
            image_writer=ImageWriter(self._objects),
            image_processor=self._processor,
            registry=registry,
            providers={provider.name: provider},
            caption_models=CaptionModelRegistry([]),
            writers={},
            availability=ModelAvailability(
                MongoModelAvailabilityRepository(self._database), registry
            ),
        )

    async def __call__(self, provider: Accepts, claims: MongoClaimRepository | None = None) -> None:
        _, turn = await a_conversation(self._database, "model", images_per_model=2)
        (output,) = turn.outputs
        runner = self.runner(provider, claims or MongoClaimRepository(self._database))
        run = await runner.claim(await as_stored(self._database, output.id))
        assert run is not None
        running = asyncio.create_task(run.run())
        await eventually(lambda: provider.asked == {0, 1}, what="both are being submitted")
        outputs = MongoOutputRepository(self._database)
        assert await outputs.cancel(ANA, turn.id, [output.slot]) is not None

        provider.may_accept[0].set()
        await eventually(lambda: 0 in provider.ended, what="the first run notices")
        provider.may_accept[1].set()
        await asyncio.wait_for(running, PATIENCE_SECONDS)


async def test_a_job_that_is_accepted_after_another_has_noticed_is_cancelled_too(
    run_and_cancel: RunAndCancel,
) -> None:
    provider = Accepts()

    await run_and_cancel(provider)

    assert sorted(provider.cancelled) == ["0", "1"]


async def test_a_provider_that_does_not_answer_a_cancellation_is_asked_again(
    run_and_cancel: RunAndCancel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_runs, "_CANCEL_RETRIES", QUICK)
    provider = Accepts(silent=2)

    await run_and_cancel(provider)

    assert sorted(provider.cancelled) == ["0"] * 3 + ["1"] * 3


async def test_jobs_are_cancelled_even_if_the_database_is_away_for_a_moment(
    run_and_cancel: RunAndCancel, database: Database
) -> None:
    provider = Accepts()

    await run_and_cancel(provider, AwayForAMoment(database))

    assert sorted(provider.cancelled) == ["0", "1"]
