"""The outbox: deliveries to webhooks, written with the events that they are about, and kept as a
log.

A delivery waits while it has `dueAt`. A webhook has one too while something waits for it: when the
next delivery is due, or, while it has `heldBy`, when the lease of the process that delivers ends.
`queued` counts a webhook's events, so that each transaction that adds some writes to the webhook:
the order of the counts is the order of the commits.
"""

import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Final

from pymongo import ReturnDocument

from domain.ids import (
    ParentId,
    ViewerId,
    WebhookId,
    as_turn_id,
    conversation_of_turn,
    new_delivery_id,
    output_id_of,
)
from domain.outputs import CAPTION_SLOT
from domain.webhooks import (
    MAX_LOGGED,
    MAX_PENDING,
    Answer,
    HeldWebhook,
    Message,
    Notice,
    WebhookEvent,
    write_time,
)
from storage.mongo.collections import Document
from storage.mongo.database import Database, repository
from storage.mongo.output_rules import from_now
from storage.mongo.stored_posts import StoredPost
from storage.mongo.traces import read_trace, trace_field
from storage.mongo.transaction import Transaction

_IS_DUE: Final[Document] = {"dueAt": {"$exists": True}, "$expr": {"$lte": ["$dueAt", "$$NOW"]}}
_IS_HELD: Final[Document] = {"$gt": ["$heldBy", None]}
_WAITS: Final[Document] = {"dueAt": {"$exists": True}}
_SENT: Final = ("subject", "sequence", "event", "createdAt", "facts", "attempts", "dueAt", "trace")
"""The stored fields that sending needs."""
_LOOKED_AT: Final = 8
"""How many due webhooks one search reads: other processes may claim some of them first."""
_MAX_OF_SUBJECTS: Final = 1_000


async def announce(transaction: Transaction, owner_id: ViewerId, notices: Sequence[Notice]) -> None:
    """Add events to the outbox, in the transaction of what they are about.

    They are added for those of the owner's webhooks that subscribe to them.
    """
    wanted = {"$in": sorted({notice.event.value for notice in notices})}
    hooks = transaction.webhooks.find(
        {"ownerId": owner_id, "enabled": True, "events": wanted}, {"events": 1}
    )
    for hook in await hooks.to_list():
        its = [notice for notice in notices if notice.event.value in hook["events"]]
        queued = await make_due(transaction, owner_id, hook["_id"], adding=len(its))
        assert queued is not None
        await transaction.deliveries.insert_many(
            _new_delivery(owner_id, hook["_id"], notice=notice, sequence=sequence)
            for sequence, notice in enumerate(its, start=queued - len(its) + 1)
        )


async def make_due(
    transaction: Transaction, owner_id: ViewerId, webhook_id: WebhookId, *, adding: int = 1
) -> int | None:
    """Count events of a webhook and mark it as due. Return how many there have been; None if there
    is no such webhook, or it is disabled.
    """
    counted = await transaction.webhooks.find_one_and_update(
        {"_id": webhook_id, "ownerId": owner_id, "enabled": True},
        [
            {
                "$set": {
                    "queued": {"$add": ["$queued", adding]},
                    # The lease of a process that delivers: it looks again before the lease ends.
                    "dueAt": {"$cond": [_IS_HELD, "$dueAt", "$$NOW"]},
                }
            }
        ],
        return_document=ReturnDocument.AFTER,
    )
    if counted is None:
        return None
    transaction.fills_outbox = True
    return int(counted["queued"])


async def wants_any(transaction: Transaction, owner_id: ViewerId) -> bool:
    """Whether the owner has any webhooks, so that events have to be prepared."""
    return await transaction.webhooks.find_one({"ownerId": owner_id, "enabled": True}) is not None


async def announce_ends(
    transaction: Transaction, owner_id: ViewerId, parent_id: ParentId, *, slots: Iterable[int]
) -> None:
    """Announce that outputs of a parent have just ended, and the parent if its last output has.

    Call it after the write that ended them, and before credits are moved.
    """
    if not await wants_any(transaction, owner_id):
        return
    parent = await transaction.of_parent(parent_id).find_one(
        {"_id": parent_id, "ownerId": owner_id}
    )
    if parent is not None:
        await announce(transaction, owner_id, _notices_of(parent, set(slots)))


def _notices_of(parent: Document, slots: set[int]) -> list[Notice]:
    outputs = [each for each in parent["outputs"] if each["slot"] != CAPTION_SLOT]
    notices = [
        _notice_of_landing(parent, output)
        for output in outputs
        if output["slot"] in slots and output["status"] == "COMPLETED"
    ]
    if parent["completedAt"] is not None:
        notices.append(_notice_of_end(parent, outputs))
    return notices


def _notice_of_landing(parent: Document, output: Document) -> Notice:
    return Notice(
        event=WebhookEvent.OUTPUT_LANDED,
        subject=parent["_id"],
        happened_at=output["completedAt"],
        facts={
            **_facts_of(parent),
            "outputId": output_id_of(parent["_id"], output["slot"]),
            "status": output["status"],
            "attempt": output["attempt"],
            "modelId": output["model"],
            "imageIds": [image["id"] for image in output["images"]],
            "completedAt": write_time(output["completedAt"]),
        },
    )


def _notice_of_end(parent: Document, outputs: Sequence[Document]) -> Notice:
    is_turn = as_turn_id(parent["_id"]) is not None
    status = parent["status"] if is_turn else StoredPost.of(parent).status.value
    return Notice(
        event=WebhookEvent.TURN_ENDED if is_turn else WebhookEvent.POST_ENDED,
        subject=parent["_id"],
        happened_at=parent["completedAt"],
        facts={
            **_facts_of(parent),
            "status": status,
            "outputs": [
                {"id": output_id_of(parent["_id"], output["slot"]), "status": output["status"]}
                for output in outputs
            ],
            "createdAt": write_time(parent["createdAt"]),
            "completedAt": write_time(parent["completedAt"]),
        },
    )


def _facts_of(parent: Document) -> Document:
    """Whom and what an event is about."""
    facts: Document = {"viewerId": parent["ownerId"]}
    turn_id = as_turn_id(parent["_id"])
    if turn_id is None:
        return facts | {"postId": parent["_id"]}
    return facts | {"conversationId": conversation_of_turn(turn_id), "turnId": turn_id}


def _new_delivery(
    owner_id: ViewerId, webhook_id: str, *, notice: Notice, sequence: int
) -> Document:
    return {
        "_id": new_delivery_id(),
        "ownerId": owner_id,
        "webhookId": webhook_id,
        "sequence": sequence,
        "subject": notice.subject,
        "event": notice.event.value,
        "facts": notice.facts,
        **trace_field(),
        "createdAt": notice.happened_at,
        "since": notice.happened_at,
        "dueAt": notice.happened_at,
        "attempts": 0,
        "status": None,
        "error": None,
        "deliveredAt": None,
    }


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
