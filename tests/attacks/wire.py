"""Requests by hand on one connection: a library takes longer for each than the server."""

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, NamedTuple

from tests.edge.hostile import Connection, connection_to, status_of
from tests.resilience.processes import Api

JSON: Final = "application/json"
TOO_MANY: Final = 429
INTERNAL: Final = b'"code":"INTERNAL"'
_LENGTH: Final = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_CLOSES: Final = re.compile(rb"(?i)\r\nconnection: *close")


class Answer(NamedTuple):
    status: int
    body: bytes


class Wire:
    """A connection that is opened again when the server has closed it."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._stack = AsyncExitStack()
        self._connection: Connection | None = None

    async def post(self, body: bytes, token: str | None = None) -> Answer:
        head = f"POST /graphql HTTP/1.1\r\nhost: x\r\ncontent-type: {JSON}\r\n"
        if token is not None:
            head += f"authorization: Bearer {token}\r\n"
        head += f"content-length: {len(body)}\r\n\r\n"
        try:
            return await self._ask(head.encode() + body)
        except (EOFError, OSError):
            # An idle connection is closed after five seconds.
            await self.aclose()
            return await self._ask(head.encode() + body)

    async def aclose(self) -> None:
        self._connection = None
        await self._stack.aclose()

    async def _ask(self, request: bytes) -> Answer:
        if self._connection is None:
            self._connection = await self._stack.enter_async_context(connection_to(self._api))
        await self._connection.send(request)
        head = await self._connection.read_until(b"\r\n\r\n")
        length = _LENGTH.search(head)
        assert length, head
        body = await self._connection.read(int(length[1]))
        if _CLOSES.search(head):
            await self.aclose()
        return Answer(status_of(head), body)


@asynccontextmanager
async def wires(api: Api, count: int) -> AsyncIterator[list[Wire]]:
    opened = [Wire(api) for _ in range(count)]
    try:
        yield opened
    finally:
        for wire in opened:
            await wire.aclose()
