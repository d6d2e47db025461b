"""Albums as documents, and one document for each image in each album, which has its position."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from pymongo import ReturnDocument

from domain.albums import Album
from domain.conflicts import Conflict
from domain.ids import AlbumId, ImageId, ViewerId
from domain.images import ImageRecord
from domain.pages import Page, PageRequest, cut
from storage.mongo.collections import Document
from storage.mongo.credits import refuse_while_erased
from storage.mongo.database import Database, epoch_ms, from_epoch_ms, repository
from storage.mongo.images import SHOWN_FIELDS, hold_images, read_record
from storage.mongo.pages import beyond, read_page
from storage.mongo.transaction import Abort, Transaction


@repository
class MongoAlbumRepository:
    """See `domain.ports.albums.AlbumRepository`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._albums = database.albums

    async def get_many(
        self, viewer_id: ViewerId, ids: Iterable[AlbumId]
    ) -> Mapping[AlbumId, Album]:
        query = {"_id": {"$in": list(set(ids))}, "ownerId": viewer_id}
        return {
            AlbumId(document["_id"]): _read(document) async for document in self._albums.find(query)
        }

    async def page(self, viewer_id: ViewerId, request: PageRequest) -> Page[Album]:
        query = {"ownerId": viewer_id, **beyond(request, "createdAt")}
        cursor = self._albums.find(query)
        return await read_page(cursor, request, sorted_by="createdAt", read=_read)

    async def page_images(
        self, viewer_id: ViewerId, album_id: AlbumId, request: PageRequest
    ) -> Page[ImageRecord]:
        query: Document = {"ownerId": viewer_id, "albumId": album_id}
        if request.position is not None:
            query["position"] = {"$gt": int(request.position[0])}
        entries = self._database.album_images.find(query).sort("position", 1)
        found = await entries.limit(request.size + 1).to_list()
        page = cut(request, found, lambda entry: (entry["position"],))
        ids = [entry["imageId"] for entry in page.items]
        records = {
            document["_id"]: read_record(document)
            async for document in self._database.images.find(
                {"_id": {"$in": ids}, "ownerId": viewer_id}, SHOWN_FIELDS
            )
        }
        # An image that has been deleted between the two reads is left out.
        kept = [entry for entry in page.items if entry["imageId"] in records]
        positions = [(entry["position"],) for entry in kept]
        images = [records[entry["imageId"]] for entry in kept]
        return Page(images, positions, page.has_next, page.has_previous)

    async def create(
        self, viewer_id: ViewerId, album_id: AlbumId, *, title: str, image_ids: Sequence[ImageId]
    ) -> Album | Conflict:
        created_at = from_epoch_ms(epoch_ms(datetime.now(UTC)))
        album = Album(id=album_id, title=title, created_at=created_at)
        document = new_album(viewer_id, album, image_count=len(image_ids))

        async def work(transaction: Transaction) -> Album:
            await refuse_while_erased(transaction, viewer_id)
            await transaction.albums.insert_one(document)
            await _put(transaction, viewer_id, album_id, image_ids=image_ids, first=0)
            return album

        outcome = await self._database.transact(work)
        return outcome if isinstance(outcome, Conflict) else outcome.result

    async def update(
        self,
        viewer_id: ViewerId,
        album_id: AlbumId,
        *,
        title: str | None,
        add: Sequence[ImageId],
        remove: Sequence[ImageId],
        max_images: int,
    ) -> Album | Conflict:
        changes: Document = {"$inc": {"nextPosition": len(add)}}
        if title is not None:
            changes["$set"] = {"title": title}
        entries: Document = {"ownerId": viewer_id, "albumId": album_id}

        async def work(transaction: Transaction) -> Album:
            await refuse_while_erased(transaction, viewer_id)
            # All changes of an album write to its document, so they come one after another.
            album = await transaction.albums.find_one_and_update(
                {"_id": album_id, "ownerId": viewer_id},
                changes,
                return_document=ReturnDocument.AFTER,
            )
            if album is None:
                raise Abort(Conflict.STALE)
            if remove:
                removed_entries = {**entries, "imageId": {"$in": list(remove)}}
                await transaction.album_images.delete_many(removed_entries)
            if add:
                await _append(transaction, album, add)
                count = await transaction.album_images.count_documents(
                    entries, limit=max_images + 1
                )
                if count > max_images:
                    raise Abort(Conflict.LIMIT_REACHED)
            return _read(album)

        changed = await self._database.transact(work)
        return changed if isinstance(changed, Conflict) else changed.result

    async def delete(self, viewer_id: ViewerId, album_id: AlbumId) -> bool:
        async def work(transaction: Transaction) -> None:
            own = {"_id": album_id, "ownerId": viewer_id}
            if (await transaction.albums.delete_one(own)).deleted_count == 0:
                raise Abort(Conflict.STALE)
            await transaction.album_images.delete_many({"ownerId": viewer_id, "albumId": album_id})

        return not isinstance(await self._database.transact(work), Conflict)


def new_album(owner_id: ViewerId, album: Album, *, image_count: int) -> Document:
    return {
        "_id": album.id,
        "ownerId": owner_id,
        "title": album.title,
        "createdAt": album.created_at,
        "nextPosition": image_count,
    }


async def _append(transaction: Transaction, album: Document, image_ids: Sequence[ImageId]) -> None:
    """Put images at the end of an album that has room reserved for them, except those in it."""
    entries: Document = {"ownerId": album["ownerId"], "albumId": album["_id"]}
    present = await transaction.album_images.distinct(
        "imageId", {**entries, "imageId": {"$in": list(image_ids)}}
    )
    new = [image_id for image_id in image_ids if image_id not in present]
    first = album["nextPosition"] - len(image_ids)
    await _put(transaction, album["ownerId"], album["_id"], image_ids=new, first=first)


async def replace_images(
    transaction: Transaction,
    viewer_id: ViewerId,
    album_id: AlbumId,
    *,
    image_ids: Sequence[ImageId],
) -> None:
    """Put these images into an album, in this order, and no others."""
    await transaction.album_images.delete_many({"ownerId": viewer_id, "albumId": album_id})
    await _put(transaction, viewer_id, album_id, image_ids=image_ids, first=0)


async def _put(
    transaction: Transaction,
    viewer_id: ViewerId,
    album_id: AlbumId,
    *,
    image_ids: Sequence[ImageId],
    first: int,
) -> None:
    if not image_ids:
        return
    await hold_images(transaction, viewer_id, ids=image_ids)
    await transaction.album_images.insert_many(
        {
            "_id": f"{album_id} {image_id}",
            "ownerId": viewer_id,
            "albumId": album_id,
            "imageId": image_id,
            "position": position,
        }
        for position, image_id in enumerate(image_ids, start=first)
    )


def _read(document: Document) -> Album:
    return Album(id=document["_id"], title=document["title"], created_at=document["createdAt"])
