"""`turnUpdated` and `conversationUpdated` as a client receives them."""

import asyncio
from functools import partial

import pytest
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from edge.frames import WebSocketProtocol
from storage.mongo.database import Database
from tests.clients import Data, GraphQLClient, Socket, connect_to
from tests.conftest import Darkroom, StartDarkroom
from tests.operations import (
    DELETE,
    FOLLOW,
    RENAME,
    SMALL,
    conversation_with,
    followed,
    send,
    start,
    until_finished,
)
from tests.waits import PATIENCE_SECONDS

CONVERSATION = """
subscription($id: ID!) { conversationUpdated(conversationId: $id) { id title turnCount } }
"""
LANDED = 120
"""States of a turn, of which a connection has room for some."""
UNKNOWN = "conv_00000000000000000000000000"


async def test_each_output_is_delivered_by_itself(client: GraphQLClient) -> None:
    payload = await start(
        client, selectedModels=["rehearsal-lands-last", "local-silver", "rehearsal-fails"]
    )

    updates = await followed(client, payload["turn"], payload["cursor"])

    ends: dict[str, int] = {}
    for number, update in enumerate(updates):
        for output in update["turn"]["outputs"]:
            if output["status"] in {"COMPLETED", "FAILED"}:
                ends.setdefault(output["model"]["id"], number)
    assert set(ends) == {"rehearsal-lands-last", "local-silver", "rehearsal-fails"}
    assert ends["local-silver"] < ends["rehearsal-lands-last"]
    assert ends["rehearsal-fails"] < ends["rehearsal-lands-last"]
    pending = [len(update["turn"]["pendingModels"]) for update in updates]
    assert pending == sorted(pending, reverse=True)
    assert pending[-1] == 0


async def test_an_update_names_the_outputs_that_changed(client: GraphQLClient) -> None:
    payload = await start(client, selectedModels=["rehearsal-lands-last", "local-silver"])

    updates = await followed(client, payload["turn"], payload["cursor"])

    everything = {output["id"] for output in payload["turn"]["outputs"]}
    assert {output["id"] for output in updates[0]["changedOutputs"]} == everything
    assert [output["id"] for output in updates[-1]["changedOutputs"]] == [
        payload["turn"]["outputs"][0]["id"]
    ]


async def test_a_late_subscriber_receives_the_current_state_at_once(client: GraphQLClient) -> None:
    done = await conversation_with(client, turns=2)
    conversation_id = done["conversation"]["id"]
    working = await send(
        client, conversation_id, selectedModels=["local-silver", "rehearsal-hangs"]
    )
    async with client.subscribe(FOLLOW, id=conversation_id) as updates:
        await updates.until(
            lambda data: data["turnUpdated"]["turn"]["outputs"][0]["status"] == "COMPLETED"
        )

    async with client.subscribe(FOLLOW, id=conversation_id) as again:
        first = (await again.next())["turnUpdated"]

    assert first["turn"]["id"] == working["turn"]["id"]
    assert [output["status"] for output in first["turn"]["outputs"]] == ["COMPLETED", "GENERATING"]


async def test_the_latest_turn_is_sent_first_even_if_it_has_finished(client: GraphQLClient) -> None:
    done = await conversation_with(client, turns=2)

    async with client.subscribe(FOLLOW, id=done["conversation"]["id"]) as updates:
        first = (await updates.next())["turnUpdated"]

    assert first["turn"] == done["turn"]


async def test_a_subscription_with_a_cursor_misses_nothing(
    client: GraphQLClient,
) -> None:
    done = await conversation_with(client, turns=2)
    conversation_id = done["conversation"]["id"]
    async with client.subscribe(FOLLOW, id=conversation_id) as updates:
        cursor = (await updates.next())["turnUpdated"]["cursor"]
    missed = []
    for _ in range(3):
        sent = await send(client, conversation_id)
        missed.append(await until_finished(client, sent["turn"]))

    async with client.subscribe(FOLLOW, id=conversation_id, after=cursor) as updates:
        seen = await updates.until(
            lambda data: data["turnUpdated"]["turn"]["id"] == missed[-1]["id"]
        )

    states = {data["turnUpdated"]["turn"]["id"]: data["turnUpdated"]["turn"] for data in seen}
    assert {turn["id"]: states.get(turn["id"]) for turn in missed} == {
        turn["id"]: turn for turn in missed
    }


