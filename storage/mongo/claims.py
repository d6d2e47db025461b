"""Claims outputs, and writes what becomes of them, credits included.

Every write after the claim names its fence, and matches nothing once another worker has claimed the
output. Every filter names the parent's owner, the shard key, except those of the two searches that
read the unfinished parents of all viewers: `list_waiting` and `end_overdue`.
"""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Final

from pymongo import ReturnDocument

from domain.captions import CaptionDelivery
from domain.claims import Claim, Waiting
from domain.conflicts import Conflict
from domain.credits import captured, charge_for
from domain.ids import (
    ModelId,
    OutputId,
    ViewerId,
    as_turn_id,
    conversation_of_turn,
    output_id_of,
    parent_of_output,
    turn_id_range,
)
from domain.images import ImageRecord
from domain.outputs import GenerationError, Preview, Report, Run
from domain.rules import overdue_error
from storage.mongo.collections import (
    SEARCHED_FIRST,
    UNFINISHED_PARENT,
    Document,
    over_all_parents,
)
from storage.mongo.credits import move_credits
from storage.mongo.database import Database, repository
from storage.mongo.events import announce_ends
from storage.mongo.images import image_document, record_document
from storage.mongo.model_stats import count_ends
from storage.mongo.output_rules import (
    FOUND,
    IS_CLAIMABLE,
    IS_OUTCOME_UNKNOWN,
    IS_WAITING,
    UNFINISHED_OUTPUT,
    WAITS_FOR_CAPTION,
    any_output,
    from_now,
    furthest_runs,
    in_fair_order,
    is_overdue,
    is_slot,
    is_unchanged,
    is_wanted,
    writable_by,
)
from storage.mongo.output_updates import (
    ENDED,
    change_update,
    claim_changes,
    end_update,
    set_on_outputs,
    versioned,
    with_derived_fields,
)
from storage.mongo.parents import end_outputs, read_parent
from storage.mongo.stored_outputs import error_document, preview_document, report_changes
from storage.mongo.traces import read_trace
from storage.mongo.transaction import Abort, Transaction


