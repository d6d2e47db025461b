"""Waiting turns through the API."""

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import pytest

from storage.mongo.database import open_database
from tests.api.test_branches import delete_turn, fork, images_of, rerun
from tests.api.test_choices import choose
from tests.clients import Data, GraphQLClient
from tests.conftest import Darkroom, StartDarkroom
from tests.operations import (
    DELETE,
    DELETE_IMAGE,
    FOLLOW,
    TURN,
    a_sample,
    codes,
    conversation_with,
    send,
    send_or_refuse,
    start,
    until_finished,
)
from tests.uploads import a_picture, uploaded

CANCEL = (
    """
mutation Cancel($id: ID!) {
  cancelTurn(input: {turnId: $id}) { turn { ...Turn } userErrors { code path } }
}
"""
    + TURN
)
READ = "query($id: ID!) { turn(id: $id) { ...Turn } }" + TURN
SPENT = "{ viewer { credits { reserved } limits { activeOutputs } turnsInProgress { id } } }"


async def cancel(client: GraphQLClient, turn: Data) -> Data:
    payload: Data = (await client(CANCEL, id=turn["id"]))["cancelTurn"]
    return payload


async def running(client: GraphQLClient, *others: str) -> Data:
    """A conversation whose first turn runs until it is cancelled."""
    return await start(client, selectedModels=["rehearsal-hangs", *others])


async def wait(client: GraphQLClient, started: Data, **input: object) -> Data:
    """A turn that waits."""
    sent = await send(client, started["conversation"]["id"], whenReady=True, **input)
    assert sent["turn"]["status"] == "WAITING"
    turn: Data = sent["turn"]
    return turn


async def test_a_waiting_turn_begins_with_the_outputs_of_the_previous_turn(
    client: GraphQLClient,
) -> None:
    sample = await a_sample(client)
    started = await running(client, "local-ink", "local-silver")
    before = (await client(SPENT))["viewer"]
    waiting = await wait(
        client, started, selectedModels=["local-ink"], manualReferenceIds=[sample["id"]]
    )
    during = (await client(SPENT))["viewer"]

    async with client.subscribe(FOLLOW, id=started["conversation"]["id"]) as updates:
        await updates.until(
            lambda data: sum(bool(o["image"]) for o in data["turnUpdated"]["turn"]["outputs"]) == 2
        )
        await cancel(client, started["turn"])
        seen = await updates.until(
            lambda data: (
                data["turnUpdated"]["turn"]["id"] == waiting["id"]
                and data["turnUpdated"]["turn"]["status"] == "COMPLETED"
            )
        )
    first = (await client(READ, id=started["turn"]["id"]))["turn"]

    assert waiting["outputs"] == []
    assert waiting["pendingModels"] == waiting["selectedModels"] == [{"id": "local-ink"}]
    assert during["credits"] == before["credits"]
    assert during["limits"] == before["limits"]
    assert {one["id"] for one in during["turnsInProgress"]} == {
        started["turn"]["id"],
        waiting["id"],
    }
    turn = seen[-1]["turnUpdated"]["turn"]
    assert [one["origin"] for one in turn["references"]] == ["PREVIOUS_TURN"] * 2 + ["MANUAL"]
    assert [one["image"]["id"] for one in turn["references"]] == [*images_of(first), sample["id"]]
    assert turn["createdAt"] == waiting["createdAt"]
    assert turn["error"] is None
    assert [one["creditsCharged"] for one in (await charged(client, turn))["outputs"]] != [0]


async def charged(client: GraphQLClient, turn: Data) -> Data:
    query = "query($id: ID!) { turn(id: $id) { outputs { creditsCharged } } }"
    found: Data = (await client(query, id=turn["id"]))["turn"]
    return found


async def test_several_turns_wait_in_order_and_the_chosen_output_is_the_base(
    client: GraphQLClient,
) -> None:
    started = await running(client, "local-ink", "local-silver")
    second = await wait(client, started, selectedModels=["local-silver"])
    third = await wait(client, started, userMessage="Warmer")
    async with client.subscribe(FOLLOW, id=started["conversation"]["id"]) as updates:
        await updates.until(
            lambda data: sum(bool(o["image"]) for o in data["turnUpdated"]["turn"]["outputs"]) == 2
        )
    chosen = (await client(READ, id=started["turn"]["id"]))["turn"]["outputs"][2]
    await choose(client, chosen["id"])
    await cancel(client, started["turn"])

    last = await until_finished(client, third)
    middle = (await client(READ, id=second["id"]))["turn"]

    assert [one["image"]["id"] for one in middle["references"]] == [chosen["image"]["id"]]
    assert [one["image"]["id"] for one in last["references"]] == images_of(middle)
    assert last["selectedModels"] == [{"id": "local-silver"}]
    assert (last["turnIndex"], last["status"]) == (2, "COMPLETED")