async def test_every_cursor_sent_can_resume_a_subscription(client: GraphQLClient) -> None:
    payload = await start(client, selectedModels=["local-silver", "rehearsal-fails"])
    conversation_id = payload["conversation"]["id"]
    final = await until_finished(client, payload["turn"])
    read = await client("query($id: ID!) { conversation(id: $id) { cursor } }", id=conversation_id)
    cursors = [
        payload["cursor"],
        payload["conversation"]["cursor"],
        read["conversation"]["cursor"],
        *(update["cursor"] for update in await followed(client, payload["turn"])),
    ]

    for cursor in cursors:
        async with client.subscribe(FOLLOW, id=conversation_id, after=cursor) as updates:
            first = (await updates.next())["turnUpdated"]
        assert first["turn"] == final


async def test_a_cursor_of_another_conversation_is_refused_and_the_socket_stays_open(
    client: GraphQLClient,
) -> None:
    mine, other = await conversation_with(client), await conversation_with(client)
    cursor = other["cursor"]

    async with client.socket() as socket:
        for bad in (cursor, "nonsense", cursor[:-1]):
            refused = await socket.subscribe(FOLLOW, id=mine["conversation"]["id"], after=bad)
            message = await refused.message()
            assert message["type"] == "error"
            assert message["payload"][0]["extensions"] == {"code": "INVALID_CURSOR"}
        good = await socket.subscribe(FOLLOW, id=mine["conversation"]["id"])
        assert (await good.next())["turnUpdated"]["turn"]["status"] == "COMPLETED"


async def test_a_foreign_turn_or_conversation_is_not_found(
    darkroom: Darkroom, client: GraphQLClient
) -> None:
    payload = await conversation_with(client)
    other = darkroom.client()

    answers = []
    async with other.socket() as socket:
        for conversation_id in (payload["conversation"]["id"], UNKNOWN, "nonsense"):
            for query in (FOLLOW, CONVERSATION):
                subscription = await socket.subscribe(query, id=conversation_id)
                message = await subscription.message()
                answers.append((message["type"], message["payload"][0]["extensions"]["code"]))

    assert answers == [("error", "NOT_FOUND")] * 6


async def test_a_server_without_the_frames_protocol_sends_the_same(
    start_darkroom: StartDarkroom,
) -> None:
    links = "https://images.example"
    served = [
        await start_darkroom(public_url=links),
        await start_darkroom(public_url=links, ws=WebSocketsSansIOProtocol),
    ]
    by_frames, by_messages = (darkroom.client("ana") for darkroom in served)
    payload = await conversation_with(by_frames)
    conversation_id = payload["conversation"]["id"]

    async with (
        by_frames.subscribe(FOLLOW, id=conversation_id) as one,
        by_messages.subscribe(FOLLOW, id=conversation_id) as other,
    ):
        first = [await one.next(), await other.next()]
        sent = await send(by_frames, conversation_id)
        final = await until_finished(by_frames, sent["turn"])
        last = [await updates.until(_is_completed) for updates in (one, other)]
        await by_frames(DELETE, id=conversation_id)
        await one.completed()
        await other.completed()

    assert first[0]["turnUpdated"]["turn"] == first[1]["turnUpdated"]["turn"]
    assert [seen[-1]["turnUpdated"]["turn"] for seen in last] == [final, final]


def _is_completed(data: Data) -> bool:
    return bool(data["turnUpdated"]["turn"]["status"] == "COMPLETED")


async def test_deleting_a_conversation_completes_both_subscriptions(
    client: GraphQLClient,
) -> None:
    payload = await start(client, selectedModels=["rehearsal-hangs"])
    conversation_id = payload["conversation"]["id"]
    async with (
        client.subscribe(FOLLOW, id=conversation_id) as turns,
        client.subscribe(CONVERSATION, id=conversation_id) as conversations,
    ):
        await turns.next()
        await conversations.next()

        await client(DELETE, id=conversation_id)

        await asyncio.gather(turns.completed(), conversations.completed())


