"""Outputs whose parent may be of any kind: ending them, cancelling them, and running them again."""

from collections.abc import Collection, Iterable, Sequence
from typing import Final

from pymongo import ReturnDocument

from domain.changes import ClusterTime
from domain.conflicts import Conflict
from domain.idempotency import IdempotencyKey
from domain.ids import OutputId, ParentId, ViewerId, parent_of_output
from domain.outputs import Output
from domain.parents import Parent
from domain.turns import PlannedOutput
from storage.mongo.accounts import move_credits, releases, reserve_credits
from storage.mongo.collections import PARENTS, UNFINISHED_PARENT, Document
from storage.mongo.database import Database, repository
from storage.mongo.idempotency import use_key
from storage.mongo.output_rules import MAY_BE_CANCELLED, UNFINISHED_OUTPUT, any_output, is_slot
from storage.mongo.output_updates import ENDED, moving
from storage.mongo.outputs import queued_output
from storage.mongo.transaction import Abort, Transaction
from storage.mongo.turns import read_turn

_AT_ONCE: Final = 100
_ENDING: Final = ("slot", "status", "attempt", "creditsReserved")
"""What is read of outputs that are ended."""


@repository
class MongoOutputRepository:
    """See `domain.ports.OutputRepository`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find_parent(self, viewer_id: ViewerId, output_id: OutputId) -> Parent | None:
        parent_id, _ = parent_of_output(output_id)
        found = await self._database.of_parent(parent_id).find_one(_owned(viewer_id, parent_id))
        return read_parent(found) if found else None

    async def list_unfinished(self, viewer_id: ViewerId) -> Sequence[Parent]:
        query = {"ownerId": viewer_id, "status": UNFINISHED_PARENT}
        return [
            read_parent(found)
            for name in PARENTS.values()
            async for found in self._database.collection(name).find(query).limit(_AT_ONCE)
        ]

    async def retry(
        self,
        viewer_id: ViewerId,
        output: Output,
        *,
        planned: PlannedOutput,
        max_active_outputs: int,
        key: IdempotencyKey | None,
    ) -> tuple[Parent, ClusterTime] | Conflict:
        slot, parent_id = output.slot, output.parent_id
        unchanged = {
            "slot": slot,
            "attempt": output.attempt,
            "status": output.status.value,
        }
        changes: Document = {
            name: {"$literal": value} for name, value in queued_output(planned).items()
        } | {
            "attempt": output.attempt + 1,
            "fence": {"$add": ["$$output.fence", 1]},
            "queuedAt": "$$NOW",
        }

        async def work(transaction: Transaction) -> Parent:
            await use_key(transaction, viewer_id, key=key, parent_id=parent_id, slot=slot)
            found = await transaction.of_parent(parent_id).find_one_and_update(
                {**_owned(viewer_id, parent_id), "outputs": {"$elemMatch": unchanged}},
                moving(is_slot(slot), changes),
                return_document=ReturnDocument.AFTER,
            )
            if found is None:
                raise Abort(Conflict.STALE)
            parent = read_parent(found)
            queued = [one for one in parent.outputs if one.slot == slot]
            await reserve_credits(
                transaction, queued, owner_id=viewer_id, max_active=max_active_outputs
            )
            return parent

        retried = await self._database.transact(work, account=viewer_id)
        return retried if isinstance(retried, Conflict) else (retried.result, retried.cluster_time)

    async def cancel(
        self, viewer_id: ViewerId, parent_id: ParentId, slots: Iterable[int]
    ) -> Parent | None:
        wanted_slots = list(slots)
        wanted = {"$and": [{"$in": ["$$output.slot", wanted_slots]}, MAY_BE_CANCELLED]}
        owned = _owned(viewer_id, parent_id)

        async def work(transaction: Transaction) -> Parent:
            await end_outputs(
                transaction,
                {**owned, "$expr": any_output(wanted)},
                slots=wanted_slots,
                update=moving(wanted, {**ENDED, "status": "CANCELLED"}),
            )
            after = await transaction.of_parent(parent_id).find_one(owned)
            assert after is not None
            return read_parent(after)

        cancelled = await self._database.transact(work, account=viewer_id)
        return None if isinstance(cancelled, Conflict) else cancelled.result


async def end_outputs(
    transaction: Transaction, query: Document, *, slots: Collection[int], update: Sequence[Document]
) -> None:
    """End outputs of one parent without images, and release what they had reserved: last in its
    transaction. Abort it where no parent matches the query, which names it and its owner.
    """
    parent_id, owner_id = query["_id"], query["ownerId"]
    before = await transaction.of_parent(parent_id).find_one_and_update(
        query, update, projection={f"outputs.{name}": 1 for name in _ENDING}
    )
    if before is None:
        raise Abort(Conflict.STALE)
    ended = [
        one
        for one in before["outputs"]
        if one["slot"] in slots and one["status"] in UNFINISHED_OUTPUT
    ]
    await move_credits(transaction, owner_id, movements=releases(parent_id, ended))


def read_parent(document: Document) -> Parent:
    return read_turn(document)


def _owned(viewer_id: ViewerId, parent_id: ParentId) -> Document:
    return {"_id": parent_id, "ownerId": viewer_id}
