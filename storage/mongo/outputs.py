"""Outputs, whatever the kind of their parent: found, queued again, and cancelled."""

from collections.abc import Iterable, Sequence
from typing import Final

from domain.changes import ClusterTime
from domain.conflicts import Conflict
from domain.idempotency import IdempotencyKey
from domain.ids import OutputId, ParentId, ViewerId, parent_of_output
from domain.outputs import CAPTION_SLOT, Output
from domain.parents import Parent
from domain.turns import PlannedOutput
from storage.mongo.collections import PARENTS, UNFINISHED_PARENT, Document
from storage.mongo.database import Database, cluster_time_of, repository
from storage.mongo.idempotency import use_key
from storage.mongo.output_rules import MAY_BE_CANCELLED, any_output
from storage.mongo.output_updates import end_update
from storage.mongo.parents import end_outputs, owned_by, queue_again, read_parent
from storage.mongo.stored_outputs import queued_output
from storage.mongo.transaction import Transaction

_AT_ONCE: Final = 100


@repository
class MongoOutputRepository:
    """See `domain.ports.outputs.OutputRepository`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find_parent(
        self, viewer_id: ViewerId, output_id: OutputId
    ) -> tuple[Parent, ClusterTime] | None:
        parent_id, _ = parent_of_output(output_id)
        async with self._database.session() as session:
            document = await self._database.of_parent(parent_id).find_one(
                owned_by(viewer_id, parent_id), session=session
            )
            return (read_parent(document), cluster_time_of(session)) if document else None

    async def list_unfinished(self, viewer_id: ViewerId) -> Sequence[Parent]:
        query = {"ownerId": viewer_id, "status": UNFINISHED_PARENT}
        return [
            read_parent(document)
            for name in PARENTS.values()
            async for document in self._database.collection(name).find(query).limit(_AT_ONCE)
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
        queued = queued_output(planned)

        async def work(transaction: Transaction) -> Parent:
            await use_key(transaction, viewer_id, key=key, parent_id=parent_id, slot=slot)
            return await queue_again(
                transaction, viewer_id, [(output, queued)], max_active=max_active_outputs
            )

        retried = await self._database.transact(work, account=viewer_id)
        return retried if isinstance(retried, Conflict) else (retried.result, retried.cluster_time)

    async def cancel(
        self, viewer_id: ViewerId, parent_id: ParentId, slots: Iterable[int]
    ) -> Parent | None:
        wanted_slots = list(slots)
        wanted = {"$and": [{"$in": ["$$output.slot", wanted_slots]}, MAY_BE_CANCELLED]}
        changes: Document = {"status": "CANCELLED"}
        if CAPTION_SLOT not in wanted_slots:
            changes["waits"] = False  # They are cancelled by the viewer, not for lack of a caption.
        owned = owned_by(viewer_id, parent_id)

        async def work(transaction: Transaction) -> Parent:
            await end_outputs(
                transaction,
                {**owned, "$expr": any_output(wanted)},
                slots=wanted_slots,
                update=end_update(wanted, changes),
            )
            after = await transaction.of_parent(parent_id).find_one(owned)
            assert after is not None
            return read_parent(after)

        cancelled = await self._database.transact(work, account=viewer_id)
        return None if isinstance(cancelled, Conflict) else cancelled.result