@repository
class MongoClaimRepository:
    """See `domain.ports.execution.ClaimRepository`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find_waiting(self, viewer_id: ViewerId, output_id: OutputId) -> Waiting | None:
        parent_id, slot = parent_of_output(output_id)
        waits = {"$and": [is_slot(slot), IS_WAITING]}
        document = await self._database.of_parent(parent_id).find_one(
            {"_id": parent_id, "ownerId": viewer_id, "$expr": any_output(waits)},
            {f"outputs.{name}": 1 for name in FOUND},
        )
        if document is None:
            return None
        return _read_waiting(
            document,
            next(output for output in document["outputs"] if output["slot"] == slot),
            viewer_id,
        )

    async def list_waiting(
        self,
        model_ids: Iterable[ModelId],
        *,
        begun_only: Iterable[ModelId] = (),
        min_queued: timedelta,
        expired: bool,
        limit: int,
    ) -> Sequence[Waiting]:
        stages = in_fair_order(
            list(model_ids), begun_only=list(begun_only), min_queued=min_queued, expired=expired
        )
        return [
            _read_waiting(document, document["output"], document["ownerId"])
            async for document in await self._database.collection(SEARCHED_FIRST).aggregate(
                [*stages, {"$limit": limit}]
            )
        ]

    async def claim(self, waiting: Waiting, *, lease: timedelta) -> Claim | None:
        parent_id, slot = parent_of_output(waiting.output_id)
        claimable = {"$and": [is_slot(slot), IS_CLAIMABLE, *is_unchanged(waiting)]}
        document = await self._database.of_parent(parent_id).find_one_and_update(
            {"_id": parent_id, "ownerId": waiting.viewer_id, "$expr": any_output(claimable)},
            change_update(is_slot(slot), claim_changes(lease)),
            return_document=ReturnDocument.AFTER,
        )
        if document is None:
            return None
        parent = read_parent(document)
        embedded = next(each for each in document["outputs"] if each["slot"] == slot)
        output = parent.output(slot)
        assert output is not None
        return Claim(
            parent=parent,
            output=output,
            # The database's time of the claim.
            claimed_at=embedded["leaseUntil"] - lease,
            deadline_at=embedded["deadlineAt"],
            trace=read_trace(embedded) or read_trace(document),
        )

    async def find_earlier_messages(self, claim: Claim, *, limit: int) -> Sequence[str]:
        turn_id = as_turn_id(claim.parent.id)
        if turn_id is None:
            return []
        first, _ = turn_id_range(conversation_of_turn(turn_id))
        earlier = {
            "_id": {"$gte": first, "$lt": turn_id},
            "ownerId": claim.parent.owner_id,
        }
        cursor = self._database.turns.find(earlier, {"userMessage": 1}).sort("_id", -1).limit(limit)
        return [document["userMessage"] async for document in cursor][::-1]

    async def renew(self, claim: Claim, *, lease: timedelta) -> bool:
        # A renewal that arrives after the output was given back must not hold it again.
        query = writable_by(claim, leaseUntil={"$ne": None})
        return await self._write_internal(claim, {"leaseUntil": from_now(lease)}, query)

    async def give_back(self, claim: Claim) -> bool:
        return await self._write_internal(claim, {"leaseUntil": None})

    async def postpone(self, claim: Claim, runs: Sequence[Run], *, delay: timedelta) -> bool:
        later = {"leaseUntil": None, "notBefore": from_now(delay)}
        return await self._write_internal(claim, {"runs": furthest_runs(runs), **later})

    async def save_runs(self, claim: Claim, runs: Sequence[Run]) -> bool:
        return await self._write_internal(claim, {"runs": furthest_runs(runs)})

    async def is_abandoned(self, claim: Claim) -> bool:
        parents = self._database.of_parent(claim.parent.id)
        return await parents.find_one(is_wanted(claim), {"_id": 1}) is None

    async def show_progress(
        self,
        claim: Claim,
        *,
        progress: float | None = None,
        queue_position: int | None = None,
        preview: Preview | None = None,
        text: str | None = None,
    ) -> bool:
        changes: Document = {}
        if queue_position is not None:
            # Position 0 means that the provider's job runs: it is in no queue.
            changes["queuePosition"] = queue_position or None
        if progress is not None:
            changes["queuePosition"] = None
            changes["progress"] = {"$max": ["$$output.progress", progress]}
        if preview is not None:
            changes["preview"] = {"$literal": preview_document(preview)}
        if text is not None:
            changes["text"] = {"$literal": text}
        return await self._write_visible(claim, changes)

    async def add_images(
        self, claim: Claim, records: Sequence[ImageRecord], report: Report, *, runs: Sequence[Run]
    ) -> bool:
        changes: Document = {
            "images": _with_images(records),
            "runs": furthest_runs(runs),
            **report_changes(report),
        }
        # A repeated write, the first answer of which was lost, adds nothing.
        ids = [record.image.id for record in records]
        query = writable_by(claim, images={"$not": {"$elemMatch": {"id": {"$in": ids}}}})
        documents = [record_document(claim.parent.owner_id, record) for record in records]

        async def work(transaction: Transaction) -> bool:
            if not await self._write_visible(claim, changes, query, inside=transaction):
                raise Abort(Conflict.STALE)
            await transaction.images.insert_many(documents)
            return True

        done = await self._database.transact(work, account=claim.parent.owner_id)
        return not isinstance(done, Conflict)

    async def land(
        self, claim: Claim, records: Sequence[ImageRecord], report: Report, *, landed: int = 0
    ) -> bool:
        output = claim.output
        charged = charge_for(
            output.credits_reserved,
            delivered=landed + len(records),
            asked=claim.parent.options.images_per_model,
        )
        changes: Document = {
            **ENDED,
            "status": "COMPLETED",
            "images": _with_images(records),
            **report_changes(report),
            "preview": None,
            "creditsCharged": charged,
        }
        documents = [record_document(claim.parent.owner_id, record) for record in records]
        movement = captured(output.id, output.attempt, output.credits_reserved, charged=charged)

        async def work(transaction: Transaction) -> bool:
            if not await self._write_visible(claim, changes, inside=transaction):
                raise Abort(Conflict.STALE)
            await transaction.images.insert_many(documents)
            await count_ends(
                transaction, claim.parent.owner_id, claim.parent.id, slots=[output.slot]
            )
            await announce_ends(
                transaction, claim.parent.owner_id, claim.parent.id, slots=[output.slot]
            )
            await move_credits(transaction, claim.parent.owner_id, movements=[movement])
            return True

        done = await self._database.transact(work, account=claim.parent.owner_id)
        return not isinstance(done, Conflict)

    async def land_caption(
        self, claim: Claim, delivery: CaptionDelivery
    ) -> Sequence[OutputId] | None:
        output, post_id = claim.output, claim.parent.id
        landed = {
            **ENDED,
            "status": "COMPLETED",
            **report_changes(delivery),
            # It still contains the cost of earlier captions of this post.
            "creditsCharged": {"$add": ["$$output.creditsCharged", output.credits_reserved]},
        }
        update = with_derived_fields(
            versioned(is_slot(output.slot), landed),
            # Their time in the queue is counted from now on.
            versioned(WAITS_FOR_CAPTION, {"waits": False, "queuedAt": "$$NOW"}),
            caption={"$literal": delivery.text},
        )
        movement = captured(
            output.id, output.attempt, output.credits_reserved, charged=output.credits_reserved
        )

        async def work(transaction: Transaction) -> list[OutputId]:
            before = await transaction.of_parent(post_id).find_one_and_update(
                writable_by(claim), update, projection=_WAITED
            )
            if before is None:
                raise Abort(Conflict.STALE)
            await announce_ends(transaction, claim.parent.owner_id, post_id, slots=[output.slot])
            await move_credits(transaction, claim.parent.owner_id, movements=[movement])
            return [
                output_id_of(post_id, waiting["slot"])
                for waiting in before["outputs"]
                if waiting["waits"] and waiting["status"] in UNFINISHED_OUTPUT
            ]

        done = await self._database.transact(work, account=claim.parent.owner_id)
        return None if isinstance(done, Conflict) else done.result

    async def fail(self, claim: Claim, error: GenerationError) -> bool:
        slot = claim.output.slot
        return bool(await self._end(writable_by(claim), slot, which=is_slot(slot), error=error))

    async def end_overdue(self, *, max_queued: timedelta, limit: int) -> Sequence[OutputId]:
        overdue = is_overdue(max_queued)
        ended: list[OutputId] = []
        async for document in await self._database.collection(SEARCHED_FIRST).aggregate(
            [*over_all_parents(_overdue_outputs(overdue, limit=limit)), {"$limit": limit}]
        ):
            for output in document["outputs"]:
                slot, outcome_unknown = output["slot"], output["outcomeUnknown"]
                # Ended only as what was found: its journal may have come further since.
                is_unknown_as_before = {"$eq": [IS_OUTCOME_UNKNOWN, outcome_unknown]}
                which = {"$and": [is_slot(slot), overdue, is_unknown_as_before]}
                query = {
                    "_id": document["_id"],
                    "ownerId": document["ownerId"],
                    "$expr": any_output(which),
                }
                error = overdue_error(outcome_unknown=outcome_unknown)
                if await self._end(query, slot, which=which, error=error):
                    ended.append(output_id_of(document["_id"], slot))
        return ended

    async def _end(
        self, query: Document, slot: int, *, which: Document, error: GenerationError
    ) -> list[Document]:
        """End an output as failed. Return it and all outputs that have ended with it, as they were
        before; none if nothing matches the query.
        """
        failed = {"status": "FAILED", "error": {"$literal": error_document(error)}}
        update = end_update(which, failed)

        async def work(transaction: Transaction) -> list[Document]:
            return await end_outputs(transaction, query, slots=[slot], update=update)

        done = await self._database.transact(work, account=query["ownerId"])
        return [] if isinstance(done, Conflict) else done.result

    async def _write_visible(
        self,
        claim: Claim,
        changes: Document,
        query: Document | None = None,
        *,
        inside: Transaction | None = None,
    ) -> bool:
        """Write what clients see: it raises the versions and notifies subscribers."""
        parents = (inside or self._database).of_parent(claim.parent.id)
        result = await parents.update_one(
            query or writable_by(claim), change_update(is_slot(claim.output.slot), changes)
        )
        return result.matched_count == 1

    async def _write_internal(
        self, claim: Claim, changes: Document, query: Document | None = None
    ) -> bool:
        """Write what no client sees: it raises no version and notifies no subscriber."""
        update = [set_on_outputs(is_slot(claim.output.slot), changes)]
        parents = self._database.of_parent(claim.parent.id)
        result = await parents.update_one(query or writable_by(claim), update)
        return result.matched_count == 1


def _overdue_outputs(overdue: Document, *, limit: int) -> list[Document]:
    """The stages that find parents with their overdue outputs, and what is known of these."""
    found = {
        "$map": {
            "input": {"$filter": {"input": "$outputs", "as": "output", "cond": overdue}},
            "as": "output",
            "in": {"slot": "$$output.slot", "outcomeUnknown": IS_OUTCOME_UNKNOWN},
        }
    }
    return [
        {"$match": {"status": UNFINISHED_PARENT}},
        {"$match": {"$expr": any_output(overdue)}},
        {"$limit": limit},
        {"$project": {"ownerId": 1, "outputs": found}},
    ]


_WAITED: Final = {f"outputs.{name}": 1 for name in ("slot", "status", "waits")}


def _with_images(records: Iterable[ImageRecord]) -> Document:
    documents = [image_document(record.image) for record in records]
    return {"$concatArrays": ["$$output.images", {"$literal": documents}]}


def _read_waiting(parent: Document, output: Document, viewer_id: ViewerId) -> Waiting:
    return Waiting(
        output_id=output_id_of(parent["_id"], output["slot"]),
        attempt=output["attempt"],
        viewer_id=viewer_id,
        model_id=output["model"],
        fence=output["fence"],
        lease_until=output.get("leaseUntil"),
    )
