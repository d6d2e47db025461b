"""Idempotency keys: one key, one effect."""

import asyncio
from typing import Any

from tests.api.test_branches import delete_turn, fork
from tests.api.test_outputs import retry
from tests.clients import Data, GraphQLClient
from tests.conftest import Darkroom
from tests.operations import (
    DELETE,
    SEND,
    START,
    codes,
    conversation_with,
    send,
    send_or_refuse,
    start,
    start_or_refuse,
    until_finished,
)

COUNT = "{ viewer { conversations(first: 100) { nodes { id turnCount } } } }"


async def conversations(client: GraphQLClient) -> list[Data]:
    found: list[Data] = (await client(COUNT))["viewer"]["conversations"]["nodes"]
    return found


async def test_concurrent_requests_with_one_key_have_one_effect(client: GraphQLClient) -> None:
    payloads = await asyncio.gather(*(start(client, idempotencyKey="one") for _ in range(12)))

    assert len({payload["conversation"]["id"] for payload in payloads}) == 1
    assert len(await conversations(client)) == 1
    conversation_id = payloads[0]["conversation"]["id"]
    await until_finished(client, payloads[0]["turn"])
    sent = await asyncio.gather(
        *(send(client, conversation_id, idempotencyKey="two") for _ in range(12))
    )
    assert len({payload["turn"]["id"] for payload in sent}) == 1
    assert (await conversations(client))[0]["turnCount"] == 2


async def test_a_repeated_request_returns_the_same_objects_in_their_current_state(
    client: GraphQLClient,
) -> None:
    first = await start(client, idempotencyKey="key")
    finished = await until_finished(client, first["turn"])

    again = await start(client, idempotencyKey="key")

    assert again["turn"] == finished
    assert again["conversation"]["id"] == first["conversation"]["id"]


async def test_a_key_with_another_input_is_refused(client: GraphQLClient) -> None:
    done = await conversation_with(client, idempotencyKey="key")

    others: list[dict[str, Any]] = [
        {"userMessage": "Another"},
        {"options": {"width": 256, "height": 272}},
        {"aspectRatio": "1:1", "options": None},
    ]
    refused = [
        codes(await start_or_refuse(client, idempotencyKey="key", **other)) for other in others
    ]
    refused.append(
        codes(await send_or_refuse(client, done["conversation"]["id"], idempotencyKey="key"))
    )

    assert refused == [[("IDEMPOTENCY_KEY_REUSED", "idempotencyKey")]] * 4


async def test_a_refused_request_does_not_use_up_its_key(client: GraphQLClient) -> None:
    refused = await start_or_refuse(client, userMessage=" ", idempotencyKey="key")
    assert codes(refused) == [("PROMPT_EMPTY", "userMessage")]

    assert (await start(client, idempotencyKey="key"))["turn"]


async def test_a_repeated_request_after_a_deletion_has_no_effect(client: GraphQLClient) -> None:
    payload = await start(client, idempotencyKey="key")
    await client(DELETE, id=payload["conversation"]["id"])

    again = await start_or_refuse(client, idempotencyKey="key")

    assert codes(again) == [("NOT_FOUND", "idempotencyKey")]
    assert await conversations(client) == []


async def test_a_retry_with_a_key_is_one_attempt(client: GraphQLClient) -> None:
    done = await conversation_with(client, selectedModels=["rehearsal-fails"])
    output = done["turn"]["outputs"][0]

    payloads = await asyncio.gather(*(retry(client, output, idempotencyKey="k") for _ in range(6)))
    await until_finished(client, payloads[0]["turn"])
    later = await retry(client, output, idempotencyKey="k")

    assert {payload["output"]["attempt"] for payload in [*payloads, later]} == {2}
    assert later["output"]["status"] == "FAILED"


async def test_keys_of_different_viewers_are_independent(
    darkroom: Darkroom, client: GraphQLClient
) -> None:
    mine = await start(client, idempotencyKey="key")
    theirs = await start(darkroom.client(), idempotencyKey="key")

    assert mine["conversation"]["id"] != theirs["conversation"]["id"]


async def test_a_key_has_a_maximum_length(client: GraphQLClient) -> None:
    for key in ("", "x" * 256):
        answers = [
            await client.execute(START, input={"userMessage": "A", "idempotencyKey": key}),
            await client.execute(
                SEND, input={"conversationId": "x", "userMessage": "A", "idempotencyKey": key}
            ),
        ]
        found = {answer["errors"][0]["extensions"]["code"] for answer in answers}
        assert found == {"BAD_USER_INPUT"}


async def test_a_repeated_fork_returns_the_same_conversation(client: GraphQLClient) -> None:
    done = await conversation_with(client)
    turn_id = done["turn"]["id"]

    payloads = await asyncio.gather(*(fork(client, turn_id, key="fork") for _ in range(5)))

    made = {payload["conversation"]["id"] for payload in payloads}
    assert len(made) == 1
    assert len(await conversations(client)) == 2
    used = [("IDEMPOTENCY_KEY_REUSED", "idempotencyKey")]
    assert codes(await fork(client, turn_id, key="fork", title="Other")) == used
    assert codes(await start_or_refuse(client, idempotencyKey="fork")) == used
    # The key is not used up by a refusal, and a deleted fork is not made again.
    assert codes(await fork(client, "turn_x", key="new")) == [("NOT_FOUND", "turnId")]
    other = await fork(client, turn_id, key="new")
    await client(DELETE, id=other["conversation"]["id"])
    gone = [("NOT_FOUND", "idempotencyKey")]
    assert codes(await fork(client, turn_id, key="new")) == gone
    # Without its original, the fork is still what was asked for.
    assert (await delete_turn(client, turn_id))["userErrors"] == []
    assert {(await fork(client, turn_id, key="fork"))["conversation"]["id"]} == made
