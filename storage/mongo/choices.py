"""Choices as marks of outputs, inside of their turn."""

from pymongo import ReturnDocument

from domain.ids import TurnId, ViewerId
from storage.mongo.collections import Document
from storage.mongo.database import Database, repository
from storage.mongo.model_stats import count_choice
from storage.mongo.output_rules import any_output
from storage.mongo.output_updates import choose_update
from storage.mongo.transaction import Transaction


@repository
class MongoChoiceRepository:
    """See `domain.ports.choices.ChoiceRepository`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def choose(
        self, viewer_id: ViewerId, turn_id: TurnId, slot: int, *, chosen: bool
    ) -> None:
        own: Document = {"_id": turn_id, "ownerId": viewer_id}
        changed, update = choose_update(slot, chosen=chosen)
        query: Document = {**own, "$expr": any_output(changed)}
        if chosen:
            # The image may be deleted at any time, so the condition is in the write.
            query["outputs"] = {"$elemMatch": {"slot": slot, "images.0": {"$exists": True}}}

        async def work(transaction: Transaction) -> None:
            before = await transaction.turns.find_one(query)
            if before is None:
                return
            after = await transaction.turns.find_one_and_update(
                own, update, return_document=ReturnDocument.AFTER
            )
            assert after is not None, "It was in the transaction's snapshot."
            await count_choice(transaction, viewer_id, before=before, after=after)

        await self._database.transact(work, account=viewer_id)
