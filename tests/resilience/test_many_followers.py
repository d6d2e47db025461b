"""A primary that steps down while a thousand sockets follow a conversation, and a process that is
started again under them: all continue, and the database is not read for each of them.

Run by `make resilience`: it needs a replica set of its own.
"""

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from time import monotonic
from typing import Final

import pytest

from edge.dev_tokens import DevelopmentIssuer
from tests.clients import GraphQLClient, Subscription
from tests.edge.hostile import an_api
from tests.operations import conversation_with
from tests.promises.figures import INPUTS, count
from tests.resilience.processes import Api
from tests.resilience.replica_set import ReplicaSet, open_replica_set
from tests.resilience.scale import WHY_NOT
from tests.resilience.storm import to_terminal
from tests.serving import free_port
from tests.tools import need_mongod
from tests.unlimited import UNLIMITED_ENVIRONMENT
from tests.waits import eventually

FOLLOWERS: Final = count(20, each=0.2)
CONNECTING: Final = 50
NEWS_SECONDS: Final = 120.0
LIMITS: Final = {
    "DARKROOM_LIMIT_VIEWER_SOCKETS": str(2 * FOLLOWERS),
    "DARKROOM_LIMIT_ADDRESS_SOCKETS": str(2 * FOLLOWERS),
    "DARKROOM_LIMIT_VIEWER_SUBSCRIPTIONS": str(2 * FOLLOWERS),
}
CALLS: Final = re.compile(
    r'^darkroom_database_call_seconds_count\{outcome="\w+",repository="(\w+)"\} ([0-9.]+)$',
    re.MULTILINE,
)
READ_BY_FOLLOWERS: Final = ("Conversation", "Turn", "Image")
TURNS: Final = """
subscription($id: ID!, $after: String) {
  turnUpdated(conversationId: $id, after: $after) { cursor turn { userMessage } }
}
"""
SEND: Final = """
mutation($id: ID!, $message: String!) {
  sendEdit(input: {
    conversationId: $id, userMessage: $message, selectedModels: ["local-ink"]
    idempotencyKey: $message
  }) { userErrors { code } }
}
"""

pytestmark = pytest.mark.skipif(not INPUTS, reason=WHY_NOT)


@pytest.fixture(scope="module")
async def replica_set(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ReplicaSet]:
    async with open_replica_set(tmp_path_factory.mktemp("set"), binary=need_mongod()) as opened:
        yield opened


@pytest.mark.timeout(0)
async def test_a_thousand_followers_continue_after_a_stepdown_and_a_restart(
    replica_set: ReplicaSet, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("followed")
    port = free_port()
    metrics_url = f"http://127.0.0.1:{port}/metrics"
    settings = {**UNLIMITED_ENVIRONMENT, **LIMITS, "DARKROOM_METRICS_PORT": str(port)}
    async with an_api(replica_set.uri, folder, settings=settings) as api:
        client = GraphQLClient(api.url, DevelopmentIssuer(folder).token("ana"))
        started = (await conversation_with(client))["conversation"]
        followed, cursor = started["id"], started["cursor"]

        async with AsyncExitStack() as stack:
            followers = await _follow(client, followed, cursor, stack)
            await _send(client, followed, "all are there")
            await _hear_of(followers, "all are there")
            before = await _calls_of(client, metrics_url)
            await replica_set.step_down()
            await replica_set.until_primary()
            await _send(client, followed, "after the stepdown")
            cursor = await _hear_of(followers, "after the stepdown")
            reads = await _calls_of(client, metrics_url) - before
        _check_reads("after a stepdown", reads)

        await _restart(api)
        await _send(client, followed, "after the restart")
        async with AsyncExitStack() as stack:
            before, began = await _calls_of(client, metrics_url), monotonic()
            followers = await _follow(client, followed, cursor, stack)
            await _hear_of(followers, "after the restart")
            seconds = monotonic() - began
            reads = await _calls_of(client, metrics_url) - before
        _check_reads(f"within {seconds:.1f} s, as all resume after a restart", reads)
        await client.aclose()


async def _follow(
    client: GraphQLClient, conversation_id: str, cursor: str, stack: AsyncExitStack
) -> list[Subscription]:
    """Many sockets, each with one subscription that resumes from the cursor."""
    opening = asyncio.Semaphore(CONNECTING)

    async def follow() -> Subscription:
        async with opening:
            updates = client.subscribe(TURNS, id=conversation_id, after=cursor)
            return await stack.enter_async_context(updates)

    return list(await asyncio.gather(*(follow() for _ in range(FOLLOWERS))))


async def _hear_of(followers: list[Subscription], message: str) -> str:
    """Wait until each has received the turn with this message; return the last cursor."""

    async def hear(subscription: Subscription) -> str:
        async for text in subscription.socket.connection:
            received = json.loads(text)
            assert received["type"] == "next", received
            update = received["payload"]["data"]["turnUpdated"]
            if update["turn"]["userMessage"] == message:
                cursor: str = update["cursor"]
                return cursor
        raise AssertionError("a socket was closed")

    async with asyncio.timeout(NEWS_SECONDS):
        cursors = await asyncio.gather(*map(hear, followers))
    return cursors[-1]


async def _send(client: GraphQLClient, conversation_id: str, message: str) -> None:
    """Send a turn, once the previous one has ended and the database takes it."""

    async def is_sent() -> bool:
        answer = await client.execute(SEND, id=conversation_id, message=message)
        return "errors" not in answer and not answer["data"]["sendEdit"]["userErrors"]

    await eventually(is_sent, within=NEWS_SECONDS, what=f"the turn {message} is sent")


async def _restart(api: Api) -> None:
    await api.kill()
    await api.start()


def _check_reads(when: str, calls: Counter[str]) -> None:
    """Followers share their reads: there are far fewer than followers."""
    to_terminal(f"{FOLLOWERS} followers: calls of the database {when}: {dict(calls)}")
    assert sum(calls[name] for name in READ_BY_FOLLOWERS) < FOLLOWERS


async def _calls_of(client: GraphQLClient, metrics_url: str) -> Counter[str]:
    """How often the process has called the database, by repository."""
    calls = Counter[str]()
    for name, number in CALLS.findall((await client.http.get(metrics_url)).text):
        calls[name] += int(float(number))
    return calls
