"""A stop while it is being stored that a provider is about to be asked."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from domain.claims import Claim
from domain.execution.run_progress import RunProgress
from domain.outputs import Run
from domain.signing import Signer
from storage.imaging.threaded import ThreadedImageProcessor
from storage.mongo.claims import MongoClaimRepository
from storage.mongo.database import Database
from storage.objects.folder import FolderObjectStore
from tests.storage.builders import a_claim, a_conversation


class SlowClaims(MongoClaimRepository):
    """The real ones, by a database that does not answer a write of the journal."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.saving = asyncio.Event()

    async def save_runs(self, _claim: Claim, _runs: Sequence[Run]) -> bool:
        self.saving.set()
        await asyncio.Event().wait()
        return True


async def test_a_provider_that_was_not_asked_before_a_stop_is_not_waited_for(
    database: Database, tmp_path: Path
) -> None:
    _, turn = await a_conversation(database)
    claims, store = (
        SlowClaims(database),
        FolderObjectStore(tmp_path, public_url="", signer=Signer(b"-")),
    )
    processor = ThreadedImageProcessor()
    progress = RunProgress(
        claims,
        await a_claim(database, turn.outputs[0].id),
        objects=store,
        image_processor=processor,
        provider="fal",
        run_count=1,
    )

    submitting = asyncio.create_task(progress.runs[0].submitting())
    await claims.saving.wait()
    submitting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await submitting

    assert not progress.answer_is_awaited
    await processor.aclose()
    await store.aclose()
