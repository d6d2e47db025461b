"""Webhooks as documents, and the log of their deliveries as their owners see it."""

from collections.abc import Sequence

from pymongo import ReturnDocument

from domain.conflicts import Conflict
from domain.ids import DeliveryId, ViewerId, WebhookId
from domain.pages import Page, PageRequest
from domain.webhooks import Delivery, Webhook, WebhookEvent
from storage.mongo.collections import Document
from storage.mongo.credits import touch_account
from storage.mongo.database import Database, repository
from storage.mongo.events import make_due
from storage.mongo.pages import beyond, read_page
from storage.mongo.transaction import Abort, Transaction


@repository
class MongoWebhookRepository:
    """See `domain.ports.webhooks.WebhookRepository`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, viewer_id: ViewerId, webhook: Webhook, *, at_most: int) -> bool:
        async def work(transaction: Transaction) -> None:
            await touch_account(transaction, viewer_id, "webhookAt")
            owned = {"ownerId": viewer_id}
            if await transaction.webhooks.count_documents(owned, limit=at_most) >= at_most:
                raise Abort(Conflict.LIMIT_REACHED)
            await transaction.webhooks.insert_one(
                {
                    "_id": webhook.id,
                    "ownerId": viewer_id,
                    "url": webhook.url,
                    "events": [event.value for event in webhook.events],
                    "enabled": webhook.enabled,
                    "secret": webhook.secret,
                    "failing": False,
                    "queued": 0,
                    "createdAt": webhook.created_at,
                }
            )

        created = await self._database.transact(work, account=viewer_id)
        return not isinstance(created, Conflict)

    async def list(self, viewer_id: ViewerId) -> Sequence[Webhook]:
        cursor = self._database.webhooks.find({"ownerId": viewer_id}, {"secret": 0})
        return [
            _read_webhook(document)
            async for document in cursor.sort([("createdAt", 1), ("_id", 1)])
        ]

    async def delete(self, viewer_id: ViewerId, webhook_id: WebhookId) -> bool:
        deleted = await self._database.webhooks.delete_one(
            {"_id": webhook_id, "ownerId": viewer_id}
        )
        # Also where it was deleted before: an earlier request may have been interrupted in between.
        await self._database.deliveries.delete_many({"ownerId": viewer_id, "webhookId": webhook_id})
        return deleted.deleted_count == 1

    async def page(
        self, viewer_id: ViewerId, webhook_id: WebhookId, request: PageRequest
    ) -> Page[Delivery]:
        query = {"ownerId": viewer_id, "webhookId": webhook_id, **beyond(request, "createdAt")}
        cursor = self._database.deliveries.find(query, {"facts": 0})
        return await read_page(cursor, request, sorted_by="createdAt", read=_read_delivery)

    async def replay(self, viewer_id: ViewerId, delivery_id: DeliveryId) -> Delivery | None:
        async def work(transaction: Transaction) -> Delivery:
            document = await transaction.deliveries.find_one_and_update(
                {"_id": delivery_id, "ownerId": viewer_id},
                [{"$set": {"dueAt": "$$NOW", "since": "$$NOW", "deliveredAt": None}}],
                return_document=ReturnDocument.AFTER,
            )
            if document is None or not await make_due(
                transaction, viewer_id, WebhookId(document["webhookId"])
            ):
                raise Abort(Conflict.STALE)
            return _read_delivery(document)

        replayed = await self._database.transact(work)
        return None if isinstance(replayed, Conflict) else replayed.result


def _read_webhook(document: Document) -> Webhook:
    return Webhook(
        id=document["_id"],
        url=document["url"],
        events=tuple(WebhookEvent(event) for event in document["events"]),
        enabled=document["enabled"],
        created_at=document["createdAt"],
    )


def _read_delivery(document: Document) -> Delivery:
    return Delivery(
        id=document["_id"],
        webhook_id=document["webhookId"],
        event=WebhookEvent(document["event"]),
        status=document["status"],
        error=document["error"],
        attempts=document["attempts"],
        created_at=document["createdAt"],
        delivered_at=document["deliveredAt"],
    )
