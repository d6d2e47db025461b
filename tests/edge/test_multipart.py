"""GraphQL subscriptions as `multipart/mixed`: byte by byte, and how they end."""

import json
from typing import Final

import aiohttp
import pytest

from edge.graphql_multipart import HEARTBEAT_SECONDS, MEDIA_TYPE, MULTIPART
from tests.clients import GraphQLClient
from tests.conftest import Darkroom
from tests.edge.streams import EVENTS, PARTS, TITLES, a_conversation, beat_often, streaming
from tests.operations import DELETE, FOLLOW, RENAME

APOLLO: Final = f"{PARTS},application/graphql-response+json,application/json;q=0.9"
UNKNOWN: Final = "conv_00000000000000000000000000"
HEAD: Final = b"\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
HEARTBEAT: Final = HEAD % 2 + b"{}\r\n--graphql"


async def test_a_subscription_is_answered_as_multipart(client: GraphQLClient) -> None:
    """Each part is there with the boundary that follows it, and the last boundary alone."""
    conversation_id = await a_conversation(client)
    part = b'{"payload":{"data":{"conversationUpdated":{"title":"A boat"}}}}'
    async with streaming(client, TITLES, accept=APOLLO, id=conversation_id) as body:
        assert await body.until(b"}\r\n--graphql") == b"--graphql" + HEARTBEAT
        assert await body.until(b"}\r\n--graphql") == HEAD % len(part) + part + b"\r\n--graphql"
        await client(RENAME, id=conversation_id, title="Two\r\n--graphql\r\nlines: é")
        renamed = (await body.part())["payload"]["data"]["conversationUpdated"]
        await client(DELETE, id=conversation_id)

        assert await body.rest() == b"--\r\n"

    assert renamed["title"].startswith("Two")
    headers = body.response.headers
    assert headers["content-type"] == PARTS
    assert headers["cache-control"] == "no-cache"
    assert headers["x-accel-buffering"] == "no"


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (PARTS, PARTS),
        (APOLLO, PARTS),
        (MEDIA_TYPE.upper(), PARTS),
        ('multipart/mixed; subscriptionSpec="1.0", application/json', PARTS),
        (f"{PARTS};q=0.5, {EVENTS};q=0.4", PARTS),
        (f"{PARTS}, {EVENTS}", PARTS),
        ("multipart/mixed;subscriptionSpec=2.0, application/json", "application/json"),
        ("multipart/mixed;deferSpec=20220824, application/json", "application/json"),
        (f"{PARTS};q=0, application/json", "application/json"),
    ],
)
async def test_a_subscription_is_multipart_if_the_client_accepts_it(
    client: GraphQLClient, accept: str, media_type: str
) -> None:
    async with streaming(client, TITLES, accept=accept, id=UNKNOWN) as body:
        answer = await body.rest()

    assert body.response.headers["content-type"] == media_type
    if media_type != PARTS:
        (error,) = json.loads(answer)["errors"]
        assert body.response.status_code == 406
        assert MEDIA_TYPE in error["message"]


async def test_a_query_is_answered_with_json_if_the_client_accepts_it(
    client: GraphQLClient,
) -> None:
    query = "{ __typename }"
    async with streaming(client, query, accept=f"{PARTS}, application/json") as body:
        assert json.loads(await body.rest()) == {"data": {"__typename": "Query"}}

    async with streaming(client, query, accept=PARTS) as body:
        assert await body.part() == {"payload": {"data": {"__typename": "Query"}}}
        assert await body.rest() == b"--\r\n"


@pytest.mark.parametrize(
    ("query", "variables", "code"),
    [
        (TITLES, {"id": UNKNOWN}, "NOT_FOUND"),
        (FOLLOW, {"id": UNKNOWN, "after": "x"}, "INVALID_CURSOR"),
    ],
)
async def test_an_error_that_ends_a_subscription_has_no_payload(
    client: GraphQLClient, query: str, variables: dict[str, str], code: str
) -> None:
    async with streaming(client, query, accept=APOLLO, **variables) as body:
        found = await body.part()

        assert found["payload"] is None
        assert found["errors"][0]["extensions"]["code"] == code
        assert await body.rest() == b"--\r\n"


async def test_a_subscription_ends_when_its_token_expires(darkroom: Darkroom) -> None:
    conversation_id = await a_conversation(darkroom.client("ana with parts"))
    client = darkroom.with_token(darkroom.ending_token("ana with parts", in_seconds=5))
    async with streaming(client, TITLES, accept=APOLLO, id=conversation_id) as body:
        await body.part()

        found = await body.part()

        assert found["payload"] is None
        assert found["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
        assert await body.rest() == b"--\r\n"


async def test_an_idle_subscription_sends_heartbeats(
    client: GraphQLClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert HEARTBEAT_SECONDS == MULTIPART.heartbeat_seconds == 5
    beat_often(monkeypatch, MEDIA_TYPE.lower())
    conversation_id = await a_conversation(client)

    async with streaming(client, TITLES, accept=APOLLO, id=conversation_id) as body:
        await body.part()

        assert await body.until(b"}\r\n--graphql") == HEARTBEAT
        assert await body.until(b"}\r\n--graphql") == HEARTBEAT


async def test_each_part_can_be_parsed_before_the_next_one_arrives(client: GraphQLClient) -> None:
    """aiohttp's, which gql uses."""
    conversation_id = await a_conversation(client)
    request = {"query": TITLES, "variables": {"id": conversation_id}}
    headers = {"accept": APOLLO, "authorization": f"Bearer {client.token}"}
    async with (
        aiohttp.ClientSession(client.url, timeout=aiohttp.ClientTimeout(20)) as session,
        session.post("/graphql", json=request, headers=headers) as response,
    ):
        reader = aiohttp.MultipartReader.from_response(response)
        seen = []
        while (part := await reader.next()) is not None:
            assert isinstance(part, aiohttp.BodyPartReader)
            seen.append(json.loads(await part.read()))
            if len(seen) == 2:
                await client(RENAME, id=conversation_id, title="Harbour")
            if len(seen) == 3:
                await client(DELETE, id=conversation_id)

    titles = [found["payload"]["data"]["conversationUpdated"]["title"] for found in seen[1:]]
    assert (seen[0], titles) == ({}, ["A boat", "Harbour"])
