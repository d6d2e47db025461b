"""What becomes of an image's bytes where the write of its record meets a busy database."""

# ruff: noqa: ARG002 - observers and repositories here ignore what they are given

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from contextvars import Context
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image as Pictures

from domain.claims import Claim
from domain.errors import NotBegun, Overloaded
from domain.execution.clock import Clock
from domain.execution.image_writer import ImageWriter
from domain.execution.landing import Landing
from domain.execution.leases import LeaseLost
from domain.execution.run_progress import RunProgress
from domain.generation import DeliveredImage, Delivery
from domain.images import ImageRecord
from domain.outputs import Report
from domain.ports.observers import Unobserved
from domain.signing import Signer
from domain.waiting import limit_calls_until
from storage.imaging.threaded import ThreadedImageProcessor
from storage.mongo.claims import MongoClaimRepository
from storage.mongo.conversations import MongoConversationRepository
from storage.mongo.database import Database, open_database
from storage.mongo.images import MongoImageRepository
from storage.mongo.transaction import Transaction
from storage.objects.folder import FolderObjectStore
from tests.conftest import a_database_name
from tests.storage.builders import ANA, a_claim, a_conversation
from tests.waits import eventually

LITTLE_SECONDS = 2.1
"""Enough to begin a transaction, but not to wait for another one of the same account."""


class Failures(Unobserved):
    """The failures of all calls."""

    def __init__(self) -> None:
        self.seen: list[BaseException] = []

    def call_ended(self, repository: str, seconds: float, failure: BaseException | None) -> None:
        if failure is not None:
            self.seen.append(failure)


class SaysNothing(MongoClaimRepository):
    """Its first write gets no answer."""

    asked = 0

    async def land(
        self, claim: Claim, records: Sequence[ImageRecord], report: Report, *, landed: int = 0
    ) -> bool:
        self.asked += 1
        if self.asked == 1:
            raise Overloaded
        return await super().land(claim, records, report, landed=landed)


@pytest.fixture
async def processor() -> AsyncIterator[ThreadedImageProcessor]:
    processor = ThreadedImageProcessor()
    yield processor
    await processor.aclose()


@pytest.fixture
async def objects(tmp_path: Path) -> AsyncIterator[FolderObjectStore]:
    objects = FolderObjectStore(tmp_path, public_url="", signer=Signer(b"x" * 32))
    yield objects
    await objects.aclose()


@asynccontextmanager
async def busy(database: Database) -> AsyncIterator[None]:
    """A transaction of the account is under way until the block ends."""
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def work(transaction: Transaction) -> None:
        await transaction.turns.find_one({"ownerId": ANA})
        begun.set()
        await may_end.wait()

    transaction = asyncio.create_task(database.transact(work, account=ANA))
    await begun.wait()
    try:
        yield
    finally:
        may_end.set()
        await transaction


async def stored(
    claims: MongoClaimRepository,
    claim: Claim,
    *,
    database: Database,
    objects: FolderObjectStore,
    processor: ThreadedImageProcessor,
) -> Landing:
    """One image of the claim, stored."""
    progress = RunProgress(
        claims, claim, objects=objects, image_processor=processor, provider="local", run_count=1
    )
    landing = Landing(
        claim=claim,
        claims=claims,
        images=MongoImageRepository(database),
        image_writer=ImageWriter(objects),
        image_processor=processor,
        progress=progress,
        clock=Clock(claim),
    )
    picture = BytesIO()
    Pictures.new("RGB", (64, 64)).save(picture, "PNG")
    await landing.store(Delivery(images=(DeliveredImage(picture.getvalue()),)))
    return landing


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_bytes_whose_write_was_never_begun_are_deleted_with_the_conversation(
    mongodb_uri: str, objects: FolderObjectStore, processor: ThreadedImageProcessor, tmp_path: Path
) -> None:
    """The write waits for another transaction for too long: it cannot have been committed."""
    failures = Failures()
    async with (
        a_database_name(mongodb_uri) as name,
        open_database(mongodb_uri, name, observer=failures) as database,
    ):
        conversation, turn = await a_conversation(database)
        claim = await a_claim(database, turn.outputs[0].id)
        landing = await stored(
            MongoClaimRepository(database),
            claim,
            database=database,
            objects=objects,
            processor=processor,
        )
        ends_at = asyncio.get_running_loop().time() + LITTLE_SECONDS
        # No write begins in this block. After it, they have as much time as usual.
        with limit_calls_until(ends_at):
            async with busy(database):
                writing = asyncio.create_task(landing.land(Report()))
                await eventually(lambda: bool(failures.seen), what="the write gives up")
            deletion = MongoConversationRepository(database).delete(ANA, conversation.id)
            await asyncio.create_task(deletion, context=Context())

        with pytest.raises(LeaseLost):
            await writing
        assert files(tmp_path)
        await landing.delete_unused_bytes()

    assert {type(failure) for failure in failures.seen} == {NotBegun}
    assert files(tmp_path) == []


async def test_bytes_whose_write_may_have_been_committed_are_left_to_orphan_collection(
    database: Database,
    objects: FolderObjectStore,
    processor: ThreadedImageProcessor,
    tmp_path: Path,
) -> None:
    conversation, turn = await a_conversation(database)
    claim = await a_claim(database, turn.outputs[0].id)
    landing = await stored(
        SaysNothing(database), claim, database=database, objects=objects, processor=processor
    )
    await MongoConversationRepository(database).delete(ANA, conversation.id)

    with pytest.raises(LeaseLost):
        await landing.land(Report())
    await landing.delete_unused_bytes()

    assert files(tmp_path)
