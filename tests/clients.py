"""Clients as an app would implement them: GraphQL over HTTP, and graphql-transport-ws."""

import asyncio
import itertools
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.http import open_http
from tests.waits import PATIENCE_SECONDS

Data = dict[str, Any]

PAUSE_SECONDS = 0.05
"""Between two questions whether something has ended."""


class GraphQLClient:
    """A client of one Darkroom, for one viewer or without a token."""

    def __init__(
        self, url: str, token: str | None, *, secure: ssl.SSLContext | None = None
    ) -> None:
        self.url = url
        self.token = token
        self._connect_options = {"ssl": secure} if secure else {}
        headers = {"authorization": f"Bearer {token}"} if token else {}
        # An idle connection is left before the server closes it, after 5 seconds: a request that
        # crosses the end of its connection is lost.
        limits = httpx2.Limits(keepalive_expiry=2)
        verified = {"verify": secure} if secure else {}
        self.http = open_http(base_url=url, headers=headers, limits=limits, **verified)

    async def aclose(self) -> None:
        await self.http.aclose()

    async def post(self, body: object, **headers: str) -> httpx2.Response:
        return await self.http.post("/graphql", json=body, headers=headers)

    async def execute(self, query: str, **variables: Any) -> Data:
        """The whole answer."""
        response = await self.post({"query": query, "variables": variables})
        answer: Data = response.json()
        return answer

    async def __call__(self, query: str, **variables: Any) -> Data:
        """The data of an answer without errors."""
        answer = await self.execute(query, **variables)
        assert "errors" not in answer, answer["errors"]
        data: Data = answer["data"]
        return data

    @asynccontextmanager
    async def socket(self, *, token: str | None = None) -> AsyncIterator["Socket"]:
        async with connect_to(self.url, **self._connect_options) as connection:
            socket = Socket(connection)
            token = token or self.token
            payload = {"authorization": f"Bearer {token}"} if token else {}
            await socket.send(type="connection_init", payload=payload)
            assert (await socket.receive())["type"] == "connection_ack"
            yield socket

    @asynccontextmanager
    async def subscribe(self, query: str, **variables: Any) -> AsyncIterator["Subscription"]:
        async with self.socket() as socket:
            yield await socket.subscribe(query, **variables)


@asynccontextmanager
async def connect_to(url: str, **options: Any) -> AsyncIterator[ClientConnection]:
    address = url.replace("http", "ws", 1) + "/graphql"
    options = {"subprotocols": [Subprotocol("graphql-transport-ws")], "close_timeout": 1, **options}
    async with connect(address, **options) as connection:
        yield connection


class Socket:
    """One connection of graphql-transport-ws."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self._ids = itertools.count(1)

    async def send(self, **message: Any) -> None:
        await self.connection.send(json.dumps(message))

    async def receive(self) -> Data:
        async with asyncio.timeout(PATIENCE_SECONDS):
            message: Data = json.loads(await self.connection.recv())
            return message

    async def subscribe(self, query: str, **variables: Any) -> "Subscription":
        operation_id = str(next(self._ids))
        payload = {"query": query, "variables": variables}
        await self.send(id=operation_id, type="subscribe", payload=payload)
        return Subscription(self, operation_id)

    async def closed_with(self) -> int:
        """The code that the server closes the socket with."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self.connection.wait_closed()
        assert self.connection.close_code is not None
        return self.connection.close_code


class Subscription:
    """The one operation of a socket that this test follows."""

    def __init__(self, socket: Socket, operation_id: str) -> None:
        self.socket = socket
        self.id = operation_id

    async def message(self) -> Data:
        message = await self.socket.receive()
        assert message["id"] == self.id, message
        return message

    async def next(self) -> Data:
        """The data of the next result."""
        message = await self.message()
        assert message["type"] == "next", message
        assert "errors" not in message["payload"], message
        data: Data = message["payload"]["data"]
        return data

    async def until(self, wanted: Callable[[Data], bool]) -> list[Data]:
        """All results up to the first that matches."""
        seen = [await self.next()]
        while not wanted(seen[-1]):
            seen.append(await self.next())
        return seen

    async def completed(self) -> list[Data]:
        """All results until the server completes the operation."""
        seen: list[Data] = []
        while (message := await self.message())["type"] == "next":
            seen.append(message["payload"]["data"])
        assert message["type"] == "complete", message
        return seen
