"""Credits and limits through the API: reserved with the turn, charged for delivered images,
otherwise released.
"""

import asyncio
from typing import Any

from domain.ids import ViewerId
from storage.mongo.accounts import MongoAccountRepository
from storage.mongo.database import open_database
from tests.api.test_outputs import CANCEL_TURN, cancel, retry
from tests.clients import Data, GraphQLClient
from tests.conftest import Darkroom, StartDarkroom
from tests.operations import (
    DELETE,
    SMALL,
    codes,
    conversation_with,
    send,
    send_or_refuse,
    start,
    start_or_refuse,
    until_finished,
)

ACCOUNT = """
query { viewer { id
  credits { balance reserved available } limits { activeOutputs maxActiveOutputs }
} }
"""
SPENT = """
query($id: ID!) { turn(id: $id) { outputs { creditsReserved creditsCharged status } } }
"""
WATCH = """
subscription { viewerUpdated { id credits { balance reserved } limits { activeOutputs } } }
"""
STARTING = 10_000


async def account(client: GraphQLClient) -> tuple[int, int, int]:
    """Balance, reserved credits, running outputs."""
    viewer = (await client(ACCOUNT))["viewer"]
    credits_, limits = viewer["credits"], viewer["limits"]
    assert credits_["available"] == credits_["balance"] - credits_["reserved"]
    return credits_["balance"], credits_["reserved"], limits["activeOutputs"]


async def spent(client: GraphQLClient, turn: Data) -> list[tuple[str, int, int]]:
    outputs = (await client(SPENT, id=turn["id"]))["turn"]["outputs"]
    return [(one["status"], one["creditsReserved"], one["creditsCharged"]) for one in outputs]


async def adds_up(darkroom: Darkroom) -> None:
    uri = darkroom.settings.mongodb_uri
    assert uri is not None
    name = darkroom.settings.mongodb_database
    async with open_database(uri.get_secret_value(), name) as database:
        assert (await MongoAccountRepository(database).prove()).discrepancies == ()


async def test_delivered_outputs_are_charged_and_failed_ones_are_not(
    darkroom: Darkroom, client: GraphQLClient
) -> None:
    models = ["local-silver", "rehearsal-fails"]
    payload = await start(client, selectedModels=models, options={**SMALL, "imagesPerModel": 2})
    assert await spent(client, payload["turn"]) != []
    assert await account(client) in [
        (STARTING, 8, 2),
        (STARTING - 4, 4, 1),
        (STARTING, 4, 1),
        (STARTING - 4, 0, 0),
    ]

    turn = await until_finished(client, payload["turn"])

    assert await spent(client, turn) == [("COMPLETED", 0, 4), ("FAILED", 0, 0)]
    assert await account(client) == (STARTING - 4, 0, 0)
    edited = await send(client, payload["conversation"]["id"], selectedModels=["local-ink"])
    await until_finished(client, edited["turn"])
    assert await spent(client, edited["turn"]) == [("COMPLETED", 0, 4)]
    assert await account(client) == (STARTING - 8, 0, 0)
    await adds_up(darkroom)


async def test_cancelling_releases_credits_and_a_retry_reserves_again(
    darkroom: Darkroom, client: GraphQLClient
) -> None:
    models = ["rehearsal-hangs", "rehearsal-slow"]
    payload = await start(client, selectedModels=models)
    hangs, _ = payload["turn"]["outputs"]
    assert await account(client) == (STARTING, 4, 2)

    await cancel(client, hangs["id"])
    assert await account(client) == (STARTING, 2, 1)
    await retry(client, hangs, modelId="rehearsal-hangs")
    assert await account(client) == (STARTING, 4, 2)
    await client(CANCEL_TURN, id=payload["turn"]["id"])

    assert await account(client) == (STARTING, 0, 0)
    await adds_up(darkroom)


async def test_deleting_a_conversation_releases_credits_of_running_outputs(
    darkroom: Darkroom, client: GraphQLClient
) -> None:
    payload = await start(client, selectedModels=["rehearsal-hangs", "rehearsal-slow"])

    await client(DELETE, id=payload["conversation"]["id"])

    assert await account(client) == (STARTING, 0, 0)
    await adds_up(darkroom)


async def test_a_request_that_costs_more_than_the_balance_is_refused(
    start_darkroom: StartDarkroom,
) -> None:
    darkroom = await start_darkroom(starting_credits=5)
    client = darkroom.client()
    two: dict[str, Any] = {"selectedModels": ["local-silver", "local-ink"]}

    refused = await start_or_refuse(client, **two, options={**SMALL, "imagesPerModel": 2})
    assert codes(refused) == [("INSUFFICIENT_CREDITS", "")]
    assert refused["conversation"] is None
    done = await conversation_with(client, **two)
    assert await account(client) == (1, 0, 0)

    again = await send_or_refuse(client, done["conversation"]["id"])
    assert codes(again) == [("INSUFFICIENT_CREDITS", "")]
    hopeless = await retry(client, done["turn"]["outputs"][0])
    assert [code for code, _ in codes(hopeless)] == ["NOT_RETRYABLE", "INSUFFICIENT_CREDITS"]
    await adds_up(darkroom)


