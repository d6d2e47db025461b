"""What a worker does to outputs: find, claim, hold, and bring to an end, money included.

Every write after the claim names its fence, and matches nothing once another worker has claimed.
Every filter names the turn's owner, the shard key, except those of the two searches that read the
unfinished turns of all viewers: `list_waiting` and `end_overdue`.
"""

from collections.abc import Iterable, Sequence
from datetime import timedelta

from pymongo import ReturnDocument

from domain.conflicts import Conflict
from domain.credits import captured, charge_for, released
from domain.execution.rules import TIMED_OUT
from domain.ids import (
    ModelId,
    OutputId,
    ViewerId,
    output_id_of,
    turn_id_range,
    turn_of_output,
)
from domain.images import ImageRecord
from domain.outputs import GenerationError, Preview, Report, Run
from domain.turns import Claim, Waiting
from storage.mongo.accounts import move_credits, releases
from storage.mongo.collections import UNFINISHED_TURN, Document
from storage.mongo.database import Database, repository
from storage.mongo.images import image_document, record_document
from storage.mongo.output_rules import (
    FOUND,
    IS_CLAIMABLE,
    IS_WAITING,
    any_output,
    from_now,
    furthest_runs,
    in_fair_order,
    is_as_found,
    is_overdue,
    is_slot,
    is_wanted,
    writable_by,
)
from storage.mongo.output_updates import ENDED, claim_changes, moving, set_on_outputs
from storage.mongo.outputs import preview_document, report_changes
from storage.mongo.transaction import Abort, SessionCollection, Transaction
from storage.mongo.turns import read_turn


