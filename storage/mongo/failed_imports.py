"""Takes back what a failed import has made, which is found by `importId`."""

from domain.ids import ImportId, PostId, ViewerId
from storage.mongo.collections import Document
from storage.mongo.images import delete_image_records, find_used_images, image_keys
from storage.mongo.parents import delete_parents
from storage.mongo.transaction import Transaction


async def delete_imported_batch(
    transaction: Transaction, viewer_id: ViewerId, import_id: ImportId, *, limit: int
) -> tuple[list[str], bool]:
    """Delete about this many of its records, as the last writes of the transaction. Return the keys
    of bytes that nothing refers to from then on, and whether nothing is left.
    """
    query: Document = {"ownerId": viewer_id, "importId": import_id}
    # In this order: turns, posts and albums use its images.
    turns = await _find_ids(transaction, "turns", query, limit=limit)
    if turns:
        await transaction.turns.delete_many({"_id": {"$in": turns}, "ownerId": viewer_id})
        return [], False
    # The viewer may have used it, and have something run for it: one post at a time.
    for post_id in await _find_ids(transaction, "posts", query, limit=1):
        return await _delete_post(transaction, viewer_id, PostId(post_id)), False
    albums = await _find_ids(transaction, "albums", query, limit=limit)
    if albums:
        entries: Document = {"ownerId": viewer_id, "albumId": {"$in": albums}}
        await transaction.albums.delete_many({"_id": {"$in": albums}, "ownerId": viewer_id})
        await transaction.album_images.delete_many(entries)
        return [], False
    return await _delete_images(transaction, viewer_id, query, limit=limit)


async def _delete_post(transaction: Transaction, viewer_id: ViewerId, post_id: PostId) -> list[str]:
    return await delete_parents(
        transaction,
        viewer_id,
        {"_id": post_id, "ownerId": viewer_id},
        among=transaction.posts,
        besides=post_id,
        keep_images=True,
    )


async def _delete_images(
    transaction: Transaction, viewer_id: ViewerId, query: Document, *, limit: int
) -> tuple[list[str], bool]:
    shown = {"key": 1, "renditionWidths": 1}
    images = await transaction.images.find(query, shown).limit(limit).to_list()
    ids = [image["_id"] for image in images]
    if not ids:
        return [], True
    used = await find_used_images(transaction, viewer_id, ids=ids)
    used |= set(
        await transaction.album_images.distinct(
            "imageId", {"ownerId": viewer_id, "imageId": {"$in": ids}}
        )
    )
    # Records that the viewer has used since belong to the viewer.
    await transaction.images.update_many(
        {"_id": {"$in": [*used]}, "ownerId": viewer_id}, {"$unset": {"importId": 1}}
    )
    unused = [image for image in images if image["_id"] not in used]
    await delete_image_records(transaction, viewer_id, ids=[image["_id"] for image in unused])
    return [key for image in unused for key in image_keys(image)], False


async def _find_ids(
    transaction: Transaction, name: str, query: Document, *, limit: int
) -> list[str]:
    documents = transaction.collection(name).find(query, {"_id": 1}).limit(limit)
    return [document["_id"] for document in await documents.to_list()]
