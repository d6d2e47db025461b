"""Imports in MongoDB: what they write refers to existing images, and is deleted if they fail."""

import io
import zipfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import NoReturn

import pytest

from domain.albums import Album
from domain.conflicts import Conflict
from domain.errors import GenerationErrorCode
from domain.execution.archives import ArchiveReader
from domain.execution.export_check import CheckedExport
from domain.execution.image_imports import ImageImports
from domain.execution.importer import Importer
from domain.execution.leases import LeaseLost
from domain.ids import UploadId, import_id_of, new_album_id, new_conversation_id, new_image_id
from domain.images import ARCHIVE, ImageOrigin, new_key
from domain.import_format.facts import NotAnExport
from domain.import_format.reader import ImportedImage, ImportedManifest, ImportReader
from domain.jobs import MAX_TRIES, Import, JobClaim
from domain.outputs import GenerationError, OutputStatus
from domain.posts import Post
from domain.references import Reference, ReferenceOrigin
from domain.signing import Signer
from storage.imaging.sandbox import UploadSandbox
from storage.imaging.threaded import ThreadedImageProcessor
from storage.mongo.accounts import MongoAccountRepository
from storage.mongo.albums import MongoAlbumRepository
from storage.mongo.conversations import MongoConversationRepository
from storage.mongo.database import Database
from storage.mongo.images import MongoImageRepository
from storage.mongo.imports import MongoImportRepository
from storage.mongo.outputs import MongoOutputRepository
from storage.mongo.posts import MongoPostRepository
from storage.objects.folder import FolderObjectStore
from tests.storage.builders import (
    ANA,
    EXPIRED,
    LONG,
    MANY,
    a_conversation,
    a_gallery,
    a_picture,
    a_plan,
    a_post,
    an_account,
)
from tests.uploads import a_picture as png
from tests.waits import eventually

FAILURE = GenerationError(GenerationErrorCode.INTERNAL, retryable=True)


async def a_claim(imports: MongoImportRepository, *, lease: timedelta = LONG) -> JobClaim[Import]:
    upload_id = UploadId("upl_1")
    job = Import(
        id=import_id_of(upload_id),
        owner_id=ANA,
        upload_id=upload_id,
        key=new_key("uploads", ARCHIVE),
        created_at=datetime.now(UTC),
    )
    assert await imports.create(job, at_most=1)
    claim = await imports.claim(lease=lease)
    assert claim is not None
    return claim


@asynccontextmanager
async def an_importer(
    imports: MongoImportRepository,
    database: Database,
    folder: Path,
) -> AsyncIterator[tuple[Importer, ImageImports]]:
    async with AsyncExitStack() as stack:
        uploads, processor = UploadSandbox(), ThreadedImageProcessor()
        objects = FolderObjectStore(folder, public_url="", signer=Signer(b"x" * 32))
        for one in (uploads, processor, objects):
            stack.push_async_callback(one.aclose)
        image_imports = ImageImports(
            imports,
            MongoImageRepository(database),
            objects,
            upload_processor=uploads,
            image_marker=processor,
        )
        yield Importer(imports, image_imports, objects), image_imports


async def test_an_import_recreates_an_image_deleted_in_the_meantime(database: Database) -> None:
    """It is in the gallery as soon as it is made, and can be deleted there."""
    await an_account(database)
    images, imports = MongoImageRepository(database), MongoImportRepository(database)
    conversations, picture = MongoConversationRepository(database), a_picture()
    await a_gallery(database, picture)
    started = await conversations.start(
        ANA,
        new_conversation_id(),
        title="A boat",
        source_image=picture.image,
        plan=a_plan(references=(Reference(picture.image, ReferenceOrigin.SOURCE),)),
        max_active_outputs=MANY,
        key=None,
    )
    assert not isinstance(started, Conflict)
    conversation, turn = started
    assert await conversations.delete(ANA, conversation.id) == []
    claim = await a_claim(imports)
    assert await images.delete_unless_used(ANA, [picture.image.id]) is None

    assert not await imports.add_turns(claim, [turn])
    assert not await imports.complete(claim, [(conversation, "")], kept=LONG)

    assert await database.turns.count_documents({}) == 0
    assert await database.conversations.count_documents({}) == 0
    assert await imports.add_images(claim, [picture])
    assert await imports.add_turns(claim, [turn])
    assert await images.delete_unless_used(ANA, [picture.image.id]) is not None
    assert await imports.complete(claim, [(conversation, "")], kept=LONG)


