"""GraphQL over server-sent events: requests, responses byte by byte, and how they end."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import pytest
from pymongo.asynchronous.collection import AsyncCollection

from edge.graphql_sse import HEARTBEAT_SECONDS, SERVER_SENT_EVENTS
from storage.mongo.database import Database
from tests.clients import Data, GraphQLClient, Subscription
from tests.conftest import Darkroom, StartDarkroom
from tests.edge.streams import (
    EVENTS,
    PARTS,
    TITLES,
    Body,
    a_conversation,
    beat_often,
    streaming,
)
from tests.operations import DELETE, DELETE_VIEWER, FOLLOW, RENAME, conversation_with, send

JSON: Final = "application/json"
TYPENAME: Final = "{ __typename }"
UNKNOWN: Final = "conv_00000000000000000000000000"
URQL_QUERY: Final = (
    "application/graphql-response+json, application/graphql+json, application/json, "
    "text/event-stream, multipart/mixed"
)
URQL_SUBSCRIPTION: Final = "text/event-stream, multipart/mixed"
LANDED: Final = 120
"""States of a turn, of which a connection has room for some."""
PADDING: Final = "x" * 200_000


async def test_a_subscription_is_a_stream_of_server_sent_events(client: GraphQLClient) -> None:
    conversation_id = await a_conversation(client)
    async with streaming(client, TITLES, id=conversation_id) as body:
        title = b'"conversationUpdated":{"title":"%b"}'
        assert await body.until(b"}}}\n\n") == (
            b':\n\nevent: next\ndata: {"data":{' + title % b"A boat" + b"}}\n\n"
        )
        await client(RENAME, id=conversation_id, title="Two\nlines: é")
        await body.until(b"}}}\n\n")
        await client(DELETE, id=conversation_id)

        assert await body.rest() == b"event: complete\ndata:\n\n"

    headers = body.response.headers
    assert body.response.status_code == 200
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert headers["cache-control"] == "no-cache"
    assert headers["x-accel-buffering"] == "no"


async def test_a_stream_resumes_from_a_cursor(client: GraphQLClient) -> None:
    conversation_id = await a_conversation(client)
    async with streaming(client, FOLLOW, id=conversation_id) as body:
        cursor = (await body.next())["turnUpdated"]["cursor"]
    sent = await send(client, conversation_id)

    async with streaming(client, FOLLOW, id=conversation_id, after=cursor) as body:
        seen = [(await body.next())["turnUpdated"]["turn"]]
        while seen[-1]["status"] != "COMPLETED":
            seen.append((await body.next())["turnUpdated"]["turn"])

    assert {turn["id"] for turn in seen} == {sent["turn"]["id"]}


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (EVENTS, EVENTS),
        (URQL_SUBSCRIPTION, EVENTS),
        (f"{JSON}, {EVENTS}", JSON),
        (f"{EVENTS}, {JSON};q=0.1", JSON),
        (f"{EVENTS}, */*", JSON),
        (f"{JSON};q=0, TEXT/EVENT-STREAM", EVENTS),
        (f"{JSON}, {EVENTS};q=0", JSON),
        (URQL_QUERY, "application/graphql-response+json"),
    ],
)
async def test_a_query_is_answered_with_json_if_the_client_accepts_it(
    client: GraphQLClient, accept: str, media_type: str
) -> None:
    async with streaming(client, TYPENAME, accept=accept) as body:
        answer = await body.rest()

    assert body.response.headers["content-type"].partition(";")[0] == media_type
    if media_type == EVENTS:
        assert answer == (
            b':\n\nevent: next\ndata: {"data":{"__typename":"Query"}}\n\nevent: complete\ndata:\n\n'
        )
    else:
        assert json.loads(answer) == {"data": {"__typename": "Query"}}


@pytest.mark.parametrize(
    ("accept", "is_stream"),
    [
        (EVENTS, True),
        (URQL_QUERY, True),
        (f"{JSON}, {EVENTS};q=0.1", True),
        (f'{EVENTS};charset="utf-8"', True),
        (f"{JSON}, {EVENTS};q=0", False),
        ("*/*", False),
        ("text/*, application/json", False),
        ("multipart/mixed, application/json", False),
        (f"{EVENTS}, {PARTS};q=0.5", True),
        (f"{PARTS};q=0.5, {EVENTS}", True),
    ],
)
async def test_a_subscription_is_a_stream_if_the_client_accepts_it(
    client: GraphQLClient, accept: str, is_stream: bool
) -> None:
    async with streaming(client, TITLES, accept=accept, id=UNKNOWN) as body:
        answer = await body.rest()

    if is_stream:
        assert body.response.headers["content-type"].startswith(EVENTS)
    else:
        (error,) = json.loads(answer)["errors"]
        assert body.response.status_code == 406
        assert error["extensions"]["code"] == "SUBSCRIPTION_TRANSPORT_REQUIRED"
        assert EVENTS in error["message"]


async def test_a_mutation_can_be_answered_with_events(client: GraphQLClient) -> None:
    conversation_id = await a_conversation(client)

    async with streaming(client, RENAME, id=conversation_id, title="Harbour") as body:
        renamed = await body.next()

    assert renamed["renameConversation"]["conversation"]["title"] == "Harbour"


async def test_get_opens_a_stream_but_runs_no_mutation(client: GraphQLClient) -> None:
    conversation_id = await a_conversation(client)
    parameters = {"query": TITLES, "variables": json.dumps({"id": conversation_id})}
    headers = {"accept": EVENTS}
    async with client.http.stream(
        "GET", "/graphql", params=parameters, headers=headers
    ) as response:
        assert (await Body(response).next())["conversationUpdated"]["title"] == "A boat"

    mutation = await client.http.get("/graphql", params={"query": RENAME}, headers=headers)
    assert (mutation.status_code, mutation.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    ("method", "headers", "parameters"),
    [
        ("PUT", {}, {}),
        ("POST", {"x-graphql-event-stream-token": "x"}, {}),
        ("GET", {"accept": EVENTS, "x-graphql-event-stream-token": "x"}, {}),
        ("GET", {"accept": EVENTS}, {"token": "x"}),
        ("DELETE", {"x-graphql-event-stream-token": "x"}, {"operationId": "x"}),
    ],
)
async def test_the_single_connection_mode_is_not_supported(
    client: GraphQLClient, method: str, headers: dict[str, str], parameters: dict[str, str]
) -> None:
    response = await client.http.request(
        method, "/graphql", headers={"content-type": JSON, **headers}, params=parameters
    )

    assert (response.status_code, response.headers["allow"]) == (405, "GET, POST")
    assert response.json()["errors"][0]["extensions"]["code"] == "METHOD_NOT_ALLOWED"


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("subscription {", "GRAPHQL_PARSE_FAILED"),
        ("subscription { nonsense }", "GRAPHQL_VALIDATION_FAILED"),
        ("subscription A { a: __typename }", "GRAPHQL_VALIDATION_FAILED"),
    ],
)
async def test_an_error_before_the_stream_begins_is_a_plain_response(
    client: GraphQLClient, query: str, code: str
) -> None:
    response = await client.post({"query": query}, accept=EVENTS)

    assert response.status_code == 400
    assert response.json()["errors"][0]["extensions"]["code"] == code


async def test_an_invalid_token_opens_no_stream(darkroom: Darkroom) -> None:
    stranger = darkroom.with_token("nonsense")

    response = await stranger.post({"query": TITLES, "variables": {"id": UNKNOWN}}, accept=EVENTS)

    assert response.status_code == 401
    assert response.json()["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"


@pytest.mark.parametrize(
    ("query", "variables", "code"),
    [
        (TITLES, {"id": UNKNOWN}, "NOT_FOUND"),
        (FOLLOW, {"id": UNKNOWN}, "NOT_FOUND"),
        (FOLLOW, {"id": UNKNOWN, "after": "x"}, "INVALID_CURSOR"),
        (TITLES, {}, "BAD_USER_INPUT"),
    ],
)
async def test_a_failing_subscription_sends_its_error_and_completes(
    client: GraphQLClient, query: str, variables: dict[str, str], code: str
) -> None:
    async with streaming(client, query, **variables) as body:
        name, result = await body.event()

        assert name == "next"
        assert result["errors"][0]["extensions"]["code"] == code
        assert await body.rest() == b"event: complete\ndata:\n\n"


async def test_subscribing_needs_a_token(darkroom: Darkroom) -> None:
    async with streaming(darkroom.anonymous(), TITLES, id=UNKNOWN) as body:
        _, result = await body.event()

    assert result["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"


async def test_a_stream_ends_when_its_token_expires(darkroom: Darkroom) -> None:
    conversation_id = await a_conversation(darkroom.client("ana with events"))
    token = darkroom.ending_token("ana with events", in_seconds=5)
    async with streaming(darkroom.with_token(token), TITLES, id=conversation_id) as body:
        await body.next()

        name, result = await body.event()

        assert name == "next"
        assert result["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
        assert await body.rest() == b"event: complete\ndata:\n\n"


async def test_deleting_a_viewer_ends_their_streams(client: GraphQLClient) -> None:
    conversation_id = await a_conversation(client)
    viewer_id = (await client("{ viewer { id } }"))["viewer"]["id"]
    async with streaming(client, TITLES, id=conversation_id) as body:
        await body.next()
        await client(DELETE_VIEWER, id=viewer_id)

        assert await body.rest() == b"event: complete\ndata:\n\n"


async def test_a_client_that_disconnects_unread_ends_its_subscription(
    start_darkroom: StartDarkroom, database: Database
) -> None:
    darkroom = await start_darkroom()
    client = darkroom.client()
    async with _falling_behind(darkroom, client, database):
        pass
    await client.aclose()

    await _wait_until_nothing_streams()


async def test_an_idle_stream_sends_heartbeats(
    client: GraphQLClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert HEARTBEAT_SECONDS == SERVER_SENT_EVENTS.heartbeat_seconds == 15
    beat_often(monkeypatch, EVENTS)
    conversation_id = await a_conversation(client)

    async with streaming(client, TITLES, id=conversation_id) as body:
        await body.next()

        assert await body.until(b"\n\n") == b":\n\n"
        assert await body.until(b"\n\n") == b":\n\n"


async def test_a_client_that_disconnects_ends_its_subscription(darkroom: Darkroom) -> None:
    """Also where the connection has brought more requests, which wait behind the stream."""
    client = darkroom.client()
    conversation_id = await a_conversation(client)
    question = json.dumps({"query": TITLES, "variables": {"id": conversation_id}}).encode()
    request = (
        b"POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Accept: text/event-stream\r\nAuthorization: Bearer %b\r\nContent-Length: %d\r\n\r\n%b"
    ) % ((client.token or "").encode(), len(question), question)
    await client.aclose()
    address = darkroom.url.removeprefix("http://").split(":")

    for behind in (b"", request):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(request + behind)
        async with asyncio.timeout(20):
            await reader.readuntil(b"A boat")
        writer.close()

    await _wait_until_nothing_streams()


async def test_a_client_that_does_not_read_receives_the_newest_state(
    start_darkroom: StartDarkroom, database: Database
) -> None:
    darkroom = await start_darkroom()
    async with _falling_behind(darkroom, darkroom.client(), database) as behind:
        count = 1
        while not _has_text(LANDED - 1, await behind.next()):
            count += 1

    assert count < LANDED, "It was sent every state: the connection was never full."


@asynccontextmanager
async def _falling_behind(
    darkroom: Darkroom, client: GraphQLClient, database: Database
) -> AsyncIterator[Body]:
    """A stream of a turn that has changed more often than the connection has room for."""
    payload = await conversation_with(client)
    conversation_id, turn_id = payload["conversation"]["id"], payload["turn"]["id"]
    turns = database.client[darkroom.settings.mongodb_database]["turns"]
    async with (
        streaming(client, FOLLOW, id=conversation_id) as behind,
        client.subscribe(FOLLOW, id=conversation_id) as other,
    ):
        await behind.next()
        await other.next()
        await _change_often(turns, turn_id, other)
        yield behind


async def _change_often(
    turns: AsyncCollection[dict[str, Any]], turn_id: str, other: Subscription
) -> None:
    """Change a turn more often than a connection has room for, however little one reads of it."""
    for number in range(LANDED):
        change = {
            "$inc": {"version": 1, "outputs.0.version": 1},
            "$set": {"outputs.0.text": f"{number} {PADDING}"},
        }
        await turns.update_one({"_id": turn_id}, change)
        await other.until(partial(_has_text, number))


async def _wait_until_nothing_streams() -> None:
    names = {"results of a stream", "client of a stream"}
    async with asyncio.timeout(10):
        while any(task.get_name() in names for task in asyncio.all_tasks()):  # noqa: ASYNC110 (nothing tells when tasks end)
            await asyncio.sleep(0.05)


def _has_text(number: int, data: Data) -> bool:
    text = data["turnUpdated"]["turn"]["outputs"][0]["text"] or ""
    return bool(text.startswith(f"{number} "))
