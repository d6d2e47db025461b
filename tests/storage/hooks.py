"""Webhooks and their events, written straight into a database, and processes that deliver them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from domain.delivery.deliverer import Deliverer
from domain.ids import ViewerId, new_webhook_id
from domain.outputs import Report
from domain.retries import RetryPolicy
from domain.turns import Turn
from domain.webhooks import DeliveryRules, Webhook, WebhookEvent
from outbound.webhooks import HttpWebhookSender
from storage.mongo.claims import MongoClaimRepository
from storage.mongo.database import Database
from storage.mongo.outbox import MongoOutboxRepository
from storage.mongo.webhooks import MongoWebhookRepository
from tests.storage.builders import ANA, a_claim, a_conversation, a_picture, an_account

SECRET: Final = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
EVERYTHING: Final = tuple(WebhookEvent)
QUICK: Final = DeliveryRules(
    retry=RetryPolicy(first_pause_seconds=0.05, longest_pause_seconds=0.4),
    give_up_after=timedelta(seconds=60),
    request_seconds=20.0,
    lease=timedelta(seconds=60),
    idle_seconds=0.05,
)
"""The rules of a process, but for its pauses: those are a hundred times shorter."""
HASTY: Final = replace(QUICK, request_seconds=0.5, lease=timedelta(seconds=2))
"""Those that also soon give up an answer, for receivers that hang."""


async def a_hook(
    database: Database,
    url: str,
    *,
    events: tuple[WebhookEvent, ...] = EVERYTHING,
    viewer_id: ViewerId = ANA,
) -> Webhook:
    await an_account(database, viewer_id=viewer_id)
    webhook = Webhook(
        id=new_webhook_id(),
        url=url,
        events=events,
        enabled=True,
        created_at=datetime.now(UTC),
        secret=SECRET,
    )
    assert await MongoWebhookRepository(database).create(viewer_id, webhook, at_most=100)
    return webhook


async def a_turn_that_ends(
    database: Database, *, outputs: int = 1, viewer_id: ViewerId = ANA
) -> Turn:
    """One event for each output, and one for the turn."""
    models = [f"model-{number}" for number in range(outputs)]
    _, turn = await a_conversation(database, *models, viewer_id=viewer_id)
    for output in turn.outputs:
        claim = await a_claim(database, output.id, viewer_id=viewer_id)
        assert await MongoClaimRepository(database).land(claim, [a_picture(output.id)], Report())
    return turn


@asynccontextmanager
async def delivering(
    database: Database, rules: DeliveryRules = QUICK, *, max_held: int = 8
) -> AsyncIterator[None]:
    """What a process does, to receivers on this machine."""
    sender = HttpWebhookSender(allows_loopback=True, seconds=rules.request_seconds)
    outbox = MongoOutboxRepository(database)
    try:
        async with Deliverer(outbox, sender, rules=rules, max_held=max_held).serve():
            yield
    finally:
        await sender.aclose()
