"""Choices as marks of outputs, inside of their turn."""

from domain.ids import TurnId, ViewerId
from storage.mongo.collections import Document
from storage.mongo.database import Database, repository
from storage.mongo.output_rules import any_output
from storage.mongo.output_updates import choosing


@repository
class MongoChoiceRepository:
    """See `domain.ports.ChoiceRepository`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def choose(
        self, viewer_id: ViewerId, turn_id: TurnId, slot: int, *, chosen: bool
    ) -> None:
        changed, update = choosing(slot, chosen=chosen)
        query: Document = {"_id": turn_id, "ownerId": viewer_id, "$expr": any_output(changed)}
        if chosen:
            # Only what can be gone on from: an image may be deleted at any time.
            query["outputs"] = {"$elemMatch": {"slot": slot, "images.0": {"$exists": True}}}
        await self._database.turns.update_one(query, update)
