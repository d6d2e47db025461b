"""Turns that wait for the one before them: found in the order of their ids, and begun or ended
once.
"""

from collections.abc import Sequence
from typing import Final

from pymongo import ReturnDocument

from domain.conflicts import Conflict
from domain.ids import TurnId, ViewerId
from domain.outputs import GenerationError
from domain.turns import Turn, TurnPlan, TurnStatus
from storage.mongo.collections import Document
from storage.mongo.credits import reserve_credits
from storage.mongo.database import Database, repository
from storage.mongo.events import announce_ends
from storage.mongo.images import hold_images
from storage.mongo.model_stats import count_asked
from storage.mongo.output_updates import WRITTEN, begin_update
from storage.mongo.stored_outputs import error_document
from storage.mongo.stored_parents import new_parent
from storage.mongo.stored_turns import read_turn
from storage.mongo.transaction import Abort, Transaction

_WAITING: Final = TurnStatus.WAITING.value


@repository
class MongoWaitingTurnRepository:
    """See `domain.ports.waiting_turns.WaitingTurnRepository`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._turns = database.turns

    async def list(self, *, after: TurnId | None, limit: int) -> Sequence[Turn]:
        # For all viewers, as the searches for outputs that no worker holds.
        query: Document = {"status": _WAITING, **({"_id": {"$gt": after}} if after else {})}
        cursor = self._turns.find(query).sort("_id", 1).limit(limit)
        return [read_turn(document) async for document in cursor]

    async def begin(
        self, viewer_id: ViewerId, turn_id: TurnId, *, plan: TurnPlan, max_active_outputs: int
    ) -> Turn | Conflict:
        async def work(transaction: Transaction) -> Turn:
            await hold_images(
                transaction, viewer_id, ids={reference.image.id for reference in plan.references}
            )
            document = await transaction.turns.find_one_and_update(
                {"_id": turn_id, "ownerId": viewer_id, "status": _WAITING},
                begin_update(new_parent(viewer_id, plan)),
                return_document=ReturnDocument.AFTER,
            )
            if document is None:
                raise Abort(Conflict.STALE)
            turn = read_turn(document)
            slots = [output.slot for output in turn.outputs]
            await count_asked(transaction, viewer_id, turn, slots=slots)
            await reserve_credits(
                transaction, turn.outputs, owner_id=viewer_id, max_active=max_active_outputs
            )
            return turn

        outcome = await self._database.transact(work, account=viewer_id)
        return outcome if isinstance(outcome, Conflict) else outcome.result

    async def end(
        self, viewer_id: ViewerId, turn_id: TurnId, failure: GenerationError | None
    ) -> Turn | None:
        status = TurnStatus.FAILED if failure else TurnStatus.CANCELLED
        error = failure and error_document(failure)
        changes: Document = {"status": status.value, "failure": error, "completedAt": "$$NOW"}

        async def work(transaction: Transaction) -> Turn:
            document = await transaction.turns.find_one_and_update(
                {"_id": turn_id, "ownerId": viewer_id, "status": _WAITING},
                [{"$set": {**changes, **WRITTEN}}, {"$unset": "waiting"}],
                return_document=ReturnDocument.AFTER,
            )
            if document is None:
                raise Abort(Conflict.STALE)
            await announce_ends(transaction, viewer_id, turn_id, slots=[])
            return read_turn(document)

        ended = await self._database.transact(work)
        return None if isinstance(ended, Conflict) else ended.result