async def test_concurrent_starts_never_spend_more_than_the_balance(
    start_darkroom: StartDarkroom,
) -> None:
    darkroom = await start_darkroom(starting_credits=9)
    client = darkroom.client()
    await account(client)

    payloads = await asyncio.gather(
        *(start_or_refuse(client, selectedModels=["rehearsal-hangs"]) for _ in range(10))
    )

    refused = [codes(payload) for payload in payloads if payload["turn"] is None]
    assert refused == [[("INSUFFICIENT_CREDITS", "")]] * 6
    assert await account(client) == (9, 8, 4)
    await adds_up(darkroom)


async def test_no_more_is_spent_than_the_request_allows(client: GraphQLClient) -> None:
    done = await conversation_with(client)

    started = await start_or_refuse(client, maxCredits=1)
    edited = await send_or_refuse(client, done["conversation"]["id"], maxCredits=3)

    assert codes(started) == codes(edited) == [("MAX_CREDITS_EXCEEDED", "maxCredits")]
    await send(client, done["conversation"]["id"], maxCredits=4)


async def test_the_number_of_running_outputs_is_limited(
    start_darkroom: StartDarkroom,
) -> None:
    darkroom = await start_darkroom(max_active_outputs=3)
    client = darkroom.client()
    hanging: dict[str, Any] = {"selectedModels": ["rehearsal-hangs", "rehearsal-slow"]}
    payload = await start(client, **hanging)

    refused = await start_or_refuse(client, **hanging)

    assert codes(refused) == [("TOO_MANY_ACTIVE_OUTPUTS", "")]
    limits = (await client(ACCOUNT))["viewer"]["limits"]
    assert limits == {"activeOutputs": 2, "maxActiveOutputs": 3}
    assert codes(await start_or_refuse(darkroom.client(), **hanging)) == []
    await client(CANCEL_TURN, id=payload["turn"]["id"])
    assert codes(await start_or_refuse(client, **hanging)) == []


async def test_a_refused_start_does_not_use_up_its_key(start_darkroom: StartDarkroom) -> None:
    darkroom = await start_darkroom(starting_credits=0)
    client = darkroom.client()
    refused = await start_or_refuse(client, idempotencyKey="key")
    assert codes(refused) == [("INSUFFICIENT_CREDITS", "")]

    await grant(darkroom, client, 2)

    payload = await start(client, idempotencyKey="key")
    assert (await start(client, idempotencyKey="key"))["turn"]["id"] == payload["turn"]["id"]
    await until_finished(client, payload["turn"])
    assert await account(client) == (0, 0, 0)


async def test_a_subscriber_of_credits_receives_movements_and_grants(
    darkroom: Darkroom, client: GraphQLClient
) -> None:
    async with client.subscribe(WATCH) as updates:
        first = (await updates.next())["viewerUpdated"]
        assert first["credits"] == {"balance": STARTING, "reserved": 0}
        await start(client, selectedModels=["local-silver"])
        seen = await updates.until(
            lambda data: data["viewerUpdated"]["credits"]["balance"] == STARTING - 2
        )
        assert seen[-1]["viewerUpdated"]["limits"] == {"activeOutputs": 0}
        assert [one["viewerUpdated"]["credits"]["reserved"] for one in seen][-2:] == [2, 0]

        await grant(darkroom, client, 100)

        granted = (await updates.next())["viewerUpdated"]
        assert granted["credits"] == {"balance": STARTING + 98, "reserved": 0}
        assert granted["id"] == first["id"]


async def test_subscribers_receive_updates_of_their_own_account_only(darkroom: Darkroom) -> None:
    ana, bob = darkroom.client(), darkroom.client()
    async with ana.subscribe(WATCH) as updates:
        await updates.next()
        await conversation_with(bob)
        await grant(darkroom, ana, 1)

        assert (await updates.next())["viewerUpdated"]["credits"]["balance"] == STARTING + 1


async def grant(darkroom: Darkroom, client: GraphQLClient, amount: int) -> None:
    viewer_id = ViewerId((await client(ACCOUNT))["viewer"]["id"])
    uri = darkroom.settings.mongodb_uri
    assert uri is not None
    name = darkroom.settings.mongodb_database
    async with open_database(uri.get_secret_value(), name) as database:
        assert await MongoAccountRepository(database).grant(viewer_id, amount, key="a test")