async def test_a_takeover_deletes_what_a_failed_import_has_made(
    database: Database,
) -> None:
    """Its images stay where the viewer has used them since."""
    await an_account(database)
    imports, pictures = MongoImportRepository(database), [a_picture() for _ in range(3)]
    claim = await a_claim(imports, lease=EXPIRED)
    conversation, turn = await a_conversation(database)
    await MongoConversationRepository(database).delete(ANA, conversation.id)
    running = await a_post(database)
    post = await MongoOutputRepository(database).cancel(ANA, running.id, [0, 1])
    assert isinstance(post, Post)
    await MongoPostRepository(database).delete(ANA, post.id)
    album = Album(id=new_album_id(), title="Boats", created_at=datetime.now(UTC))
    ids = [one.image.id for one in pictures]
    own = a_picture()
    assert await imports.add_images(claim, pictures)
    assert await imports.add_turns(claim, [turn])
    assert await imports.add_posts(claim, [post])
    assert await imports.add_album(claim, album, ids[:2])
    await a_gallery(database, own)
    mine = await MongoAlbumRepository(database).create(
        ANA, new_album_id(), title="Mine", image_ids=[ids[0], own.image.id]
    )
    assert not isinstance(mine, Conflict)
    assert await imports.expect_bytes(claim, ["images/00/left.png"])

    assert await imports.give_up(claim, FAILURE)
    again = await imports.claim(lease=LONG)
    assert again is not None
    assert (again.job.failure, list(again.job.keys_left)) == (FAILURE, ["images/00/left.png"])
    assert await imports.take_back(claim, limit=2) is None  # its process is too late
    keys: list[str] = []
    while taken := await imports.take_back(again, limit=2):
        keys += taken.keys
        if taken.is_all:
            break
    assert await imports.fail(again, FAILURE, kept=LONG)

    assert keys == [key for one in pictures[1:] for key in one.image.keys]
    left = {one["_id"] async for one in database.images.find({})}
    assert left == {ids[0], own.image.id}
    for documents in (database.turns, database.posts, database.images):
        assert await documents.count_documents({"importId": claim.job.id}) == 0
    assert [one["_id"] async for one in database.albums.find({})] == [mine.id]
    assert await database.album_images.count_documents({}) == 2
    assert (await MongoAccountRepository(database).prove()).discrepancies == ()


async def test_an_import_that_ended_each_of_its_processes_is_taken_back(
    database: Database, tmp_path: Path
) -> None:
    await an_account(database)
    imports = MongoImportRepository(database)
    claim = await a_claim(imports, lease=EXPIRED)
    assert await imports.add_images(claim, [a_picture()])
    left = new_key("images", "image/png")
    (tmp_path / left).parent.mkdir(parents=True)
    (tmp_path / left).write_bytes(b"A boat")
    assert await imports.expect_bytes(claim, [left])
    await database.imports.update_one({"_id": claim.job.id}, {"$set": {"fence": MAX_TRIES}})
    async with an_importer(imports, database, tmp_path) as (importer, _):

        async def has_failed() -> bool:
            job = (await imports.get_many(ANA, [claim.job.id]))[claim.job.id]
            return job.status is OutputStatus.FAILED

        async with importer.serve():
            await eventually(has_failed, what="the import fails")

    assert await database.images.count_documents({}) == 0
    assert not (tmp_path / left).exists()


async def test_an_import_is_held_for_as_long_as_its_check_takes(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await an_account(database)
    imports = MongoImportRepository(database)
    claim = await a_claim(imports, lease=EXPIRED)

    async def size(*_: object) -> int:
        return 1

    async def check(*_: object, **__: object) -> NoReturn:
        async def is_held() -> bool:
            held = {"$expr": {"$gt": ["$leaseUntil", "$$NOW"]}}
            return await database.imports.find_one(held) is not None

        await eventually(is_held, what="the lease is renewed")
        raise NotAnExport("It is none.")

    monkeypatch.setattr("domain.execution.jobs._RENEW_SECONDS", 0.01)
    monkeypatch.setattr("domain.execution.importer.check_export", check)
    monkeypatch.setattr(FolderObjectStore, "get_size", size)
    async with an_importer(imports, database, tmp_path) as (importer, _):
        await importer.run(claim)

    job = (await imports.get_many(ANA, [claim.job.id]))[claim.job.id]
    assert job.error == GenerationError(GenerationErrorCode.EXPORT_INVALID, retryable=False)


@pytest.mark.parametrize("is_lost", [False, True])
async def test_a_lease_is_renewed_while_images_are_written_and_nothing_is_left_if_it_is_lost(
    database: Database, tmp_path: Path, is_lost: bool
) -> None:
    await an_account(database)
    imports, renewals = MongoImportRepository(database), 0
    claim = await a_claim(imports)

    async def renew(_: float) -> None:
        nonlocal renewals
        being_written = {"keysLeft": {"$exists": True}}
        if await database.imports.find_one(being_written) is not None:
            renewals += 1
            if is_lost:
                raise LeaseLost

    async with an_importer(imports, database, tmp_path) as (_, images):
        with pytest.raises(LeaseLost) if is_lost else nullcontext():
            await images.make(claim, an_export_with_one_image(claim), renew=renew)

    assert renewals == 1
    assert await database.images.count_documents({}) == (0 if is_lost else 1)
    assert has_pictures(tmp_path) is not is_lost


def has_pictures(folder: Path) -> bool:
    return any(folder.rglob("*.png"))


def an_export_with_one_image(claim: JobClaim[Import]) -> CheckedExport:
    data, file, image_id = png(), io.BytesIO(), new_image_id()
    name = f"images/{image_id}.png"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, data)
    written = file.getvalue()
    image = ImportedImage(
        id=image_id,
        file=name,
        sha256=sha256(data).hexdigest(),
        origin=ImageOrigin.UPLOAD,
        model_id=None,
        seed=None,
        output_id=None,
        source=None,
        prompt=None,
        made_from=(),
        favourite=False,
        created_at=datetime.now(UTC),
    )
    return CheckedExport(
        ArchiveReader(lambda start, count: written[start : start + count], len(written)),
        ImportReader(claim.job.id, ANA),
        ImportedManifest(conversations=(), image_parts=(), post_parts=(), album_parts=()),
        {image.id: image},
    )
