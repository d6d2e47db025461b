"""Images in MongoDB: pages from an index, favourites, and deletion that never damages a turn."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from domain.conflicts import Conflict
from domain.ids import ImageId, new_image_id, viewer_id_of
from domain.images import Image, ImageRecord
from domain.outputs import Report
from domain.pages import PageRequest
from domain.references import Reference, ReferenceOrigin
from domain.turns import Turn
from storage.mongo.claims import MongoClaimRepository
from storage.mongo.conversations import MongoConversationRepository
from storage.mongo.database import Database
from storage.mongo.images import MongoImageRepository
from storage.mongo.turns import MongoTurnRepository
from tests.storage.builders import (
    ANA,
    a_claim,
    a_conversation,
    a_gallery,
    a_picture,
    a_plan,
    another_turn,
)
from tests.storage.plans import profiled

BOB = viewer_id_of("tests", "bob")


@pytest.fixture
def images(database: Database) -> MongoImageRepository:
    return MongoImageRepository(database)


async def many_pictures(database: Database, count: int) -> list[ImageId]:
    """Pictures of Ana's with Bob's between them, newest first; three come at the same instant."""
    records = [a_picture() for _ in range(count)]
    records = [
        replace(
            one,
            image=replace(
                one.image, created_at=one.image.created_at + timedelta(seconds=number // 3)
            ),
        )
        for number, one in enumerate(records)
    ]
    await a_gallery(database, *records)
    await a_gallery(database, *(a_picture() for _ in range(count)), viewer_id=BOB)
    records.sort(key=lambda one: (one.image.created_at, one.image.id), reverse=True)
    return [one.image.id for one in records]


async def all_pages(
    images: MongoImageRepository, size: int, *, favourite: bool | None = None
) -> list[ImageId]:
    seen: list[ImageId] = []
    request = PageRequest(size)
    while True:
        page = await images.page(ANA, request, favourite=favourite, origin=None, model_id=None)
        seen += [record.image.id for record in page.items]
        if not page.has_next:
            return seen
        request = PageRequest(size, page.positions[-1])


async def landed(database: Database, turn: Turn) -> ImageRecord:
    """The picture that the turn's first output delivers."""
    claim = await a_claim(database, turn.outputs[0].id)
    record = a_picture(claim.output.id)
    assert await MongoClaimRepository(database).land(claim, [record], Report())
    return record


async def referring(database: Database, image: Image) -> Turn | None:
    """A turn of another conversation that refers to the image, or None if it is gone."""
    conversation, _ = await a_conversation(database)
    reference = Reference(image, ReferenceOrigin.MANUAL)
    written = await another_turn(database, conversation, a_plan(references=(reference,)))
    return None if isinstance(written, Conflict) else written[1]


async def test_pages_have_no_gaps_and_no_duplicates_at_equal_times(
    database: Database, images: MongoImageRepository
) -> None:
    ids = await many_pictures(database, 31)
    for image_id in ids[::2]:
        await images.set_favourite(ANA, [image_id], True)

    for size in (1, 2, 4, 50):
        assert await all_pages(images, size) == ids
        assert await all_pages(images, size, favourite=True) == ids[::2]
        assert await all_pages(images, size, favourite=False) == ids[1::2]


@pytest.mark.parametrize("favourite", [None, True])
async def test_a_page_of_50_takes_one_indexed_query_at_any_depth(
    database: Database, images: MongoImageRepository, favourite: bool | None
) -> None:
    ids = await many_pictures(database, 400)
    if favourite:
        await database.images.update_many({"_id": {"$in": ids[::2]}}, {"$set": {"favourite": True}})
    shown = ids[::2] if favourite else ids

    request = PageRequest(50)
    for number in range(3):
        async with profiled(database, "images") as profile:
            page = await images.page(ANA, request, favourite=favourite, origin=None, model_id=None)

        (command,) = profile.commands
        assert [record.image.id for record in page.items] == shown[number * 50 :][:50]
        assert "IXSCAN" in command["planSummary"]
        assert "COLLSCAN" not in command["planSummary"]
        assert not command.get("hasSortStage")
        assert command["nreturned"] == 51
        assert command["docsExamined"] <= 51 + 3  # those of the position's own instant again
        request = PageRequest(50, page.positions[-1])


async def test_only_the_owner_can_mark_an_image(
    database: Database, images: MongoImageRepository
) -> None:
    (image_id,) = await many_pictures(database, 1)

    assert await images.set_favourite(BOB, [image_id], True) == {}
    assert await images.set_favourite(ANA, [new_image_id()], True) == {}
    marked = await images.set_favourite(ANA, [image_id, new_image_id()], True)

    assert marked[image_id].favourite
    assert await images.get_many(ANA, [image_id]) == marked


