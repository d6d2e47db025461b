"""Previews that arrive too late."""

from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image as Pictures

from domain.execution.leases import LeaseLost
from domain.execution.run_progress import RunProgress
from domain.signing import Signer
from storage.imaging.threaded import ThreadedImageProcessor
from storage.mongo.claims import MongoClaimRepository
from storage.mongo.conversations import MongoConversationRepository
from storage.mongo.database import Database
from storage.objects.folder import FolderObjectStore
from tests.storage.builders import ANA, a_claim, a_conversation


@pytest.fixture
async def processor() -> AsyncIterator[ThreadedImageProcessor]:
    processor = ThreadedImageProcessor()
    yield processor
    await processor.aclose()


async def test_a_preview_that_arrives_after_the_deletion_is_deleted(
    database: Database, processor: ThreadedImageProcessor, tmp_path: Path
) -> None:
    store = FolderObjectStore(tmp_path, public_url="", signer=Signer(b"-"))
    conversation, turn = await a_conversation(database)
    claims = MongoClaimRepository(database)
    claim = await a_claim(database, turn.outputs[0].id)
    reporter = RunProgress(
        claims, claim, objects=store, image_processor=processor, provider="local", run_count=1
    )
    data = BytesIO()
    Pictures.new("RGB", (64, 64)).save(data, "PNG")
    await reporter.show_preview(data.getvalue())
    (shown,) = reporter.shown_previews

    deleted = await MongoConversationRepository(database).delete(ANA, conversation.id)
    with pytest.raises(LeaseLost):
        await reporter.show_preview(data.getvalue())

    assert deleted == [shown]
    (late,) = reporter.old_previews
    assert late != shown
    assert await store.get_size(late) > 0
    assert reporter.shown_previews == [shown]
    await store.aclose()
