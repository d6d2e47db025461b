"""A way to a server that can be blocked, slowed, cut, or led to another answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

_CHUNK_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Fault:
    """What becomes of a connection. By itself it is passed on as it is."""

    refuses: bool = False
    """It is reset before anything is read."""
    silent: bool = False
    """What is asked is never answered."""
    answer: bytes | None = None
    """Told in place of the server's answer, which is not asked."""
    cut_answer_after: int | None = None
    """So many bytes of the server's answer arrive, and then the connection ends."""
    cut_request_after: int | None = None
    """So many bytes of the request arrive at the server, and then both connections end."""


class Detour:
    """Connections that are led to a server, or not."""

    def __init__(self, port: int) -> None:
        self.url = ""
        self.connections = 0
        self.used = asyncio.Event()
        self._port = port
        self._fault = Fault()
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    def becomes(self, fault: Fault) -> None:
        """Do so from here on. What is open is ended, for it would go on as it began."""
        self._fault = fault
        self.used.clear()
        for task, writer in self._open.items():
            task.cancel()
            writer.transport.abort()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.used.set()
        task = asyncio.create_task(_lead(self._fault, self._port, reader, writer))
        self._open[task] = writer
        task.add_done_callback(self._open.pop)

    async def end(self) -> None:
        self.becomes(Fault())
        await asyncio.gather(*self._open, return_exceptions=True)


@asynccontextmanager
async def detour_to(url: str) -> AsyncIterator[Detour]:
    """Serve on loopback until the block ends."""
    detour = Detour(urlsplit(url).port or 80)
    server = await asyncio.start_server(detour.accept, "127.0.0.1", 0)
    detour.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield detour
    finally:
        server.close()
        await detour.end()


async def _lead(
    fault: Fault, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    try:
        if fault.refuses:
            writer.transport.abort()
        elif fault.silent:
            await asyncio.Event().wait()
        elif fault.answer is not None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(fault.answer)
            await writer.drain()
            writer.write_eof()
            # Closing with bytes unread would reset the connection, and the answer with it.
            with suppress(TimeoutError):
                async with asyncio.timeout(1):
                    while await reader.read(_CHUNK_BYTES):
                        pass
        else:
            there, back = await asyncio.open_connection("127.0.0.1", port)
            try:
                await _both_ways(fault, (reader, back), (there, writer))
            finally:
                back.transport.abort()
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.transport.abort()


_Way = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _both_ways(fault: Fault, request: _Way, answer: _Way) -> None:
    ways = [
        asyncio.create_task(_pass(*request, limit=fault.cut_request_after)),
        asyncio.create_task(_pass(*answer, limit=fault.cut_answer_after)),
    ]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


async def _pass(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, limit: int | None
) -> None:
    left = limit
    while left is None or left > 0:
        data = await reader.read(_CHUNK_BYTES if left is None else min(left, _CHUNK_BYTES))
        if not data:
            return
        writer.write(data)
        await writer.drain()
        left = None if left is None else left - len(data)
