"""A naive worker, kept to show that the checker reports violations: `python -m` this.

It is wrong on purpose, and nothing imports it. It takes no claim and has no fence: whatever seems
to be left behind is run again. It keeps no job of the vendor's: what is run again is paid again. It
has no transaction and no deterministic ids: a charge and the picture it is for are separate writes,
each of which may come twice or never. All the rest is production's.
"""

# ruff: noqa: ARG002 - it ignores what it is given about leases

import asyncio
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from assembly import base
from domain.captions import CaptionDelivery
from domain.claims import Claim, Waiting
from domain.credits import Movement, captured, charge_for, released
from domain.ids import ModelId, OutputId, ParentId, ViewerId, output_id_of, parent_of_output
from domain.images import ImageRecord
from domain.outputs import GenerationError, Preview, Report, Run
from storage.mongo.claims import MongoClaimRepository
from storage.mongo.collections import PARENTS, UNFINISHED_PARENT, Document
from storage.mongo.database import Database, repository
from storage.mongo.images import image_document, record_document
from storage.mongo.output_rules import UNFINISHED_OUTPUT, is_slot
from storage.mongo.output_updates import ENDED, change_update
from storage.mongo.parents import read_parent
from storage.mongo.stored_outputs import report_changes
from worker import main

_SEEMS_LEFT = timedelta(seconds=4)
_BETWEEN_TWO_WRITES_SECONDS = 0.05


