"""Webhooks: where a server of the viewer's is notified, and what was sent to it."""

from datetime import datetime
from typing import Annotated, ClassVar, TypeAlias

import strawberry

from domain import webhooks
from schema.connections import Connection, Cursor, First, ListPage, page_request
from schema.context import Info
from schema.enums import described_enum
from schema.errors import Payload

described_enum(
    webhooks.WebhookEvent,
    "What a webhook is notified of.",
    TURN_ENDED="The last output of a turn has ended: completed, failed or cancelled. After "
    "`retryOutput` the turn ends again. In the payload: `turn.ended`.",
    OUTPUT_LANDED="An output has completed, and its images can be fetched. In the payload: "
    "`output.landed`.",
    POST_ENDED="The last output of a post has ended. In the payload: `post.ended`.",
)


@strawberry.type(description="One event that was, or is to be, sent to a webhook.")
class Delivery:
    source: ClassVar[type] = webhooks.Delivery

    id: strawberry.ID = strawberry.field(
        description="The id of the delivery. It is the header `webhook-id` of every attempt, so "
        "that a receiver recognises repetitions."
    )
    event: webhooks.WebhookEvent = strawberry.field(description="What it reports.")
    status: int | None = strawberry.field(
        description="The HTTP status of the answer to the latest attempt. Null before the first "
        "attempt, and where no answer came."
    )
    error: str | None = strawberry.field(
        description="Why the latest attempt failed. Null if it succeeded, and before the first one."
    )
    attempts: int = strawberry.field(description="How many times it has been sent.")
    created_at: datetime = strawberry.field(description="When the event happened.")
    delivered_at: datetime | None = strawberry.field(
        description="When the receiver accepted it, with any status from 200 to 299. Null while it "
        "has not, or if it was given up."
    )


DeliveryConnection: TypeAlias = Connection[Delivery]


@strawberry.type(
    description="A URL that is sent events, signed as in Standard Webhooks (standardwebhooks.com)."
)
class Webhook:
    source: ClassVar[type] = webhooks.Webhook

    id: strawberry.ID = strawberry.field(description="The id of the webhook.")
    url: str = strawberry.field(description="Where events are sent, with POST.")
    events: list[webhooks.WebhookEvent] = strawberry.field(description="What it is notified of.")
    enabled: bool = strawberry.field(
        description="Whether events are still sent. False once nothing could be delivered for a "
        "day, too many deliveries were waiting, or the receiver has answered 410; `deliveries` "
        "says why. Make a new webhook then."
    )
    secret: str | None = strawberry.field(
        description="The secret that signatures are verified with. It is only returned by "
        "`createWebhook`, and null otherwise."
    )

    @strawberry.field(
        graphql_type=DeliveryConnection,
        description="The log: the latest 1,000 deliveries of the last 30 days, newest first.",
    )
    @staticmethod
    async def deliveries(
        webhook: strawberry.Parent[webhooks.Webhook],
        info: Info,
        first: First = strawberry.UNSET,
        after: Cursor = strawberry.UNSET,
    ) -> ListPage[webhooks.Delivery]:
        viewer = info.context.viewer
        name = f"deliveries {viewer.id} {webhook.id}"
        request = page_request(info, name, first=first, after=after)
        page = await info.context.services.webhooks.page(viewer, webhook.id, request)
        return ListPage(page, name, info.context.services.page_cursors)


@strawberry.input(description="The input of `createWebhook`.")
class CreateWebhookInput:
    url: str = strawberry.field(
        description="An https URL with a public address; a host's name is resolved at each "
        "delivery. In development it may also be http to this machine, such as "
        "`http://127.0.0.1:9000/`."
    )
    events: list[webhooks.WebhookEvent] = strawberry.field(
        description="What to be notified of: at least one event."
    )


@strawberry.type(description="The result of `createWebhook`.")
class CreateWebhookPayload(Payload):
    webhook: Annotated[
        webhooks.Webhook | None,
        strawberry.field(
            graphql_type=Webhook | None,
            description="The new webhook, with its secret. Null if the mutation was refused.",
        ),
    ] = None


@strawberry.input(description="The input of `deleteWebhook`.")
class DeleteWebhookInput:
    webhook_id: strawberry.ID = strawberry.field(description="The id of the webhook.")


@strawberry.type(description="The result of `deleteWebhook`.")
class DeleteWebhookPayload(Payload):
    deleted_webhook_id: strawberry.ID | None = strawberry.field(
        default=None,
        description="The id of the deleted webhook. Null if the mutation was refused.",
    )


@strawberry.input(description="The input of `replayDelivery`.")
class ReplayDeliveryInput:
    delivery_id: strawberry.ID = strawberry.field(description="The id of the delivery.")


@strawberry.type(description="The result of `replayDelivery`.")
class ReplayDeliveryPayload(Payload):
    delivery: Annotated[
        webhooks.Delivery | None,
        strawberry.field(
            graphql_type=Delivery | None,
            description="The delivery, which waits to be sent. Null if the mutation was refused.",
        ),
    ] = None
