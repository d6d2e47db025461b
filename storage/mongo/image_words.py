"""Adds the search words of images that were made by releases which stored none."""

from dataclasses import dataclass

from pymongo import UpdateOne

from domain.ids import ImageId
from storage.mongo.collections import Document
from storage.mongo.database import Database, repository
from storage.mongo.text_search import words_to_find


@dataclass(frozen=True, slots=True)
class AddedWords:
    changed: int
    """How many images had no words."""
    last: ImageId | None
    """The last image of this step; None if there was none."""


@repository
class MongoImageWordRepository:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._images = database.images

    async def add_missing(self, *, after: ImageId, limit: int) -> AddedWords:
        """Process the next images of all viewers, in the order of their ids."""
        shown = {"ownerId": 1, "prompt": 1, "words": {"$slice": 1}}
        cursor = self._images.find({"_id": {"$gt": after}}, shown).sort("_id", 1).limit(limit)
        images = await cursor.to_list()
        updates = [_update(image) for image in images if "words" not in image]
        if updates:
            await self._images.bulk_write(updates, ordered=False)
        return AddedWords(len(updates), images[-1]["_id"] if images else None)


def _update(image: Document) -> UpdateOne:
    lacking = {"_id": image["_id"], "ownerId": image["ownerId"], "words": {"$exists": False}}
    return UpdateOne(lacking, {"$set": {"words": words_to_find(image["prompt"] or "")}})