async def test_if_a_turn_fails_all_turns_that_wait_for_it_fail(
    client: GraphQLClient,
) -> None:
    started = await running(client)
    second = await wait(client, started)
    third = await wait(client, started)

    await cancel(client, started["turn"])
    ended = await until_finished(client, third)

    for turn in (ended, (await client(READ, id=second["id"]))["turn"]):
        assert turn["status"] == "FAILED"
        assert turn["error"]["code"] == "PREVIOUS_TURN_FAILED"
        assert not turn["error"]["retryable"]
        assert turn["outputs"] == turn["pendingModels"] == []
        assert turn["completedAt"]
    assert (await client(SPENT))["viewer"] == {
        "credits": {"reserved": 0},
        "limits": {"activeOutputs": 0},
        "turnsInProgress": [],
    }
    assert codes(await rerun(client, second["id"])) == [("NOT_RETRYABLE", "turnId")]


@pytest.mark.parametrize(
    ("credits", "max_credits", "code"),
    [(100, 1, "MAX_CREDITS_EXCEEDED"), (9, None, "INSUFFICIENT_CREDITS")],
)
async def test_a_waiting_turn_begins_only_if_there_are_enough_credits(
    start_darkroom: StartDarkroom, credits: int, max_credits: int | None, code: str
) -> None:
    client = (await start_darkroom(starting_credits=credits)).client("ana")
    started = await running(client, "local-ink")
    async with client.subscribe(FOLLOW, id=started["conversation"]["id"]) as updates:
        await updates.until(lambda data: data["turnUpdated"]["turn"]["outputs"][1]["image"])
    waiting = await wait(
        client,
        started,
        selectedModels=["local-ink", "local-silver", "rehearsal-lands-last"],
        maxCredits=max_credits,
    )

    await cancel(client, started["turn"])
    ended = await until_finished(client, waiting)

    assert (ended["status"], ended["error"]["code"]) == ("FAILED", code)
    assert ended["outputs"] == []


async def test_a_waiting_turn_is_cancelled_once(darkroom: Darkroom, client: GraphQLClient) -> None:
    started = await running(client, "local-ink")
    async with client.subscribe(FOLLOW, id=started["conversation"]["id"]) as updates:
        await updates.until(lambda data: data["turnUpdated"]["turn"]["outputs"][1]["image"])
    waiting = await wait(client, started)

    strangers = await cancel(darkroom.client(), waiting)
    cancelled = await cancel(client, waiting)
    again = await cancel(client, waiting)
    await cancel(client, started["turn"])
    following = (await send(client, started["conversation"]["id"]))["turn"]

    assert codes(strangers) == [("NOT_FOUND", "turnId")]
    assert (cancelled["turn"]["status"], cancelled["turn"]["error"]) == ("CANCELLED", None)
    assert codes(again) == [("NOT_CANCELLABLE", "turnId")]
    assert (await client(READ, id=waiting["id"]))["turn"]["status"] == "CANCELLED"
    assert len(following["references"]) == 1


async def test_an_edit_begins_at_once_if_no_turn_is_running(client: GraphQLClient) -> None:
    started = await conversation_with(client)

    sent = await send(client, started["conversation"]["id"], whenReady=True)

    assert sent["turn"]["status"] == "PENDING"
    assert len(sent["turn"]["outputs"]) == 1


async def test_what_can_be_validated_is_refused_before_the_turn_waits(
    client: GraphQLClient,
) -> None:
    started = await running(client)
    conversation_id = started["conversation"]["id"]

    refused = await send_or_refuse(
        client,
        conversation_id,
        whenReady=True,
        userMessage=" ",
        selectedModels=["nonsense"],
        previousOutputIds=["nonsense"],
        manualReferenceIds=["nonsense"],
    )
    behind = await wait(client, started)
    not_waiting = await send_or_refuse(client, conversation_id)
    waiting = await rerun(client, behind["id"])
    forked = await fork(client, behind["id"])

    assert codes(refused) == [
        ("NOT_FOUND", "previousOutputIds.0"),
        ("NOT_FOUND", "manualReferenceIds.0"),
        ("PROMPT_EMPTY", "userMessage"),
        ("UNKNOWN_MODEL", "selectedModels.0"),
    ]
    assert codes(not_waiting) == [("TURN_IN_PROGRESS", "conversationId")]
    assert codes(waiting) == codes(forked) == [("TURN_IN_PROGRESS", "turnId")]


async def test_a_waiting_turn_that_mentions_a_missing_image_fails(client: GraphQLClient) -> None:
    started = await running(client, "local-ink")
    async with client.subscribe(FOLLOW, id=started["conversation"]["id"]) as updates:
        await updates.until(lambda data: data["turnUpdated"]["turn"]["outputs"][1]["image"])
    hanging = started["turn"]["outputs"][0]["id"]
    mentioning = await wait(client, started, userMessage="Use @Image2")
    await cancel(client, started["turn"])
    first = await until_finished(client, mentioning)
    again = await running(client)
    naming = await wait(client, again, previousOutputIds=[again["turn"]["outputs"][0]["id"]])
    elsewhere = await send_or_refuse(
        client, again["conversation"]["id"], whenReady=True, previousOutputIds=[hanging]
    )
    await cancel(client, again["turn"])

    assert first["error"]["code"] == "UNKNOWN_MENTION"
    assert (await until_finished(client, naming))["error"]["code"] == "PREVIOUS_TURN_FAILED"
    assert codes(elsewhere) == [("NOT_FOUND", "previousOutputIds.0")]


