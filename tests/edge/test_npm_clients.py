"""Unmodified npm clients: queries, live updates over each transport, reconnections, audits."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.clients import PATIENCE_SECONDS, GraphQLClient
from tests.conftest import Darkroom, StartDarkroom
from tests.operations import DELETE, RENAME, SMALL, conversation_with, send, start
from tests.serving import free_port
from tests.tools import need

AUDITS: Final = 61
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
        return said["event"], said.get("payload")

    async def until(self, wanted: str) -> list[str]:
        """All that it reports up to this."""
        seen: list[str] = []
        while wanted not in seen:
            event, said = await self.next(within=PATIENCE_SECONDS)
            assert event == "next", (event, said)
            seen.append(str(said))
        return seen


@asynccontextmanager
async def following(
    folder: Path,
    name: str,
    client: GraphQLClient,
    conversation_id: str,
    what: str = "title",
) -> AsyncIterator[Follower]:
    process = await asyncio.create_subprocess_exec(
        need("node"),
        "follow.mjs",
        *(name, f"{client.url}/graphql", client.token or "", conversation_id, what),
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


FOLLOWING: Final = (
    "graphql-ws",
    "graphql-sse",
    "urql",
    "urql over graphql-ws",
    "apollo",
    "apollo over graphql-ws",
    "relay",
)


@pytest.mark.parametrize("name", FOLLOWING)
async def test_an_npm_client_runs_queries_and_subscriptions(
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
async def test_an_npm_client_reports_why_a_subscription_ends(
    clients: Path, client: GraphQLClient, name: str
) -> None:
    async with following(clients, name, client, UNKNOWN) as follower:
        assert await follower.next() == ("errors", ["NOT_FOUND"])
        assert await follower.next() == ("complete", None)


@pytest.mark.parametrize(
    "name", ["graphql-request", "apollo with persisted queries", "urql with persisted queries"]
)
async def test_an_npm_client_without_subscriptions_runs_queries(
    clients: Path, client: GraphQLClient, name: str
) -> None:
    async with following(clients, name, client, UNKNOWN, "nothing"):
        pass


async def test_an_npm_client_that_reconnects_misses_nothing(
    clients: Path, start_darkroom: StartDarkroom
) -> None:
    port = free_port()
    async with AsyncExitStack() as followers:
        async with AsyncExitStack() as first:
            client = (await start_darkroom(within=first, port=port)).client("ana")
            started = await conversation_with(client)
            conversation_id = started["conversation"]["id"]
            following_all = [
                await followers.enter_async_context(
                    following(clients, name, client, conversation_id, "turns")
                )
                for name in FOLLOWING
            ]
            for follower in following_all:
                await follower.until("0 COMPLETED")

        client = (await start_darkroom(port=port)).client("ana")
        await send(client, conversation_id, userMessage="At dusk", options=SMALL)
        for name, follower in zip(FOLLOWING, following_all, strict=True):
            seen = await follower.until("1 COMPLETED")
            assert {turn.split()[0] for turn in seen} <= {"0", "1"}, name


async def test_the_audits_of_graphql_http_pass(clients: Path, darkroom: Darkroom) -> None:
    process = await asyncio.create_subprocess_exec(
        *(need("node"), "audit.mjs", f"{darkroom.url}/graphql"),
        cwd=clients,
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS * 3)

    audits = [json.loads(line) for line in printed.splitlines()]
    assert len(audits) == AUDITS
    assert [audit for audit in audits if audit["status"] != "ok"] == []
