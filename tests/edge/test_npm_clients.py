"""Subscriptions over HTTP, read by clients as they come from npm."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.clients import PATIENCE_SECONDS, GraphQLClient
from tests.conftest import StartDarkroom
from tests.operations import DELETE, RENAME, start
from tests.serving import free_port
from tests.tools import need

PROMPT_SECONDS: Final = 10
"""Less than until the next heartbeat, with which a client may read what was framed wrongly."""
UNKNOWN: Final = "conv_00000000000000000000000000"


class Follower:
    """A process with a client that has been answered a query, and what the client reports."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def next(self, *, within: float = PROMPT_SECONDS) -> tuple[str, object]:
        assert self._process.stdout is not None
        async with asyncio.timeout(within):
            line = await self._process.stdout.readline()
        said = json.loads(line)
        return said["event"], said.get("told")


@asynccontextmanager
async def following(
    folder: Path, name: str, client: GraphQLClient, conversation_id: str
) -> AsyncIterator[Follower]:
    process = await asyncio.create_subprocess_exec(
        need("node"),
        "follow.mjs",
        *(name, f"{client.url}/graphql", client.token or "", conversation_id),
        cwd=folder,
        env={**os.environ, "NODE_ENV": "production"},
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


@pytest.mark.parametrize("name", ["graphql-sse", "urql", "apollo"])
async def test_a_client_of_npm_queries_and_follows(
    clients: Path, client: GraphQLClient, name: str
) -> None:
    conversation_id = (await start(client))["conversation"]["id"]
    async with following(clients, name, client, conversation_id) as follower:
        assert await follower.next() == ("next", "A boat")
        await client(RENAME, id=conversation_id, title="Harbour")
        assert await follower.next() == ("next", "Harbour")
        await client(DELETE, id=conversation_id)
        assert await follower.next() == ("complete", None)


@pytest.mark.parametrize("name", ["graphql-sse", "urql", "apollo"])
async def test_a_client_of_npm_reports_why_a_subscription_ends(
    clients: Path, client: GraphQLClient, name: str
) -> None:
    async with following(clients, name, client, UNKNOWN) as follower:
        assert await follower.next() == ("errors", ["NOT_FOUND"])
        assert await follower.next() == ("complete", None)


async def test_graphql_sse_comes_back_to_a_server_that_has_stopped(
    clients: Path, start_darkroom: StartDarkroom
) -> None:
    port = free_port()
    async with AsyncExitStack() as followers:
        async with AsyncExitStack() as first:
            client = (await start_darkroom(within=first, port=port)).client("ana")
            conversation_id = (await start(client))["conversation"]["id"]
            follower = await followers.enter_async_context(
                following(clients, "graphql-sse", client, conversation_id)
            )
            assert await follower.next() == ("next", "A boat")

        second = await start_darkroom(port=port)
        assert await follower.next() == ("next", "A boat")
        await second.client("ana")(RENAME, id=conversation_id, title="Harbour")
        assert await follower.next() == ("next", "Harbour")
