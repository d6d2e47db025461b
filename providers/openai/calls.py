"""Requests to the Images API, with the key. What they are answered is for others to judge."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import httpx2

from providers.http import open_client, opened
from providers.openai.doors import Door, Verb

READ_SECONDS: Final = 600.0
"""A model says nothing while it paints: what ends the wait is the output's deadline."""
WRITE_SECONDS: Final = 120.0


class OpenAICalls:
    """Each request has a connection of its own."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._client = open_client(
            reuse=False, read_seconds=READ_SECONDS, write_seconds=WRITE_SECONDS
        )

    async def aclose(self) -> None:
        await self._client.aclose()

    @asynccontextmanager
    async def ask(
        self, verb: Verb, model: str, parts: Sequence[bytes], *, content_type: str, within: float
    ) -> AsyncIterator[httpx2.Response]:
        """The answer, once its head is there. Raise `Unanswered` where none comes."""
        async with opened(
            self._client,
            "POST",
            self._door.url(verb, model),
            within=within,
            headers={
                **self._door.headers,
                "content-type": content_type,
                "accept": "application/json, text/event-stream",
            },
            content=parts,
        ) as response:
            yield response