@repository
class NaiveClaimRepository(MongoClaimRepository):
    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._has_looked = False

    async def find_waiting(self, viewer_id: ViewerId, output_id: OutputId) -> Waiting | None:
        parent_id, slot = parent_of_output(output_id)
        turn = await self._database.of_parent(parent_id).find_one({"_id": parent_id})
        found = (
            [_waiting(turn, one) for one in turn["outputs"] if one["slot"] == slot] if turn else []
        )
        return found[0] if found else None

    async def find_earlier_messages(self, claim: Claim, *, limit: int) -> Sequence[str]:
        return []

    async def list_waiting(
        self,
        model_ids: Iterable[ModelId],
        *,
        begun_only: Iterable[ModelId] = (),
        min_queued: timedelta,
        expired: bool,
        limit: int,
    ) -> Sequence[Waiting]:
        """At first everything that is not over: this process has just been started again."""
        wanted = set(model_ids)
        found = [
            parent
            for name in PARENTS.values()
            async for parent in self._database.collection(name).find({"status": UNFINISHED_PARENT})
        ]
        long_ago = datetime.now(UTC) - (_SEEMS_LEFT if self._has_looked else timedelta(0))
        self._has_looked = True
        return [
            _waiting(turn, output)
            for turn in found
            for output in turn["outputs"]
            if output["status"] in UNFINISHED_OUTPUT
            and output["model"] in wanted
            and turn["updatedAt"] <= long_ago
        ]

    async def claim(self, waiting: Waiting, *, lease: timedelta) -> Claim | None:
        parent_id, slot = parent_of_output(waiting.output_id)
        await self._set(parent_id, slot, {"status": "GENERATING", "startedAt": "$$NOW"})
        found = await self._database.of_parent(parent_id).find_one({"_id": parent_id})
        if found is None:
            return None
        parent, now = read_parent(found), datetime.now(UTC)
        output = parent.output(slot)
        assert output is not None
        return Claim(
            parent=parent, output=output, claimed_at=now, deadline_at=now + timedelta(seconds=180)
        )

    async def renew(self, claim: Claim, *, lease: timedelta) -> bool:
        return True

    async def give_back(self, claim: Claim) -> bool:
        return True

    async def postpone(self, claim: Claim, runs: Sequence[Run], *, delay: timedelta) -> bool:
        await self._set(claim.parent.id, claim.output.slot, {"status": "QUEUED"})
        return True

    async def save_runs(self, claim: Claim, runs: Sequence[Run]) -> bool:
        return True

    async def is_abandoned(self, claim: Claim) -> bool:
        return False

    async def show_progress(
        self,
        claim: Claim,
        *,
        progress: float | None = None,
        queue_position: int | None = None,
        preview: Preview | None = None,
        text: str | None = None,
    ) -> bool:
        await self._set(claim.parent.id, claim.output.slot, {"progress": progress})
        return True

    async def add_images(
        self, claim: Claim, records: Sequence[ImageRecord], report: Report, *, runs: Sequence[Run]
    ) -> bool:
        await self._database.images.insert_many(
            [record_document(claim.parent.owner_id, record) for record in records]
        )
        await asyncio.sleep(_BETWEEN_TWO_WRITES_SECONDS)
        await self._set(claim.parent.id, claim.output.slot, {"images": _with(records)})
        return True

    async def land(
        self, claim: Claim, records: Sequence[ImageRecord], report: Report, *, landed: int = 0
    ) -> bool:
        output, owner_id = claim.output, claim.parent.owner_id
        charged = charge_for(
            output.credits_reserved,
            delivered=landed + len(records),
            asked=claim.parent.options.images_per_model,
        )
        await self._pay(
            claim,
            captured(output.id, output.attempt, output.credits_reserved, charged=charged),
        )
        if records:
            await self._database.images.insert_many(
                [record_document(owner_id, record) for record in records]
            )
        await asyncio.sleep(_BETWEEN_TWO_WRITES_SECONDS)
        changes: Document = {
            **ENDED,
            "status": "COMPLETED",
            "images": _with(records),
            **report_changes(report),
            "preview": None,
            "creditsCharged": charged,
        }
        await self._set(claim.parent.id, output.slot, changes)
        return True

    async def land_caption(
        self, claim: Claim, delivery: CaptionDelivery
    ) -> Sequence[OutputId] | None:
        output, price = claim.output, claim.output.credits_reserved
        await self._pay(claim, captured(output.id, output.attempt, price, charged=price))
        await asyncio.sleep(_BETWEEN_TWO_WRITES_SECONDS)
        changes = {
            **ENDED,
            "status": "COMPLETED",
            **report_changes(delivery),
            "creditsCharged": {"$add": ["$$output.creditsCharged", price]},
        }
        await self._set(claim.parent.id, output.slot, changes)
        for image in claim.parent.outputs:
            await self._set(claim.parent.id, image.slot, {"waits": False})
        await self._database.posts.update_one(
            {"_id": claim.parent.id}, {"$set": {"caption": delivery.text}}
        )
        return [image.id for image in claim.parent.outputs]

    async def fail(self, claim: Claim, error: GenerationError) -> bool:
        output = claim.output
        await self._pay(claim, released(output.id, output.attempt, output.credits_reserved))
        await asyncio.sleep(_BETWEEN_TWO_WRITES_SECONDS)
        error_fields = {"$literal": {"code": error.code.value, "retryable": error.retryable}}
        await self._set(
            claim.parent.id, output.slot, {**ENDED, "status": "FAILED", "error": error_fields}
        )
        return True

    async def end_overdue(self, *, max_queued: timedelta, limit: int) -> Sequence[OutputId]:
        return []

    async def _set(self, parent_id: ParentId, slot: int, changes: Document) -> None:
        await self._database.of_parent(parent_id).update_one(
            {"_id": parent_id}, change_update(is_slot(slot), changes)
        )

    async def _pay(self, claim: Claim, movement: Movement) -> None:
        await self._database.accounts.update_one(
            {"_id": claim.parent.owner_id},
            {
                "$inc": {
                    "balance": movement.balance,
                    "reserved": movement.reserved,
                    "activeOutputs": movement.active_outputs,
                }
            },
        )
        await asyncio.sleep(_BETWEEN_TWO_WRITES_SECONDS)
        await self._database.ledger.insert_one(
            {
                "_id": f"{movement.cause} {movement.kind} {uuid4().hex}",
                "ownerId": claim.parent.owner_id,
                "kind": movement.kind.value,
                "balance": movement.balance,
                "reserved": movement.reserved,
                "activeOutputs": movement.active_outputs,
                "createdAt": datetime.now(UTC),
            }
        )


def _with(records: Sequence[ImageRecord]) -> Document:
    documents = [image_document(record.image) for record in records]
    return {"$concatArrays": ["$$output.images", {"$literal": documents}]}


def _waiting(turn: Document, output: Document) -> Waiting:
    return Waiting(
        output_id=output_id_of(turn["_id"], output["slot"]),
        attempt=output["attempt"],
        viewer_id=turn["ownerId"],
        model_id=output["model"],
        fence=output["fence"],
        lease_until=output.get("leaseUntil"),
    )


def _open_naive(database: Database, *_: object) -> NaiveClaimRepository:
    return NaiveClaimRepository(database)


if __name__ == "__main__":
    assert hasattr(base, "ObservedClaims"), "What is replaced has another name."
    setattr(base, "ObservedClaims", _open_naive)  # noqa: B010 - it is a class
    sys.exit(main())
