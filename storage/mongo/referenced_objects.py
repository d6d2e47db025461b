"""Finds every key of the object store that a document refers to, shard by shard.

An image that a conversation, a turn or a post refers to has a record for as long as they do, so
only records are read. Whatever refers to bytes in another way has to be read here as well.
"""

from collections.abc import Iterator

from domain.images import FOLDERS, shard_of
from domain.ports.cleanup import ReferencedKeys
from storage.mongo.collections import PARENTS, Document
from storage.mongo.database import Database, repository
from storage.mongo.images import image_keys


@repository
class MongoReferencedObjectRepository:
    """See `domain.ports.cleanup.ReferencedObjectRepository`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read_shard(self, shard: str) -> ReferencedKeys:
        ranges = [{"$gte": low, "$lt": high} for low, high in _ranges(shard)]
        images = self._database.images.find(
            {"$or": [{"key": keys} for keys in ranges]}, {"_id": 0, "key": 1, "renditionWidths": 1}
        )
        uploads = self._database.uploads.find(
            {"$or": [{"key": keys, "sweepAt": {"$exists": True}} for keys in ranges]},
            {"_id": 0, "key": 1},
        )
        exports = self._database.exports.find(
            {"$or": [{"key": {"$type": "string", **keys}} for keys in ranges]},
            {"_id": 0, "key": 1},
        )
        trash = self._database.trash.find(
            {"$or": [{"key": {"$exists": True, **keys}} for keys in ranges]},
            {"_id": 0, "key": 1, "renditionWidths": 1},
        )
        kept = {key async for image in images for key in image_keys(image)}
        kept.update([key async for image in trash for key in image_keys(image)])
        kept.update([export["key"] async for export in exports])
        shown = {"$or": [_with_preview(keys) for keys in ranges]}
        for name in PARENTS.values():
            parents = self._database.collection(name).find(
                shown, {"_id": 0, "outputs.preview.key": 1}
            )
            async for parent in parents:
                kept.update(_previews(parent))  # Those of other shards are dropped below.
        return ReferencedKeys(
            frozenset(key for key in kept if shard_of(key) == shard),
            frozenset([upload["key"] async for upload in uploads]),
        )

    async def find_owner(self) -> str:
        # Made with the collection, and again for a copy: a restored dump is another database.
        found = await self._database.commands.list_collections(filter={"name": "images"})
        [images] = await found.to_list()
        return bytes(images["info"]["uuid"]).hex()


def _ranges(shard: str) -> Iterator[tuple[str, str]]:
    """The first key of a shard, and the end of its keys, in each folder: "0" sorts after "/"."""
    for folder in FOLDERS:
        yield f"{folder}/{shard}/", f"{folder}/{shard}0"


def _with_preview(keys: Document) -> Document:
    # `$elemMatch` sets both bounds for one output, and the index is only for documents that match
    # `$exists`: without either, all parents with a preview would be read.
    return {
        "outputs": {"$elemMatch": {"preview.key": keys}},
        "outputs.preview.key": {"$exists": True},
    }


def _previews(parent: Document) -> Iterator[str]:
    for output in parent["outputs"]:
        if output.get("preview"):
            yield output["preview"]["key"]
