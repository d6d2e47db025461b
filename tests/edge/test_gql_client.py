"""gql, the GraphQL client for Python, unmodified: queries, live updates and reconnections."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import pytest

from tests.clients import PATIENCE_SECONDS, GraphQLClient
from tests.conftest import StartDarkroom
from tests.edge.test_npm_clients import UNKNOWN, Follower
from tests.operations import DELETE, RENAME, SMALL, conversation_with, send, start
from tests.resilience.processes import ROOT
from tests.serving import free_port
from tests.tools import need

TRANSPORTS: Final = ("aiohttp", "aiohttp websockets", "websockets")
"""The first one follows by multipart."""


@asynccontextmanager
async def following(
    transport: str, client: GraphQLClient, conversation_id: str, what: str = "title"
) -> AsyncIterator[Follower]:
    process = await asyncio.create_subprocess_exec(
        need("sdks"),
        ROOT / "tests/sdks/gql_client.py",
        *(transport, f"{client.url}/graphql", client.token or "", conversation_id, what),
        stdout=asyncio.subprocess.PIPE,
    )
    follower = Follower(process)
    try:
        assert await follower.next(within=PATIENCE_SECONDS) == ("next", ["viewer"])
        yield follower
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_gql_runs_queries_and_subscriptions(client: GraphQLClient, transport: str) -> None:
    conversation_id = (await start(client))["conversation"]["id"]
    async with following(transport, client, conversation_id) as follower:
        assert await follower.next() == ("next", "A boat")
        await client(RENAME, id=conversation_id, title="Harbour")
        assert await follower.next() == ("next", "Harbour")
        await client(DELETE, id=conversation_id)
        assert await follower.next() == ("complete", None)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_gql_reports_why_a_subscription_is_refused(
    client: GraphQLClient, transport: str
) -> None:
    async with following(transport, client, UNKNOWN) as follower:
        event, payload = await follower.next()
        assert event == "errors"
        assert payload == (
            ["There is no such object."] if transport == "aiohttp" else ["NOT_FOUND"]
        )


async def test_gql_misses_nothing_after_a_reconnection(start_darkroom: StartDarkroom) -> None:
    port = free_port()
    async with AsyncExitStack() as followers:
        async with AsyncExitStack() as first:
            client = (await start_darkroom(within=first, port=port)).client("ana")
            conversation_id = (await conversation_with(client))["conversation"]["id"]
            all_of_them = [
                await followers.enter_async_context(
                    following(transport, client, conversation_id, "turns")
                )
                for transport in TRANSPORTS
            ]
            for follower in all_of_them:
                await follower.until("0 COMPLETED")

        client = (await start_darkroom(port=port)).client("ana")
        await send(client, conversation_id, userMessage="At dusk", options=SMALL)
        for transport, follower in zip(TRANSPORTS, all_of_them, strict=True):
            seen = await follower.until("1 COMPLETED")
            assert {turn.split()[0] for turn in seen} <= {"0", "1"}, transport
