"""Streamed HTTP responses as a client reads them: byte by byte, and as results."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final

import httpx2
import pytest

from edge import media_types
from tests.clients import Data, GraphQLClient
from tests.operations import conversation_with
from tests.waits import PATIENCE_SECONDS

EVENTS: Final = "text/event-stream"
PARTS: Final = "multipart/mixed;boundary=graphql;subscriptionSpec=1.0"
TITLES: Final = "subscription($id: ID!) { conversationUpdated(conversationId: $id) { title } }"


async def a_conversation(client: GraphQLClient) -> str:
    payload = await conversation_with(client)
    conversation_id: str = payload["conversation"]["id"]
    return conversation_id


def beat_often(monkeypatch: pytest.MonkeyPatch, media_type: str) -> None:
    """Have streams of this type send heartbeats twenty times a second."""
    often = replace(media_types.STREAMS[media_type], heartbeat_seconds=0.05)
    monkeypatch.setitem(media_types.STREAMS, media_type, often)
    # What a header means is remembered: others may have sent the same one.
    monkeypatch.setattr(media_types, "_choose_remembered", media_types._choose)


class Body:
    """What a response brings, in order."""

    def __init__(self, response: httpx2.Response) -> None:
        self.response = response
        self._chunks = response.aiter_bytes()
        self._unread = b""

    async def until(self, end: bytes) -> bytes:
        """All up to an end, which is part of it."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while end not in self._unread:
                self._unread += await anext(self._chunks)
        found, end, self._unread = self._unread.partition(end)
        return found + end

    async def rest(self) -> bytes:
        """All until it ends. Raise httpx2.RemoteProtocolError where it is cut."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            async for chunk in self._chunks:
                self._unread += chunk
        return self._unread

    async def event(self) -> tuple[str, Any]:
        """The next event's name and data. Comments are left out."""
        while (lines := (await self.until(b"\n\n")).decode().split("\n"))[0] == ":":
            pass
        name, data = lines[0].removeprefix("event: "), lines[1].removeprefix("data:")
        assert lines[2:] == ["", ""], lines
        return name, json.loads(data) if data else None

    async def next(self) -> Data:
        """The data of the next event, which is a result without errors."""
        name, result = await self.event()
        assert name == "next", name
        assert "errors" not in result, result
        data: Data = result["data"]
        return data

    async def part(self) -> Any:
        """The next part's JSON. Heartbeats are left out."""
        while True:
            head = (await self.until(b"\r\n\r\n")).decode().split("\r\n")
            body, _, _ = (await self.until(b"\r\n--graphql")).rpartition(b"\r\n")
            assert head[1:] == [
                "content-type: application/json",
                f"content-length: {len(body)}",
                "",
                "",
            ]
            if (found := json.loads(body)) != {}:
                return found


@asynccontextmanager
async def streaming(
    client: GraphQLClient, query: str, *, accept: str = EVENTS, **variables: Any
) -> AsyncIterator[Body]:
    """POST an operation, and read its answer as it comes."""
    async with client.http.stream(
        "POST",
        "/graphql",
        json={"query": query, "variables": variables},
        headers={"accept": accept},
    ) as response:
        yield Body(response)
