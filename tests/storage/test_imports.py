"""Imports in MongoDB: what they write refers to no image that is not there."""

from datetime import UTC, datetime

from domain.conflicts import Conflict
from domain.ids import UploadId, import_id_of, new_conversation_id
from domain.jobs import MAX_TRIES, Import, JobClaim
from domain.references import Reference, ReferenceOrigin
from storage.mongo.conversations import MongoConversationRepository
from storage.mongo.database import Database
from storage.mongo.images import MongoImageRepository
from storage.mongo.jobs import MongoImportRepository
from tests.storage.builders import ANA, LONG, MANY, a_gallery, a_picture, a_plan, an_account


async def a_claim(imports: MongoImportRepository) -> JobClaim[Import]:
    upload_id = UploadId("upl_1")
    job = Import(
        id=import_id_of(upload_id),
        owner_id=ANA,
        upload_id=upload_id,
        key="uploads/00/1.zip",
        created_at=datetime.now(UTC),
    )
    assert await imports.create(job, at_most=1)
    claim = await imports.claim(lease=LONG, max_tries=MAX_TRIES)
    assert claim is not None
    return claim


async def test_an_image_that_was_deleted_meanwhile_is_made_again(database: Database) -> None:
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
