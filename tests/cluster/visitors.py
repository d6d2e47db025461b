"""Viewers who ask a cluster for an image after each trial, one at each API process."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from time import monotonic
from typing import Final
from uuid import uuid4

import httpx2

from tests.clients import GraphQLClient
from tests.operations import start
from tests.uploads import complete_or_refuse, create, declared, send_file
from tests.waits import eventually

LANDED_SECONDS: Final = 600.0
_PAGE: Final = b"<html>"


class Visitors:
    def __init__(self, clients: Sequence[GraphQLClient]) -> None:
        self._clients = clients

    async def until_landed(self) -> float:
        """Ask each API for an image; the seconds until the last one has landed."""
        started_at = monotonic()
        await asyncio.gather(*(_until_landed(client) for client in self._clients))
        return monotonic() - started_at

    async def until_refused(self) -> None:
        """Upload a page: the dashboard shows refused uploads too."""
        client = self._clients[0]

        async def is_refused() -> bool:
            try:
                [upload] = await create(client, declared(_PAGE))
                await send_file(upload, _PAGE)
                refused = await complete_or_refuse(client, upload["id"])
            except (AssertionError, httpx2.HTTPError):
                return False
            return [error["code"] for error in refused["userErrors"]] == ["UPLOAD_TYPE_UNSUPPORTED"]

        await eventually(is_refused, within=LANDED_SECONDS, what="an upload is refused")


@asynccontextmanager
async def visitors(
    urls: Sequence[str], token: Callable[[str], str], *, why: str
) -> AsyncIterator[Visitors]:
    """The same ones for many visits: the first visit of a viewer stores sample images."""
    async with AsyncExitStack() as stack:
        clients = []
        for number, url in enumerate(urls):
            client = GraphQLClient(url, token(f"visitor {number} of {why}"))
            stack.push_async_callback(client.aclose)
            clients.append(client)
        yield Visitors(clients)


async def _until_landed(client: GraphQLClient) -> None:
    await eventually(lambda: _lands(client), within=LANDED_SECONDS, what="an image lands")


async def _lands(client: GraphQLClient) -> bool:
    try:
        payload = await start(client, userMessage=f"A boat, {uuid4().hex}")
    except (AssertionError, httpx2.HTTPError, KeyError):
        return False

    async def completed() -> bool:
        try:
            answer = await client.execute(
                "query ($id: ID!) { turn(id: $id) { status } }", id=payload["turn"]["id"]
            )
        except httpx2.HTTPError:
            return False
        return "errors" not in answer and answer["data"]["turn"]["status"] == "COMPLETED"

    await eventually(completed, within=LANDED_SECONDS, what="an image lands", every=0.2)
    return True
