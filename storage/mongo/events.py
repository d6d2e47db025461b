"""Writes events into the outbox: deliveries to the webhooks that subscribe to them.

They are written in the transaction of what they are about. Each transaction that adds some counts
them in `queued` of the webhook: the order of the counts is the order of the commits.
"""

from collections.abc import Iterable, Sequence
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
from domain.webhooks import Notice, WebhookEvent, write_time
from storage.mongo.collections import Document
from storage.mongo.stored_posts import StoredPost
from storage.mongo.traces import trace_field
from storage.mongo.transaction import Transaction

_IS_HELD: Final[Document] = {"$gt": ["$heldBy", None]}


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