async def test_a_waiting_turn_whose_mask_has_another_shape_than_its_base_fails(
    client: GraphQLClient,
) -> None:
    mask = await uploaded(client, a_picture((300, 100)))
    started = await running(client, "local-ink")
    async with client.subscribe(FOLLOW, id=started["conversation"]["id"]) as updates:
        await updates.until(lambda data: data["turnUpdated"]["turn"]["outputs"][1]["image"])
    waiting = await wait(
        client, started, selectedModels=["local-ink"], mask={"imageId": mask["id"]}
    )

    await cancel(client, started["turn"])

    assert (await until_finished(client, waiting))["error"]["code"] == "MASK_INVALID"


async def test_an_idempotency_key_makes_one_waiting_turn(client: GraphQLClient) -> None:
    started = await running(client)
    conversation_id = started["conversation"]["id"]

    sent = await asyncio.gather(
        *(send(client, conversation_id, whenReady=True, idempotencyKey="once") for _ in range(3))
    )
    without = await send_or_refuse(client, conversation_id, idempotencyKey="once")

    assert {one["turn"]["id"] for one in sent} == {started["turn"]["id"][:-1] + "1"}
    assert codes(without) == [("IDEMPOTENCY_KEY_REUSED", "idempotencyKey")]


async def test_images_that_a_waiting_turn_needs_cannot_be_deleted(client: GraphQLClient) -> None:
    sample = await a_sample(client)
    started = await running(client)
    waiting = await wait(client, started, manualReferenceIds=[sample["id"]])

    image = (await client(DELETE_IMAGE, id=sample["id"]))["deleteImage"]
    turn = await delete_turn(client, started["turn"]["id"])
    deleted = await delete_turn(client, waiting["id"])
    gone = (await client(DELETE_IMAGE, id=sample["id"]))["deleteImage"]

    assert codes(image) == [("IMAGE_IN_USE", "imageId")]
    assert codes(turn) == [("TURN_IN_USE", "turnId")]
    assert f"waits for this turn ({waiting['id']})" in turn["userErrors"][0]["message"]
    assert deleted["userErrors"] == gone["userErrors"] == []
    await client(DELETE, id=started["conversation"]["id"])


async def test_a_viewer_has_at_most_20_waiting_turns(client: GraphQLClient) -> None:
    started = await running(client)
    for _ in range(20):
        await wait(client, started)

    refused = await send_or_refuse(client, started["conversation"]["id"], whenReady=True)

    assert codes(refused) == [("TOO_MANY_ACTIVE_OUTPUTS", "")]
    await client(DELETE, id=started["conversation"]["id"])
    assert (await client(SPENT))["viewer"]["turnsInProgress"] == []


async def test_a_turn_without_capacity_for_15_minutes_times_out(
    start_darkroom: StartDarkroom, mongodb_uri: str
) -> None:
    darkroom = await start_darkroom(max_active_outputs=3)
    client = darkroom.client("ana")
    started = await running(client, "local-ink")
    async with client.subscribe(FOLLOW, id=started["conversation"]["id"]) as updates:
        await updates.until(lambda data: data["turnUpdated"]["turn"]["outputs"][1]["image"])
    for _ in range(2):
        await running(client)  # all the room that there is
    waiting = await wait(client, started, selectedModels=["local-ink", "local-silver"])
    await cancel(client, started["turn"])

    async with open_database(mongodb_uri, darkroom.settings.mongodb_database) as database:
        long_ago = datetime.now(UTC) - timedelta(minutes=16)
        await database.turns.update_one(
            {"_id": started["turn"]["id"]}, {"$set": {"completedAt": long_ago}}
        )
    ended = await until_finished(client, waiting)

    assert (ended["status"], ended["error"]["code"]) == ("FAILED", "TIMED_OUT")


async def test_another_process_begins_a_waiting_turn(start_darkroom: StartDarkroom) -> None:
    async with AsyncExitStack() as stack:
        first = await start_darkroom(within=stack)
        client = first.client("ana")
        started = await running(client, "local-ink")
        async with client.subscribe(FOLLOW, id=started["conversation"]["id"]) as updates:
            await updates.until(lambda data: data["turnUpdated"]["turn"]["outputs"][1]["image"])
        waiting = await wait(client, started, selectedModels=["local-ink"])
    others = [await start_darkroom() for _ in range(2)]
    client = others[0].client("ana")

    await cancel(client, started["turn"])
    ended = await until_finished(client, waiting)

    assert ended["status"] == "COMPLETED"
    assert [one["attempt"] for one in ended["outputs"]] == [1]
    assert (await client(SPENT))["viewer"]["credits"] == {"reserved": 0}
