"""Many readers of a share behind one address: a class, an office, or a whole mobile network."""

import asyncio
import random
from typing import Final

from settings import Limits
from tests.api.test_shares import FOLLOW_SHARED, READ, share
from tests.clients import GraphQLClient
from tests.conftest import StartDarkroom
from tests.operations import conversation_with

READERS: Final = 100
SECONDS: Final = 90.0
"""On a busy machine; on one that is not, it takes two."""


async def test_a_hundred_readers_of_one_address_can_open_a_share_together(
    start_darkroom: StartDarkroom,
) -> None:
    """With the default limits, but for the time of an operation: this is not about a slow machine.
    Clients follow `Retry-After`, as documented.
    """
    darkroom = await start_darkroom(limit=Limits(operation_seconds=200))
    client = darkroom.client()
    done = await conversation_with(client, turns=2)
    token = (await share(client, done["conversation"]["id"]))["token"]
    reader = darkroom.anonymous()

    async def open_it(number: int) -> int:
        tries = await read(reader, token)
        async with reader.subscribe(FOLLOW_SHARED, token=token) as updates:
            await updates.next()
        return tries

    async with asyncio.timeout(SECONDS):
        tries = await asyncio.gather(*(open_it(number) for number in range(READERS)))

    # All but a few are answered at once, though their connections come together.
    assert sum(tries) < 1.5 * READERS


async def read(reader: GraphQLClient, token: str) -> int:
    """How many times it was called."""
    for tries in range(1, 100):
        answer = await reader.execute(READ, token=token, first=20)
        if "errors" not in answer:
            return tries
        extensions = answer["errors"][0]["extensions"]
        assert extensions["code"] in ("RATE_LIMITED", "OVERLOADED", "DEADLINE_EXCEEDED")
        await asyncio.sleep(extensions.get("retryAfterSeconds", 1) * random.uniform(1, 1.2))
    raise AssertionError("It was never answered.")