@repository
class MongoClaimRepository:
    """See `domain.ports.ClaimRepository`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._turns = database.turns

    async def find_waiting(self, viewer_id: ViewerId, output_id: OutputId) -> Waiting | None:
        turn_id, slot = turn_of_output(output_id)
        waits = {"$and": [is_slot(slot), IS_WAITING]}
        found = await self._turns.find_one(
            {"_id": turn_id, "ownerId": viewer_id, "$expr": any_output(waits)},
            {f"outputs.{name}": 1 for name in FOUND},
        )
        if found is None:
            return None
        return _read_waiting(
            found, next(one for one in found["outputs"] if one["slot"] == slot), viewer_id
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
            _read_waiting(found, found["output"], found["ownerId"])
            async for found in await self._turns.aggregate([*stages, {"$limit": limit}])
        ]

    async def claim(self, waiting: Waiting, *, lease: timedelta) -> Claim | None:
        turn_id, slot = turn_of_output(waiting.output_id)
        claimable = {"$and": [is_slot(slot), IS_CLAIMABLE, *is_as_found(waiting)]}
        found = await self._turns.find_one_and_update(
            {"_id": turn_id, "ownerId": waiting.viewer_id, "$expr": any_output(claimable)},
            moving(is_slot(slot), claim_changes(lease)),
            return_document=ReturnDocument.AFTER,
        )
        if found is None:
            return None
        turn = read_turn(found)
        embedded = next(one for one in found["outputs"] if one["slot"] == slot)
        output = turn.output(slot)
        assert output is not None
        return Claim(
            turn=turn,
            output=output,
            # The database's time of the claim.
            claimed_at=embedded["leaseUntil"] - lease,
            deadline_at=embedded["deadlineAt"],
        )

    async def earlier_messages(self, claim: Claim, *, limit: int) -> Sequence[str]:
        first, _ = turn_id_range(claim.turn.conversation_id)
        earlier = {
            "_id": {"$gte": first, "$lt": claim.turn.id},
            "ownerId": claim.turn.owner_id,
        }
        cursor = self._turns.find(earlier, {"userMessage": 1}).sort("_id", -1).limit(limit)
        return [found["userMessage"] async for found in cursor][::-1]

    async def renew(self, claim: Claim, *, lease: timedelta) -> bool:
        # A renewal that arrives after the output was given back must not hold it again.
        query = writable_by(claim, leaseUntil={"$ne": None})
        return await self._write_unseen(claim, {"leaseUntil": from_now(lease)}, query)

    async def give_back(self, claim: Claim) -> bool:
        return await self._write_unseen(claim, {"leaseUntil": None})

    async def postpone(self, claim: Claim, runs: Sequence[Run], *, delay: timedelta) -> bool:
        later = {"leaseUntil": None, "notBefore": from_now(delay)}
        return await self._write_unseen(claim, {"runs": furthest_runs(runs), **later})

    async def save_runs(self, claim: Claim, runs: Sequence[Run]) -> bool:
        return await self._write_unseen(claim, {"runs": furthest_runs(runs)})

    async def is_abandoned(self, claim: Claim) -> bool:
        return await self._turns.find_one(is_wanted(claim), {"_id": 1}) is None

    async def show_progress(
        self,
        claim: Claim,
        *,
        progress: float | None = None,
        queue_position: int | None = None,
        preview: Preview | None = None,
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
        return await self._write_seen(claim, changes)

    async def land(self, claim: Claim, records: Sequence[ImageRecord], report: Report) -> bool:
        output = claim.output
        charged = charge_for(
            output.credits_reserved,
            delivered=len(records),
            asked=claim.turn.options.images_per_model,
        )
        changes: Document = {
            **ENDED,
            "status": "COMPLETED",
            "images": {"$literal": [image_document(record.image) for record in records]},
            **report_changes(report),
            "preview": None,
            "creditsCharged": charged,
        }
        documents = [record_document(claim.turn.owner_id, record) for record in records]
        movement = captured(output.id, output.attempt, output.credits_reserved, charged=charged)

        async def work(transaction: Transaction) -> bool:
            if not await self._write_seen(claim, changes, turns=transaction.turns):
                raise Abort(Conflict.STALE)
            await transaction.images.insert_many(documents)
            await move_credits(transaction, claim.turn.owner_id, movements=[movement])
            return True

        done = await self._database.transact(work, account=claim.turn.owner_id)
        return not isinstance(done, Conflict)

    async def fail(self, claim: Claim, error: GenerationError) -> bool:
        output = claim.output
        movement = released(output.id, output.attempt, output.credits_reserved)

        async def work(transaction: Transaction) -> bool:
            if not await self._write_seen(claim, _failed(error), turns=transaction.turns):
                raise Abort(Conflict.STALE)
            await move_credits(transaction, claim.turn.owner_id, movements=[movement])
            return True

        done = await self._database.transact(work, account=claim.turn.owner_id)
        return not isinstance(done, Conflict)

    async def end_overdue(self, *, max_queued: timedelta, limit: int) -> Sequence[OutputId]:
        overdue = is_overdue(max_queued)
        stages: list[Document] = [
            {"$match": {"status": UNFINISHED_TURN}},
            {"$match": {"$expr": any_output(overdue)}},
            {"$limit": limit},
            {"$project": {"ownerId": 1, "outputs.slot": 1}},
        ]
        ended: list[OutputId] = []
        async for found in await self._turns.aggregate(stages):
            for output in found["outputs"]:
                if await self._end_one(found, output["slot"], overdue):
                    ended.append(output_id_of(found["_id"], output["slot"]))
        return ended

    async def _end_one(self, turn: Document, slot: int, overdue: Document) -> bool:
        which = {"$and": [is_slot(slot), overdue]}

        async def work(transaction: Transaction) -> bool:
            before = await transaction.turns.find_one_and_update(
                {"_id": turn["_id"], "ownerId": turn["ownerId"], "$expr": any_output(which)},
                moving(which, _failed(TIMED_OUT)),
            )
            if before is None:
                raise Abort(Conflict.STALE)
            ended = [output for output in before["outputs"] if output["slot"] == slot]
            await move_credits(transaction, turn["ownerId"], movements=releases(turn["_id"], ended))
            return True

        done = await self._database.transact(work, account=turn["ownerId"])
        return not isinstance(done, Conflict)

    async def _write_seen(
        self, claim: Claim, changes: Document, *, turns: SessionCollection | None = None
    ) -> bool:
        """Write what clients see: it raises the versions and notifies subscribers."""
        result = await (turns or self._turns).update_one(
            writable_by(claim), moving(is_slot(claim.output.slot), changes)
        )
        return result.matched_count == 1

    async def _write_unseen(
        self, claim: Claim, changes: Document, query: Document | None = None
    ) -> bool:
        """Write what no client sees: it raises no version and notifies no subscriber."""
        update = [set_on_outputs(is_slot(claim.output.slot), changes)]
        result = await self._turns.update_one(query or writable_by(claim), update)
        return result.matched_count == 1


def _failed(error: GenerationError) -> Document:
    return {
        **ENDED,
        "status": "FAILED",
        "error": {"$literal": {"code": error.code.value, "retryable": error.retryable}},
    }


def _read_waiting(turn: Document, output: Document, viewer_id: ViewerId) -> Waiting:
    return Waiting(
        output_id=output_id_of(turn["_id"], output["slot"]),
        attempt=output["attempt"],
        viewer_id=viewer_id,
        model_id=output["model"],
        fence=output["fence"],
        lease_until=output.get("leaseUntil"),
    )
