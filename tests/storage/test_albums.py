"""Albums in MongoDB: an image is in one or deleted, never both; pages come from an index."""

import asyncio

import pytest

from domain.albums import Album
from domain.conflicts import Conflict
from domain.errors import ViewerBeingDeleted
from domain.ids import AlbumId, ImageId, new_album_id
from domain.pages import PageRequest
from storage.mongo.albums import MongoAlbumRepository
from storage.mongo.database import Database
from storage.mongo.erasures import MongoErasureRepository
from storage.mongo.images import MongoImageRepository
from tests.storage.builders import ANA, LONG, a_gallery, a_picture, an_account
from tests.storage.plans import profiled


@pytest.fixture
def albums(database: Database) -> MongoAlbumRepository:
    return MongoAlbumRepository(database)


async def images(database: Database, count: int) -> list[ImageId]:
    records = [a_picture() for _ in range(count)]
    await a_gallery(database, *records)
    return [record.image.id for record in records]


async def an_album(albums: MongoAlbumRepository, *image_ids: ImageId) -> AlbumId:
    made = await albums.create(ANA, new_album_id(), title="Boats", image_ids=image_ids)
    assert isinstance(made, Album)
    return made.id


async def put(
    albums: MongoAlbumRepository, album_id: AlbumId, *image_ids: ImageId, max_images: int = 9
) -> Album | Conflict:
    return await albums.update(
        ANA, album_id, title=None, add=image_ids, remove=(), max_images=max_images
    )


async def test_two_concurrent_changes_cannot_exceed_the_limit_of_an_album(
    database: Database, albums: MongoAlbumRepository
) -> None:
    one, two, three = await images(database, 3)
    album_id = await an_album(albums, one)

    made = await asyncio.gather(
        *(put(albums, album_id, image, max_images=2) for image in (two, three))
    )

    assert sorted(isinstance(one, Album) for one in made) == [False, True]
    assert Conflict.LIMIT_REACHED in made
    assert len((await albums.page_images(ANA, album_id, PageRequest())).items) == 2


async def test_an_image_is_added_to_an_album_or_deleted_but_not_both(
    database: Database, albums: MongoAlbumRepository
) -> None:
    album_id = await an_album(albums)
    for image_id in await images(database, 6):
        await asyncio.gather(
            put(albums, album_id, image_id),
            MongoImageRepository(database).delete_unless_used(ANA, [image_id]),
        )

        assert await database.images.count_documents({"_id": image_id}) == 0
        assert await database.album_images.count_documents({"imageId": image_id}) == 0
    assert await put(albums, album_id, image_id) is Conflict.IMAGE_GONE
    assert await put(albums, new_album_id()) is Conflict.STALE


async def test_a_page_of_an_album_is_read_from_an_index(
    database: Database, albums: MongoAlbumRepository
) -> None:
    ids = await images(database, 60)
    album_id = await an_album(albums, *ids)
    await an_album(albums, *ids)

    async with profiled(database, "albumImages") as profile:
        page = await albums.page_images(ANA, album_id, PageRequest(10, (39,)))

    assert [record.image.id for record in page.items] == ids[40:50]
    (command,) = profile.commands
    assert command["planSummary"] == "IXSCAN { ownerId: 1, albumId: 1, position: 1 }"
    assert command["docsExamined"] <= 11


async def test_no_album_is_created_while_its_viewer_is_being_deleted(
    database: Database, albums: MongoAlbumRepository
) -> None:
    await an_account(database)
    await MongoErasureRepository(database).begin(ANA, lease=LONG)

    with pytest.raises(ViewerBeingDeleted):
        await an_album(albums)
