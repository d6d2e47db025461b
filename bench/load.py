"""The load: as many sockets and requests as are wanted, and as little work for each as possible.

Frames are counted by their headers, and looked through for a marker; nothing is parsed as JSON.
"""

import asyncio
import os
import re
import time
from collections.abc import Callable
from typing import Any, ClassVar, Final
from weakref import WeakSet

import orjson

_MARKER: Final = re.compile(rb'"text": ?"m([0-9]+)"')
_UPGRADE: Final = (
    "GET /graphql HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n"
)
_TEXT: Final = 1
_CLOSE: Final = 8
_PING: Final = 9
_PONG: Final = 10
TIMEOUT_SECONDS: Final = 60.0


class Socket(asyncio.Protocol):
    """One WebSocket with one subscription."""

    def __init__(
        self, messages: list[bytes], heard: Callable[["Socket"], None], conversation_id: str
    ) -> None:
        self.conversation_id = conversation_id
        self._messages = messages
        self._heard = heard
        self._upgraded = False
        self._rest = b""
        self.frames = 0
        """Of the subscription: what is no answer to it is not counted."""
        self.marker = -1
        """The newest."""
        self.heard_at = 0.0
        self.has_completed = False
        self.closed_with: int | None = None
        self.transport: asyncio.Transport | None = None
        self.subscribed = asyncio.get_running_loop().create_future()
        """Done with the first state."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(_UPGRADE.encode())

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.subscribed.done():
            self.subscribed.set_exception(exc or ConnectionError(f"closed with {self.closed_with}"))

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        if not self._upgraded:
            head, found, data = data.partition(b"\r\n\r\n")
            if not found:
                self._rest = head
                return
            assert head.startswith(b"HTTP/1.1 101"), head
            self._upgraded = True
            assert self.transport is not None
            for message in self._messages:
                self.transport.write(masked(message))
        position, size = 0, len(data)
        while size - position >= 2:
            length, start = data[position + 1] & 127, position + 2
            if length == 126:
                length, start = int.from_bytes(data[position + 2 : position + 4], "big"), start + 2
            elif length == 127:
                length, start = int.from_bytes(data[position + 2 : position + 10], "big"), start + 8
            if start + length > size:
                break
            if data[position] & 15 == 1:
                self._read(data[start : start + length])
            elif data[position] & 15 == _CLOSE:
                self.closed_with = int.from_bytes(data[start : start + 2], "big")
            elif data[position] & 15 == _PING and self.transport is not None:
                self.transport.write(masked(data[start : start + length], kind=_PONG))
            position = start + length
        self._rest = data[position:]

    def _read(self, message: bytes) -> None:
        if b'"next"' not in message[:40] and b'"type":"next"' not in message[:120]:
            assert b'"error"' not in message, message
            self.has_completed |= b'"complete"' in message[:60]
            self._heard(self)
            return
        self.frames += 1
        self.heard_at = time.perf_counter()
        if not self.subscribed.done():
            self.subscribed.set_result(None)
        found = _MARKER.search(message)
        if found:
            self.marker = int(found[1])
        self._heard(self)


class Sockets:
    """Sockets on one server."""

    opened: ClassVar["WeakSet[Sockets]"] = WeakSet()

    def __init__(self, port: int, token: str | None) -> None:
        Sockets.opened.add(self)
        self._port = port
        payload = {"Authorization": f"Bearer {token}"} if token else {}
        self._init = orjson.dumps({"type": "connection_init", "payload": payload})
        self.all: list[Socket] = []
        self._waiting: tuple[Callable[[], bool], asyncio.Event] | None = None

    async def subscribe(self, document: str, ids: list[str], *, at_once: int = 32) -> None:
        """One for each of the conversations, each with its first state."""
        limit = asyncio.Semaphore(at_once)

        async def one(number: int, conversation_id: str) -> None:
            payload = {
                "query": document,
                "operationName": "Follow",
                "variables": {"id": conversation_id},
            }
            subscribe = orjson.dumps({"id": "1", "type": "subscribe", "payload": payload})
            async with limit:
                _, socket = await asyncio.get_running_loop().create_connection(
                    lambda: Socket([self._init, subscribe], self._hear, conversation_id),
                    "127.0.0.1",
                    self._port,
                    local_addr=(f"127.0.0.{2 + number // 20_000}", 0),
                )
                self.all.append(socket)
                await asyncio.wait_for(asyncio.shield(socket.subscribed), TIMEOUT_SECONDS)

        await asyncio.gather(*(one(number, name) for number, name in enumerate(ids)))

    @property
    def frames(self) -> int:
        return sum(socket.frames for socket in self.all)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return once it is true; it is looked at after each message."""
        event = asyncio.Event()
        self._waiting = (condition, event)
        if not condition():
            await asyncio.wait_for(event.wait(), TIMEOUT_SECONDS)
        self._waiting = None

    async def until_quiet(self, expected: int) -> None:
        """Return once so many frames have come, or none for a second: states of a turn that follow
        one another closely may come as one.
        """
        while (had := self.frames) < expected:
            await asyncio.sleep(1)
            if self.frames == had:
                return

    def _hear(self, _: Socket) -> None:
        if self._waiting is not None and self._waiting[0]():
            self._waiting[1].set()

    @classmethod
    async def close_all(cls) -> None:
        """After a row that has failed."""
        for sockets in tuple(cls.opened):
            await sockets.close()

    async def close(self) -> None:
        for socket in self.all:
            if socket.transport is not None:
                socket.transport.abort()
        self.all.clear()
        await asyncio.sleep(0.3)


class Requests:
    """Requests over connections that are kept."""

    def __init__(self, port: int, token: str) -> None:
        self._port = port
        self._token = token

    async def run(self, bodies: list[bytes], *, connections: int) -> list[float]:
        """Send them all, and return how long each took, in seconds."""
        waiting = list(reversed(bodies))
        times: list[float] = []

        async def one() -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            while waiting:
                body = waiting.pop()
                began = time.perf_counter()
                writer.write(
                    b"POST /graphql HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/json\r\n"
                    b"Content-Type: application/json\r\nAuthorization: Bearer %b\r\n"
                    b"Content-Length: %d\r\n\r\n%b" % (self._token.encode(), len(body), body)
                )
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200"), head
                found = re.search(rb"(?i)content-length: ([0-9]+)", head)
                assert found is not None
                answer = await reader.readexactly(int(found[1]))
                times.append(time.perf_counter() - began)
                assert b'"errors"' not in answer, answer
            writer.close()

        await asyncio.gather(*(one() for _ in range(connections)))
        return times


def masked(message: bytes, *, kind: int = _TEXT) -> bytes:
    """A client's frame of a message."""
    size, key = len(message), os.urandom(4)
    head = bytes((0x80 | kind, 0x80 | size if size < 126 else 0xFE))
    head += size.to_bytes(2, "big") if size >= 126 else b""
    repeated = (key * (size // 4 + 1))[:size]
    mask = int.from_bytes(repeated, "big") ^ int.from_bytes(message, "big")
    return head + key + mask.to_bytes(size, "big")