async def test_updates_of_a_conversation_can_be_subscribed_to(client: GraphQLClient) -> None:
    payload = await conversation_with(client)
    conversation_id = payload["conversation"]["id"]

    async with client.subscribe(CONVERSATION, id=conversation_id) as updates:
        first = await updates.next()
        await client(RENAME, id=conversation_id, title="Harbour")
        renamed = await updates.next()
        await send(client, conversation_id)
        grown = await updates.next()

    assert [one["conversationUpdated"] for one in (first, renamed, grown)] == [
        {"id": conversation_id, "title": "A boat", "turnCount": 1},
        {"id": conversation_id, "title": "Harbour", "turnCount": 1},
        {"id": conversation_id, "title": "Harbour", "turnCount": 2},
    ]


async def test_a_slow_subscriber_receives_the_newest_state_instead_of_every_update(
    client: GraphQLClient,
) -> None:
    payload = await start(
        client, selectedModels=["rehearsal-lands-last"], options={**SMALL, "previews": 3}
    )
    conversation_id = payload["conversation"]["id"]

    async with client.subscribe(FOLLOW, id=conversation_id) as updates:
        await updates.next()
        final = await until_finished(client, payload["turn"])
        seen = await updates.until(
            lambda data: data["turnUpdated"]["turn"]["status"] == "COMPLETED"
        )

    assert seen[-1]["turnUpdated"]["turn"] == final


async def test_subscriptions_leave_nothing_behind(
    client: GraphQLClient, darkroom: Darkroom
) -> None:
    payload = await conversation_with(client)
    conversation_id = payload["conversation"]["id"]
    before = _count_tasks()

    for _ in range(20):
        async with client.subscribe(FOLLOW, id=conversation_id) as updates:
            await updates.next()

    async with asyncio.timeout(PATIENCE_SECONDS):
        while _count_tasks() > before:  # noqa: ASYNC110 (nothing tells when tasks end)
            await asyncio.sleep(0.05)


def _count_tasks() -> int:
    """Without those of the database's client, which begins them at any time."""
    return sum(not task.get_name().startswith("pymongo") for task in asyncio.all_tasks())


@pytest.mark.parametrize("ws", [WebSocketProtocol, WebSocketsSansIOProtocol])
async def test_a_client_that_does_not_read_delays_nobody_and_receives_the_newest_state(
    start_darkroom: StartDarkroom, ws: type[asyncio.Protocol], database: Database
) -> None:
    darkroom = await start_darkroom(ws=ws)
    client = darkroom.client()
    payload = await conversation_with(client)
    conversation_id, turn_id = payload["conversation"]["id"], payload["turn"]["id"]
    turns = database.client[darkroom.settings.mongodb_database]["turns"]
    padding = "x" * 200_000
    async with (
        connect_to(darkroom.url, max_queue=1, max_size=None) as connection,
        client.subscribe(FOLLOW, id=conversation_id) as other,
    ):
        slow = Socket(connection)
        await slow.send(type="connection_init", payload={"authorization": f"Bearer {client.token}"})
        await slow.receive()
        behind = await slow.subscribe(FOLLOW, id=conversation_id)
        await behind.next()
        await other.next()
        for number in range(LANDED):
            await turns.update_one(
                {"_id": turn_id},
                {
                    "$inc": {"version": 1, "outputs.0.version": 1},
                    "$set": {"outputs.0.text": f"{number} {padding}"},
                },
            )
            await other.until(partial(_has_text, number))  # however little the other one reads

        seen = await behind.until(partial(_has_text, LANDED - 1))

    assert len(seen) < LANDED, "It was sent every state: the connection was never full."


def _has_text(number: int, data: Data) -> bool:
    text = data["turnUpdated"]["turn"]["outputs"][0]["text"] or ""
    return bool(text.startswith(f"{number} "))
