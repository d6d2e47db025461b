"""P15: rights end when they end: a token expires, a viewer is blocked, a conversation is deleted,
all while subscribed.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from time import monotonic, time
from typing import Final

import jwt

from edge.auth import LEEWAY
from storage.mongo.database import open_database
from storage.mongo.viewers import MongoViewerRepository
from tests.attacks.limits import Limit
from tests.attacks.outages import TITLES
from tests.attacks.site import Site
from tests.clients import Subscription
from tests.operations import DELETE, start

EXPIRING_WITHIN: Final = 10
"""Seconds; each token's own."""
CREDITS: Final = "subscription { viewerUpdated { id } }"
OPENING: Final = 20
PATIENCE_SECONDS: Final = 90.0


class Ends:
    """How late each right ended, at most, in seconds."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._opening = asyncio.Semaphore(OPENING)
        self.latest = dict.fromkeys(("expired", "blocked", "deleted"), 0.0)

    async def expire(self, number: int) -> None:
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(aclosing(self._site.client(None)))
            async with self._opening:
                token = self._site.token(f"expiring {number}", life=1 + number % EXPIRING_WITHIN)
                ends = jwt.decode(token, options={"verify_signature": False})["exp"]
                socket = await stack.enter_async_context(client.socket(token=token))
                await (await socket.subscribe(CREDITS)).next()
            assert await _closed_with(socket.closed_with) == 4403
        self._note("expired", time() - ends - LEEWAY.total_seconds())

    async def block(self, number: int) -> None:
        name = f"blocked {number}"
        async with (
            aclosing(self._site.client(name)) as client,
            client.subscribe(CREDITS) as updates,
            open_database(self._site.mongodb_uri, "attacked") as database,
        ):
            await updates.next()
            await MongoViewerRepository(database).block(
                self._site.viewer_id(name), reason="an attack"
            )
            began = monotonic()
            assert await _closed_with(updates.socket.closed_with) == 4403
            self._note("blocked", monotonic() - began)

    async def delete(self, number: int) -> None:
        async with aclosing(self._site.client(f"deleting {number}")) as client:
            async with self._opening:
                conversation_id = (await start(client))["conversation"]["id"]
            async with client.subscribe(TITLES, id=conversation_id) as updates:
                await updates.next()
                await client(DELETE, id=conversation_id)
                began = monotonic()
                await _completed(updates)
                self._note("deleted", monotonic() - began)

    def _note(self, what: str, late: float) -> None:
        self.latest[what] = max(self.latest[what], late)


async def _closed_with(closed: Callable[[], Awaitable[int]]) -> int:
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await closed()


async def _completed(updates: Subscription) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        await updates.completed()


async def attack(site: Site, limit: Limit) -> str:
    """Of all clients, four of five have a token that expires."""
    ends, some = Ends(site), max(1, limit.count // 10)
    async with asyncio.TaskGroup() as group:
        for number in range(limit.count - 2 * some):
            group.create_task(ends.expire(number))
        for number in range(some):
            group.create_task(ends.block(number))
            group.create_task(ends.delete(number))
    limit.done = limit.count
    late = ", ".join(f"{what} {seconds:.1f} s" for what, seconds in ends.latest.items())
    return f"{limit.count} subscribers; the last event or close came at most so late: {late}"
