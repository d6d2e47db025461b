"""gql, the GraphQL client for Python, unmodified: queries, live updates and reconnections."""

from contextlib import AbstractAsyncContextManager
from typing import Final

import pytest

from tests.clients import GraphQLClient
from tests.conftest import StartDarkroom
from tests.edge.followers import (
    UNKNOWN,
    Follower,
    check_queries_and_subscriptions,
    check_reconnection,
    follower,
)
from tests.resilience.processes import ROOT
from tests.tools import need

TRANSPORTS: Final = ("aiohttp", "aiohttp websockets", "websockets")
"""The first one follows by multipart."""


def following(
    transport: str, client: GraphQLClient, conversation_id: str, what: str
) -> AbstractAsyncContextManager[Follower]:
    return follower(
        need("sdks"),
        ROOT / "tests/sdks/gql_client.py",
        *(transport, f"{client.url}/graphql", client.token or "", conversation_id, what),
    )


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_gql_runs_queries_and_subscriptions(client: GraphQLClient, transport: str) -> None:
    await check_queries_and_subscriptions(following, transport, client)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_gql_reports_why_a_subscription_is_refused(
    client: GraphQLClient, transport: str
) -> None:
    async with following(transport, client, UNKNOWN, "title") as follower:
        event, payload = await follower.next()
        assert event == "errors"
        assert payload == (
            ["There is no such object."] if transport == "aiohttp" else ["NOT_FOUND"]
        )


async def test_gql_misses_nothing_after_a_reconnection(start_darkroom: StartDarkroom) -> None:
    await check_reconnection(following, TRANSPORTS, start_darkroom)
