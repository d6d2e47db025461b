"""Subscriptions over HTTP whose clients read nothing, while much is sent to them."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from typing import Final, NamedTuple

from domain.background import cancel_all
from tests.attacks.site import Site
from tests.clients import GraphQLClient
from tests.edge.hostile import connection_to, status_of
from tests.edge.streams import EVENTS, PARTS
from tests.http import open_http
from tests.operations import RENAME, SMALL, START

OWNERS: Final = 10
PROMPT: Final = "🌊" * 2_000
UPDATES: Final = (
    "subscription($id: ID!) { conversationUpdated(conversationId: $id) { title latestTurn { "
    + " ".join(f"a{number}: userMessage" for number in range(28))
    + " } } }"
)
"""Each update has 224 KB."""
RENAMED_EVERY_SECONDS: Final = 0.2


class Owner(NamedTuple):
    """A viewer, and a conversation whose updates are large."""

    client: GraphQLClient
    conversation_id: str


@asynccontextmanager
async def owners_of_streams(site: Site) -> AsyncIterator[list[Owner]]:
    async with AsyncExitStack() as stack:
        clients = [site.client(f"streams {number}") for number in range(OWNERS)]
        for client in clients:
            stack.push_async_callback(client.aclose)
        yield [Owner(client, await _start(client)) for client in clients]


@asynccontextmanager
async def unread_streams(site: Site, owners: Sequence[Owner], streams: int) -> AsyncIterator[None]:
    """Open streams that nobody reads, of both media types, and cause updates until the block
    ends.
    """
    async with AsyncExitStack() as stack:
        for number in range(streams):
            connection = await stack.enter_async_context(connection_to(site.api, has_room=False))
            accept, owner = (EVENTS, PARTS)[number % 2], owners[number // 2 % len(owners)]
            await connection.send(_subscribe(owner, accept))
            assert status_of(await connection.read_until(b"\r\n\r\n")) == 200
            connection.stop_reading()
        renaming = [asyncio.create_task(_rename(owner)) for owner in owners]
        try:
            yield
            assert not any(task.done() for task in renaming)
        finally:
            await cancel_all(renaming)


async def count_subscriptions(site: Site) -> int:
    """How many subscriptions of all transports the API has open."""
    async with open_http() as http:
        text = (await http.get(site.metrics_url)).text
    found = re.search(r"^darkroom_subscriptions ([0-9.]+)$", text, re.MULTILINE)
    assert found, text
    return round(float(found[1]))


async def _start(client: GraphQLClient) -> str:
    given = {"userMessage": PROMPT, "selectedModels": ["local-ink"], "options": SMALL}
    started = (await client(START, input=given))["startConversation"]
    assert started["userErrors"] == []
    conversation_id: str = started["conversation"]["id"]
    return conversation_id


async def _rename(owner: Owner) -> None:
    for number in count():
        await owner.client(RENAME, id=owner.conversation_id, title=f"{number}")
        await asyncio.sleep(RENAMED_EVERY_SECONDS)


def _subscribe(owner: Owner, accept: str) -> bytes:
    asked = {"query": UPDATES, "variables": {"id": owner.conversation_id}}
    body = json.dumps(asked).encode()
    head = (
        "POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Accept: {accept}\r\nAuthorization: Bearer {owner.client.token}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
