"""Root fields of webhooks."""

from typing import Annotated

import strawberry

from schema.context import Info
from schema.errors import Refusable
from schema.webhooks import (
    CreateWebhookInput,
    CreateWebhookPayload,
    DeleteWebhookInput,
    DeleteWebhookPayload,
    ReplayDeliveryInput,
    ReplayDeliveryPayload,
)


@strawberry.type
class WebhookMutations:
    @strawberry.mutation(
        description="Have events sent to a URL from now on, signed as in Standard Webhooks. Keep "
        "the secret: it is not returned again. A viewer can have 10 webhooks.",
        extensions=[Refusable()],
    )
    async def create_webhook(
        self,
        info: Info,
        input: Annotated[
            CreateWebhookInput, strawberry.argument(description="The webhook to make.")
        ],
    ) -> CreateWebhookPayload:
        webhook = await info.context.services.webhooks.create(
            info.context.viewer, url=input.url, events=input.events
        )
        return CreateWebhookPayload(webhook=webhook)

    @strawberry.mutation(
        description="Delete a webhook with its log. Deliveries that wait are not sent any more.",
        extensions=[Refusable()],
    )
    async def delete_webhook(
        self,
        info: Info,
        input: Annotated[
            DeleteWebhookInput, strawberry.argument(description="The webhook to delete.")
        ],
    ) -> DeleteWebhookPayload:
        deleted = await info.context.services.webhooks.delete(info.context.viewer, input.webhook_id)
        return DeleteWebhookPayload(deleted_webhook_id=strawberry.ID(deleted))

    @strawberry.mutation(
        description="Send a delivery again, with the same id and payload, whether it was delivered "
        "or not. It is retried for a day, as a new one is.",
        extensions=[Refusable()],
    )
    async def replay_delivery(
        self,
        info: Info,
        input: Annotated[
            ReplayDeliveryInput, strawberry.argument(description="The delivery to send again.")
        ],
    ) -> ReplayDeliveryPayload:
        replayed = await info.context.services.webhooks.replay(
            info.context.viewer, input.delivery_id
        )
        return ReplayDeliveryPayload(delivery=replayed)
