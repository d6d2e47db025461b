"""The outbox: written with the state, delivered at least once, in order, fairly, with a limit."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from starlette.responses import Response

from domain.delivery.deliverer import MAX_REQUESTS
from domain.errors import GenerationErrorCode
from domain.ids import ViewerId, new_delivery_id, viewer_id_of
from domain.outputs import GenerationError
from domain.pages import PageRequest
from domain.ports.webhooks import OutboxRepository
from domain.retries import RetryPolicy
from domain.webhooks import MAX_LOGGED, MAX_PENDING, Delivery, Webhook, WebhookEvent
from storage.mongo.claims import MongoClaimRepository
from storage.mongo.collections import Document
from storage.mongo.database import Database
from storage.mongo.outbox import MongoOutboxRepository
from storage.mongo.webhooks import MongoWebhookRepository
from tests.receivers import Received, Receiver, a_receiver, fail, hang
from tests.storage.builders import ANA, EXPIRED, LONG, a_claim, a_conversation
from tests.storage.hooks import HASTY, QUICK, SECRET, a_hook, a_turn_that_ends, delivering
from tests.storage.plans import profiled
from tests.waits import PATIENCE_SECONDS, eventually

SLOW = RetryPolicy(first_pause_seconds=30.0, longest_pause_seconds=30.0)
AT_ONCE = timedelta(0)
BOB = viewer_id_of("tests", "bob")


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with a_receiver() as receiver:
        yield receiver


@pytest.fixture
def outbox(database: Database) -> OutboxRepository:
    return MongoOutboxRepository(database)


async def deliveries(database: Database, webhook: Webhook) -> list[Delivery]:
    page = await MongoWebhookRepository(database).page(ANA, webhook.id, PageRequest(100))
    return list(page.items)


async def until_nothing_waits(database: Database) -> None:
    async def nothing_waits() -> bool:
        return await database.deliveries.find_one({"dueAt": {"$exists": True}}) is None

    await eventually(nothing_waits, what="nothing waits")


async def in_order(database: Database, webhook: Webhook) -> dict[str, list[str]]:
    """What was to be delivered, by subject."""
    found: dict[str, list[str]] = {}
    async for one in database.deliveries.find({"webhookId": webhook.id}).sort("sequence", 1):
        found.setdefault(one["subject"], []).append(one["_id"])
    return found


def waiting(webhook: Webhook, number: int, **facts: object) -> Document:
    """A delivery, as an end of a turn writes it."""
    then = datetime.now(UTC) - timedelta(seconds=10_000 - number)
    return {
        "_id": new_delivery_id(),
        "ownerId": ANA,
        "webhookId": webhook.id,
        "sequence": number,
        "subject": f"turn_{number}",
        "event": "TURN_ENDED",
        "facts": {"turnId": f"turn_{number}"},
        "createdAt": then,
        "since": then,
        "dueAt": then,
        "attempts": 0,
        "status": None,
        "error": None,
        "deliveredAt": None,
        **facts,
    }


async def test_a_finished_turn_and_its_events_are_written_atomically(
    database: Database,
) -> None:
    webhook = await a_hook(database, "https://hooks.example.com/")
    claims = MongoClaimRepository(database)
    _, turn = await a_conversation(database, "one", "two")
    stale = await a_claim(database, turn.outputs[0].id, lease=EXPIRED)
    current = await a_claim(database, turn.outputs[0].id)
    failure = GenerationError(GenerationErrorCode.INTERNAL, retryable=True)

    assert not await claims.fail(stale, failure)
    assert await deliveries(database, webhook) == []
    assert await claims.fail(current, failure)
    assert await deliveries(database, webhook) == []  # one output runs, and none has landed
    assert await claims.fail(await a_claim(database, turn.outputs[1].id), failure)

    (ended,) = await deliveries(database, webhook)
    assert (ended.event, ended.attempts) == (WebhookEvent.TURN_ENDED, 0)
    assert await database.deliveries.count_documents({}) == 1


async def test_overdue_outputs_send_events(database: Database) -> None:
    webhook = await a_hook(database, "https://hooks.example.com/")
    await a_conversation(database, "one", "two")

    ended = await MongoClaimRepository(database).end_overdue(max_queued=timedelta(0), limit=10)

    assert len(ended) == 2
    (one,) = await deliveries(database, webhook)
    assert one.event is WebhookEvent.TURN_ENDED


async def test_order_is_kept_for_each_turn_while_attempts_fail(
    database: Database, receiver: Receiver
) -> None:
    webhook = await a_hook(database, receiver.url + "/")
    attempts: Counter[str] = Counter()

    async def fail_at_first(one: Received) -> Response:
        attempts[one.id] += 1
        return Response(status_code=503 if attempts[one.id] <= ord(one.id[-1]) % 3 else 200)

    receiver.scripts["/"] = fail_at_first
    async with delivering(database):
        for _ in range(4):
            await a_turn_that_ends(database, outputs=3)
        await until_nothing_waits(database)

    expected = await in_order(database, webhook)
    assert receiver.ids_by_subject() == expected
    assert [len(ids) for ids in expected.values()] == [4] * 4
    accepted = [one.id for one in receiver.received]
    assert set(accepted) == {one for ids in expected.values() for one in ids}
    assert all(one.delivered_at for one in await deliveries(database, webhook))
    for one in receiver.received:
        one.verify(SECRET)


async def test_later_deliveries_wait_only_for_the_first_of_their_own_turn(
    database: Database, receiver: Receiver
) -> None:
    await a_hook(database, receiver.url + "/")
    blocked = await a_turn_that_ends(database)

    async def fail_for_one(one: Received) -> Response:
        return Response(status_code=500 if blocked.id.encode() in one.body else 200)

    receiver.scripts["/"] = fail_for_one
    async with delivering(database, replace(QUICK, retry=SLOW)):
        await receiver.until_received(1)
        other = await a_turn_that_ends(database)
        await receiver.until(lambda: len(receiver.ids_by_subject().get(other.id, [])) == 2)

    assert len(receiver.ids_by_subject()[blocked.id]) == 1


async def test_receivers_that_hang_do_not_delay_others(
    database: Database, receiver: Receiver
) -> None:
    receiver.scripts["/hang"] = hang
    for _ in range(3):
        await a_hook(database, receiver.url + "/hang")
    for _ in range(5):
        await a_turn_that_ends(database)

    async def all_fail() -> bool:
        return await database.webhooks.count_documents({"failing": True}) == 3

    async with delivering(database, HASTY, max_held=2):
        await eventually(all_fail, what="each has failed once")
        await receiver.until(lambda: len(receiver.of("/hang")) >= 6)
    # Now each would hold its slot for longer than the test waits.
    forever = replace(QUICK, request_seconds=3600, lease=timedelta(hours=2))
    before = len(receiver.of("/hang"))
    async with delivering(database, forever, max_held=2):
        await receiver.until(lambda: len(receiver.of("/hang")) >= before + 2)
        await a_hook(database, receiver.url + "/", viewer_id=BOB)
        await a_turn_that_ends(database, viewer_id=BOB)
        await receiver.until_received(2)


async def test_two_processes_share_the_deliveries_and_send_nothing_twice(
    database: Database, receiver: Receiver
) -> None:
    hooks = [await a_hook(database, f"{receiver.url}/{number}") for number in range(3)]

    async with delivering(database), delivering(database):
        for _ in range(5):  # All at once, they would wait for one another longer than they may.
            await a_turn_that_ends(database)
        await until_nothing_waits(database)

    for number, webhook in enumerate(hooks):
        assert receiver.ids_by_subject(f"/{number}") == await in_order(database, webhook)
    assert len(receiver.received) == 3 * 10


async def test_a_webhook_is_claimed_by_one_process_until_its_lease_expires(
    database: Database, outbox: OutboxRepository
) -> None:
    await a_hook(database, "https://hooks.example.com/")
    assert await outbox.take(failing=[False], lease=LONG) is None
    await a_turn_that_ends(database)

    first = await outbox.take(failing=[False], lease=EXPIRED)
    assert first is not None
    assert await outbox.take(failing=[True], lease=LONG) is None
    second = await outbox.take(failing=[False], lease=LONG)
    assert second is not None
    await a_turn_that_ends(database)

    assert second.hold != first.hold
    assert await outbox.take(failing=[False], lease=LONG) is None
    assert not await outbox.renew(first, lease=LONG)
    assert not await outbox.disable(first)
    await outbox.release(first, failing_pause=AT_ONCE)
    assert await outbox.take(failing=[False], lease=LONG) is None
    assert await outbox.renew(second, lease=LONG)
    await outbox.release(second, failing_pause=AT_ONCE)
    assert await outbox.take(failing=[False], lease=LONG) is not None


async def test_a_delivery_added_while_its_webhook_is_released_is_sent(
    database: Database, outbox: OutboxRepository
) -> None:
    await a_hook(database, "https://hooks.example.com/")
    await a_turn_that_ends(database)
    for _ in range(10):
        held = await outbox.take(failing=[False], lease=LONG)
        assert held is not None
        for messages in (await outbox.find_due(held, limit=100)).values():
            for message in messages:
                await database.deliveries.update_one({"_id": message.id}, {"$unset": {"dueAt": ""}})

        await asyncio.gather(
            outbox.release(held, failing_pause=AT_ONCE), a_turn_that_ends(database)
        )


async def test_events_of_this_process_are_delivered_without_a_periodic_search(
    database: Database, receiver: Receiver
) -> None:
    """Also those that are added while the process delivers to the webhook."""
    answering = asyncio.Event()

    async def accept_later(_: Received) -> Response:
        await answering.wait()
        return Response(status_code=204)

    receiver.scripts["/"] = accept_later
    await a_hook(database, f"{receiver.url}/", events=(WebhookEvent.TURN_ENDED,))

    async with delivering(database, replace(QUICK, idle_seconds=10 * PATIENCE_SECONDS)):
        await a_turn_that_ends(database)
        await receiver.until_received(1)
        await a_turn_that_ends(database)
        answering.set()
        await receiver.until_received(2)


async def test_a_receiver_that_fails_is_not_asked_for_all_that_is_due(
    database: Database, receiver: Receiver
) -> None:
    receiver.scripts["/"] = fail
    await a_hook(database, f"{receiver.url}/", events=(WebhookEvent.TURN_ENDED,))
    for _ in range(3 * MAX_REQUESTS):
        await a_turn_that_ends(database)

    async with delivering(database, replace(QUICK, retry=SLOW, idle_seconds=PATIENCE_SECONDS)):
        await receiver.until_received(1)
        await asyncio.sleep(0.5)

    assert len(receiver.received) <= MAX_REQUESTS


async def test_an_undeliverable_event_is_given_up_and_disables_the_webhook(
    database: Database, receiver: Receiver
) -> None:
    receiver.scripts["/"] = fail
    webhook = await a_hook(database, receiver.url + "/")
    # The first attempt may come as late as the longest pause, on a busy machine too.
    retry = RetryPolicy(first_pause_seconds=0.05, longest_pause_seconds=2.5)
    impatient = replace(QUICK, give_up_after=timedelta(seconds=3), retry=retry)
    await a_turn_that_ends(database, outputs=2)

    async with delivering(database, impatient):

        async def is_disabled() -> bool:
            (found,) = await MongoWebhookRepository(database).list(ANA)
            return not found.enabled

        await eventually(is_disabled, what="it is disabled")
    await a_turn_that_ends(database)

    *behind, first = await deliveries(database, webhook)
    assert len(behind) == 2
    assert (first.status, first.error) == (500, "The answer was HTTP 500.")
    assert first.attempts > 1
    assert [one.attempts for one in behind] == [0, 0]
    assert await database.deliveries.find_one({"dueAt": {"$exists": True}}) is None
    assert await MongoWebhookRepository(database).replay(ANA, first.id) is None


async def test_one_success_keeps_a_webhook_enabled(database: Database, receiver: Receiver) -> None:
    webhook = await a_hook(database, receiver.url + "/", events=(WebhookEvent.TURN_ENDED,))
    poison = await a_turn_that_ends(database)

    async def fail_for_one(one: Received) -> Response:
        return Response(status_code=500 if poison.id.encode() in one.body else 200)

    receiver.scripts["/"] = fail_for_one
    async with delivering(database, replace(QUICK, give_up_after=timedelta(seconds=3))):

        async def is_given_up() -> bool:
            await a_turn_that_ends(database)
            return (
                await database.deliveries.find_one(
                    {"subject": poison.id, "dueAt": {"$exists": True}}
                )
                is None
            )

        await eventually(is_given_up, what="it is given up")
        await until_nothing_waits(database)

    first = (await deliveries(database, webhook))[-1]
    assert (first.delivered_at, first.status) == (None, 500)
    assert (await MongoWebhookRepository(database).list(ANA))[0].enabled


async def test_the_delivery_log_is_trimmed(database: Database, receiver: Receiver) -> None:
    webhook = await a_hook(database, receiver.url + "/")
    old = [waiting(webhook, number) for number in range(MAX_LOGGED + 50)]
    for one in old[5:]:
        del one["dueAt"]
    await database.deliveries.insert_many(old)
    turn = await a_turn_that_ends(database)

    async with delivering(database):
        await until_nothing_waits(database)
        await receiver.until_received(7)

        async def is_trimmed() -> bool:
            return await database.deliveries.count_documents({}) == MAX_LOGGED

        await eventually(is_trimmed, what="the log is trimmed")

    assert len((await in_order(database, webhook))[turn.id]) == 2


async def test_an_outbox_that_is_too_long_disables_its_webhook(
    database: Database, outbox: OutboxRepository
) -> None:
    webhook = await a_hook(database, "https://hooks.example.com/")
    await a_turn_that_ends(database)
    held = await outbox.take(failing=[False], lease=LONG)
    assert held is not None
    await database.deliveries.insert_many(waiting(webhook, one) for one in range(MAX_PENDING - 1))

    await outbox.release(held, failing_pause=AT_ONCE)

    assert not (await MongoWebhookRepository(database).list(ANA))[0].enabled
    assert await database.deliveries.find_one({"dueAt": {"$exists": True}}) is None


async def test_every_query_uses_an_index(database: Database, outbox: OutboxRepository) -> None:
    """Neither many webhooks that are not due, nor a long log, nor a long queue cost anything."""
    webhook = await a_hook(database, "https://hooks.example.com/")
    later = datetime.now(UTC) + LONG
    await database.webhooks.insert_many(
        {"_id": f"hook_{one}", "ownerId": ViewerId("other"), "failing": False, "dueAt": later}
        for one in range(300)
    )
    log = [waiting(webhook, number) for number in range(300)]
    for one in log:
        del one["dueAt"]
    await database.deliveries.insert_many(log)
    blocked = [waiting(webhook, number, dueAt=later) for number in range(300, 600)]
    await database.deliveries.insert_many(blocked)
    await a_turn_that_ends(database)

    async with profiled(database, "webhooks") as hooks:
        held = await outbox.take(failing=[False, True], lease=LONG)
    async with profiled(database, "deliveries") as due:
        assert held is not None
        assert len(await outbox.find_due(held, limit=100)) == 1
    async with profiled(database, "deliveries") as page:
        assert len(await deliveries(database, webhook)) == 100

    assert all(one.get("docsExamined", 0) <= 2 for one in hooks.commands), hooks.commands
    assert all("IXSCAN" in one["planSummary"] for one in hooks.commands if "planSummary" in one)
    assert all(one["docsExamined"] <= 3 for one in due.commands), due.commands
    (command,) = page.commands
    assert command["docsExamined"] == 101
    assert not command.get("hasSortStage")