async def test_an_image_stored_before_favourites_is_not_one(
    database: Database, images: MongoImageRepository
) -> None:
    (image_id,) = await many_pictures(database, 1)
    await database.images.update_one({"_id": image_id}, {"$unset": {"favourite": 1}})

    assert not (await images.get_many(ANA, [image_id]))[image_id].favourite
    assert await all_pages(images, 1, favourite=False) == [image_id]
    assert await all_pages(images, 1, favourite=True) == []


async def test_only_the_owner_can_delete_an_image(
    database: Database, images: MongoImageRepository
) -> None:
    _, turn = await a_conversation(database)
    image_id = (await landed(database, turn)).image.id

    assert await images.delete_unless_used(BOB, [image_id]) is not None
    assert await images.delete_unless_used(ANA, [new_image_id()]) is not None
    assert await images.any_refers_to(ANA, [image_id])
    assert await images.delete_unless_used(ANA, [image_id]) is None
    assert not await images.any_refers_to(ANA, [image_id])


async def test_an_image_used_by_another_viewer_can_be_deleted(
    database: Database, images: MongoImageRepository
) -> None:
    record = a_picture()
    await a_gallery(database, record)
    # Nothing that is written through the repositories looks like this.
    await database.conversations.insert_one(
        {"_id": "conv_x", "ownerId": BOB, "sourceImage": {"id": record.image.id}}
    )

    assert await images.delete_unless_used(ANA, [record.image.id]) is None


async def test_deleting_an_image_does_not_affect_a_running_sibling(
    database: Database, images: MongoImageRepository
) -> None:
    _, turn = await a_conversation(database, "one", "two")
    first = await landed(database, turn)
    sibling = await a_claim(database, turn.outputs[1].id)

    assert await images.delete_unless_used(ANA, [first.image.id]) is None
    second = a_picture(sibling.output.id)
    assert await MongoClaimRepository(database).land(sibling, [second], Report())

    stored = (await MongoTurnRepository(database).get_many(ANA, [turn.id]))[turn.id]
    assert [output.images for output in stored.outputs] == [(), (second.image,)]
    assert [output.status for output in stored.outputs] == ["COMPLETED", "COMPLETED"]


@pytest.mark.parametrize("use", ["source", "reference"])
async def test_an_image_is_deleted_or_used_but_not_both(
    database: Database, images: MongoImageRepository, use: str
) -> None:
    records = [a_picture() for _ in range(25)]
    await a_gallery(database, *records)
    for image in [record.image for record in records]:

        async def begin(image: Image = image) -> bool:
            if use == "reference":
                return await referring(database, image) is not None
            try:
                await a_conversation(database, source=image)
            except AssertionError:
                return False
            return True

        was_used, kept = await asyncio.gather(begin(), images.delete_unless_used(ANA, [image.id]))

        assert was_used is (kept is not None)
        assert await images.any_refers_to(ANA, [image.id]) is was_used


async def test_a_deletion_during_a_delivery_deletes_what_was_delivered(
    database: Database, images: MongoImageRepository
) -> None:
    turns = MongoTurnRepository(database)
    for _ in range(10):
        _, turn = await a_conversation(database, "one", "two")
        first = await landed(database, turn)

        second, kept = await asyncio.gather(
            _landed_second(database, turn), images.delete_unless_used(ANA, [first.image.id])
        )

        assert kept is None
        stored = (await turns.get_many(ANA, [turn.id]))[turn.id]
        assert [output.images for output in stored.outputs] == [(), (second.image,)]


async def test_deleting_a_conversation_keeps_favourites_and_images_used_elsewhere(
    database: Database, images: MongoImageRepository
) -> None:
    conversation, turn = await a_conversation(database, "one", "two", "three")
    records = []
    for output in turn.outputs:
        claim = await a_claim(database, output.id)
        record = a_picture(output.id)
        assert await MongoClaimRepository(database).land(claim, [record], Report())
        records.append(record)
    marked, used, free = (record.image for record in records)
    await images.set_favourite(ANA, [marked.id], True)
    assert await referring(database, used) is not None

    keys = await MongoConversationRepository(database).delete(ANA, conversation.id)

    assert keys == list(free.keys)
    kept = await images.get_many(ANA, [marked.id, used.id, free.id])
    assert set(kept) == {marked.id, used.id}


async def test_an_image_of_a_deleted_conversation_can_be_deleted(
    database: Database, images: MongoImageRepository
) -> None:
    conversation, turn = await a_conversation(database)
    image_id = (await landed(database, turn)).image.id
    await images.set_favourite(ANA, [image_id], True)
    await MongoConversationRepository(database).delete(ANA, conversation.id)

    assert await images.delete_unless_used(ANA, [image_id]) is None


async def _landed_second(database: Database, turn: Turn) -> ImageRecord:
    claim = await a_claim(database, turn.outputs[1].id)
    record = a_picture(claim.output.id)
    assert await MongoClaimRepository(database).land(claim, [record], Report())
    return record
