"""The outbox: deliveries to webhooks, which `events` has written, and which are kept as a log.

A delivery waits while it has `dueAt`. A webhook has one too while something waits for it: when the
next delivery is due, or, while it has `heldBy`, when the lease of the process that delivers ends.
"""

import secrets
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Final

from pymongo import ReturnDocument

from domain.webhooks import (
    MAX_LOGGED,
    MAX_PENDING,
    Answer,
    HeldWebhook,
    Message,
    WebhookEvent,
)
from storage.mongo.collections import Document
from storage.mongo.database import Database, repository
from storage.mongo.output_rules import from_now
from storage.mongo.traces import read_trace

_IS_DUE: Final[Document] = {"dueAt": {"$exists": True}, "$expr": {"$lte": ["$dueAt", "$$NOW"]}}
_WAITS: Final[Document] = {"dueAt": {"$exists": True}}
_SENT: Final = ("subject", "sequence", "event", "createdAt", "facts", "attempts", "dueAt", "trace")
"""The stored fields that sending needs."""
_LOOKED_AT: Final = 8
"""How many due webhooks one search reads: other processes may claim some of them first."""
_MAX_OF_SUBJECTS: Final = 1_000


@repository
class MongoOutboxRepository:
    """See `domain.ports.webhooks.OutboxRepository`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._webhooks = database.webhooks
        self._deliveries = database.deliveries
        self.filled = database.outbox_filled

    async def take(self, *, failing: Collection[bool], lease: timedelta) -> HeldWebhook | None:
        selected = {"failing": {"$in": sorted(failing)}}
        cursor = self._webhooks.find({**selected, **_IS_DUE}).sort("dueAt", 1)
        for hook in await cursor.limit(_LOOKED_AT).to_list():
            hold = secrets.token_hex(8)
            taken = await self._webhooks.update_one(
                {"_id": hook["_id"], "ownerId": hook["ownerId"], "dueAt": hook["dueAt"]},
                [{"$set": {"heldBy": hold, "dueAt": from_now(lease)}}],
            )
            if taken.matched_count:
                return HeldWebhook(
                    id=hook["_id"],
                    owner_id=hook["ownerId"],
                    url=hook["url"],
                    secret=hook["secret"],
                    failing=hook["failing"],
                    hold=hold,
                )
        return None

    async def renew(self, held: HeldWebhook, *, lease: timedelta) -> bool:
        renewed = await self._webhooks.update_one(
            _held_by(held), [{"$set": {"dueAt": from_now(lease)}}]
        )
        return renewed.matched_count == 1

    async def release(self, held: HeldWebhook, *, failing_pause: timedelta) -> None:
        hook = await self._webhooks.find_one(_held_by(held), {"queued": 1})
        if hook is None:
            return
        await self._trim(held)
        many = await self._deliveries.count_documents(
            {**_of(held), **_WAITS}, limit=MAX_PENDING + 1
        )
        if many > MAX_PENDING:
            await self._disable(held, {})
            return
        waiting = await self._deliveries.find_one(
            {**_of(held), **_WAITS}, {"dueAt": 1}, sort=[("dueAt", 1)]
        )
        next_at: object = "$$REMOVE"
        if waiting:
            # Many subjects may be due at once: a receiver that fails is not asked for all of them.
            not_before = {"$max": [waiting["dueAt"], from_now(failing_pause)]}
            next_at = {"$cond": ["$failing", not_before, waiting["dueAt"]]}
        # What has been added since the webhook was read is due at once.
        unchanged = {"$eq": ["$queued", hook["queued"]]}
        await self._webhooks.update_one(
            _held_by(held),
            [
                {
                    "$set": {
                        "dueAt": {"$cond": [unchanged, next_at, "$$NOW"]},
                        "heldBy": "$$REMOVE",
                    }
                }
            ],
        )

    async def find_due(self, held: HeldWebhook, *, limit: int) -> Mapping[str, Sequence[Message]]:
        candidates = (
            await self._deliveries.find({**_of(held), **_IS_DUE}, {"subject": 1})
            .sort("dueAt", 1)
            .limit(limit)
            .to_list()
        )
        subjects = {candidate["subject"] for candidate in candidates}
        if not subjects:
            return {}
        waiting = (
            self._deliveries.find(
                {**_of(held), "subject": {"$in": sorted(subjects)}, **_WAITS},
                {**dict.fromkeys(_SENT, 1), "isDue": {"$lte": ["$dueAt", "$$NOW"]}},
            )
            .sort([("subject", 1), ("sequence", 1)])
            .limit(_MAX_OF_SUBJECTS)
        )
        by_subject: dict[str, list[Document]] = {}
        async for pending in waiting:
            by_subject.setdefault(pending["subject"], []).append(pending)
        ready: dict[str, Sequence[Message]] = {}
        for subject, documents in by_subject.items():
            head = documents[0]
            if head["isDue"]:
                ready[subject] = [_read_message(document) for document in documents]
            else:
                await self._put_behind(held, subject, head)
        return ready

    async def set_delivered(self, held: HeldWebhook, message: Message, answer: Answer) -> None:
        await self._deliveries.update_one(
            _waiting(held, message),
            [
                {
                    "$set": {
                        **_attempted(answer),
                        "deliveredAt": "$$NOW",
                        "dueAt": "$$REMOVE",
                    }
                }
            ],
        )

    async def set_failed(
        self,
        held: HeldWebhook,
        message: Message,
        answer: Answer,
        *,
        pause: timedelta,
        give_up_after: timedelta,
    ) -> bool:
        patience = round(give_up_after.total_seconds() * 1000)
        too_late = {"$lte": [{"$add": ["$since", patience]}, "$$NOW"]}
        after = await self._deliveries.find_one_and_update(
            _waiting(held, message),
            [
                {
                    "$set": {
                        **_attempted(answer),
                        "dueAt": {"$cond": [too_late, "$$REMOVE", from_now(pause)]},
                    }
                }
            ],
            return_document=ReturnDocument.AFTER,
        )
        if after is None or "dueAt" not in after:
            return False
        await self._put_behind(held, message.subject, after)
        return True

    async def set_failing(self, held: HeldWebhook, failing: bool) -> None:
        since = {"$ifNull": ["$failingSince", "$$NOW"]} if failing else "$$REMOVE"
        await self._webhooks.update_one(
            _held_by(held), [{"$set": {"failing": failing, "failingSince": since}}]
        )

    async def disable(self, held: HeldWebhook, *, failing_for: timedelta | None = None) -> bool:
        if failing_for is None:
            return await self._disable(held, {})
        lasting = {"$lte": ["$failingSince", from_now(-failing_for)]}
        return await self._disable(held, {"failing": True, "$expr": lasting})

    async def _disable(self, held: HeldWebhook, condition: Document) -> bool:
        disabled = await self._webhooks.update_one(
            {**_held_by(held), **condition},
            {"$set": {"enabled": False}, "$unset": {"dueAt": "", "heldBy": ""}},
        )
        if disabled.matched_count:
            await self._deliveries.update_many({**_of(held), **_WAITS}, {"$unset": {"dueAt": ""}})
        return disabled.matched_count == 1

    async def _put_behind(self, held: HeldWebhook, subject: str, head: Document) -> None:
        """Let later deliveries of the subject wait for this one."""
        await self._deliveries.update_many(
            {
                **_of(held),
                "subject": subject,
                "sequence": {"$gt": head["sequence"]},
                "dueAt": {"$lt": head["dueAt"]},
            },
            {"$set": {"dueAt": head["dueAt"]}},
        )

    async def _trim(self, held: HeldWebhook) -> None:
        """Delete the oldest deliveries of a long log, but none that waits."""
        newest_first = [("createdAt", -1), ("_id", -1)]
        last = await self._deliveries.find_one(
            _of(held), {"createdAt": 1}, sort=newest_first, skip=MAX_LOGGED
        )
        if last is not None:
            await self._deliveries.delete_many(
                {**_of(held), "createdAt": {"$lte": last["createdAt"]}, "dueAt": None}
            )


def _held_by(held: HeldWebhook) -> Document:
    return {"_id": held.id, "ownerId": held.owner_id, "heldBy": held.hold}


def _of(held: HeldWebhook) -> Document:
    return {"ownerId": held.owner_id, "webhookId": held.id}


def _waiting(held: HeldWebhook, message: Message) -> Document:
    return {"_id": message.id, "ownerId": held.owner_id, **_WAITS}


def _attempted(answer: Answer) -> Document:
    return {
        "attempts": {"$add": ["$attempts", 1]},
        "status": answer.status,
        "error": {"$literal": answer.error},
    }


def _read_message(document: Document) -> Message:
    return Message(
        id=document["_id"],
        subject=document["subject"],
        sequence=document["sequence"],
        event=WebhookEvent(document["event"]),
        happened_at=document["createdAt"],
        facts=document["facts"],
        attempts=document["attempts"],
        trace=read_trace(document),
    )
