"""Unmodified npm clients: queries, live updates over each transport, reconnections, audits."""

import asyncio
import json
import os
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final

import pytest

from tests.clients import GraphQLClient
from tests.conftest import Darkroom, StartDarkroom
from tests.edge.followers import (
    UNKNOWN,
    Follow,
    Follower,
    check_queries_and_subscriptions,
    check_reconnection,
    follower,
)
from tests.tools import need
from tests.waits import PATIENCE_SECONDS

AUDITS: Final = 61


def following(folder: Path) -> Follow:
    def follow(
        name: str, client: GraphQLClient, conversation_id: str, what: str
    ) -> AbstractAsyncContextManager[Follower]:
        return follower(
            need("node"),
            "follow.mjs",
            *(name, f"{client.url}/graphql", client.token or "", conversation_id, what),
            cwd=folder,
            env={**os.environ, "NODE_ENV": "production"},
        )

    return follow


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
    await check_queries_and_subscriptions(following(clients), name, client)


@pytest.mark.parametrize("name", ["graphql-sse", "urql", "apollo"])
async def test_an_npm_client_reports_why_a_subscription_ends(
    clients: Path, client: GraphQLClient, name: str
) -> None:
    async with following(clients)(name, client, UNKNOWN, "title") as follower:
        assert await follower.next() == ("errors", ["NOT_FOUND"])
        assert await follower.next() == ("complete", None)


@pytest.mark.parametrize(
    "name", ["graphql-request", "apollo with persisted queries", "urql with persisted queries"]
)
async def test_an_npm_client_without_subscriptions_runs_queries(
    clients: Path, client: GraphQLClient, name: str
) -> None:
    async with following(clients)(name, client, UNKNOWN, "nothing"):
        pass


async def test_an_npm_client_that_reconnects_misses_nothing(
    clients: Path, start_darkroom: StartDarkroom
) -> None:
    await check_reconnection(following(clients), FOLLOWING, start_darkroom)


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
