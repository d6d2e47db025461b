"""A proxy that injects faults: it can refuse, stall or cut connections, or answer itself."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

_CHUNK_BYTES: Final = 64 * 1024
_CONNECTION: Final = re.compile(rb"(?i)\r\nconnection:[^\r]*")


@dataclass(frozen=True, slots=True)
class Fault:
    """How a connection is treated. By default it is passed on unchanged."""

    refuses: bool = False
    """It is reset before anything is read."""
    silent: bool = False
    """Requests are never answered."""
    answer: bytes | None = None
    """Sent instead of the server's response; the server is not called."""
    cut_answer_after: int | None = None
    """This many bytes of the server's response arrive, and then the connection ends."""
    cut_request_after: int | None = None
    """This many bytes of the request arrive at the server, and then both connections end."""


class FaultyProxy:
    """Forwards connections to a server, or treats them as the current fault says."""

    def __init__(self, port: int) -> None:
        self.url = ""
        self.connections = 0
        self.used = asyncio.Event()
        self._port = port
        self._fault = Fault()
        self._choose_fault: Callable[[bytes], Fault] | None = None
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    def set_fault(self, fault: Fault) -> None:
        """Treat new connections like this. Open ones are ended, since they keep their fault."""
        self._fault, self._choose_fault = fault, None
        self._end_connections()

    def choose_fault_by(self, choose: Callable[[bytes], Fault]) -> None:
        """Choose the fault of each request by its head. A connection carries one request."""
        self._choose_fault = choose
        self._end_connections()

    def _end_connections(self) -> None:
        self.used.clear()
        for task, writer in self._open.items():
            task.cancel()
            writer.transport.abort()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.used.set()
        task = asyncio.create_task(self._handle(reader, writer))
        self._open[task] = writer
        task.add_done_callback(self._open.pop)

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._choose_fault is None:
            return await _handle(self._fault, self._port, reader, writer)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (OSError, asyncio.IncompleteReadError):
            return writer.transport.abort()
        # Both sides are asked to close, since a second request would bypass the decision.
        only = _CONNECTION.sub(b"", head)[:-2] + b"Connection: close\r\n\r\n"
        return await _handle(self._choose_fault(head), self._port, reader, writer, read=only)

    async def end(self) -> None:
        self.set_fault(Fault())
        await asyncio.gather(*self._open, return_exceptions=True)


@asynccontextmanager
async def open_faulty_proxy(url: str) -> AsyncIterator[FaultyProxy]:
    """Serve on loopback until the block ends."""
    proxy = FaultyProxy(urlsplit(url).port or 80)
    server = await asyncio.start_server(proxy.accept, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        await proxy.end()


async def _handle(
    fault: Fault,
    port: int,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    *,
    read: bytes = b"",
) -> None:
    """`read` has been taken from the connection already."""
    try:
        if fault.refuses:
            writer.transport.abort()
        elif fault.silent:
            await asyncio.Event().wait()
        elif fault.answer is not None:
            if not read:
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
                await _forward(fault, (reader, back), (there, writer), read)
            finally:
                back.transport.abort()
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.transport.abort()


_Way = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _forward(fault: Fault, request: _Way, answer: _Way, read: bytes) -> None:
    ways = [
        asyncio.create_task(_pass(*request, limit=fault.cut_request_after, read=read)),
        asyncio.create_task(_pass(*answer, limit=fault.cut_answer_after)),
    ]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


async def _pass(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    *,
    limit: int | None,
    read: bytes = b"",
) -> None:
    left = limit
    while left is None or left > 0:
        data = read if left is None else read[:left]
        read = b""
        if not data:
            data = await reader.read(_CHUNK_BYTES if left is None else min(left, _CHUNK_BYTES))
        if not data:
            return
        writer.write(data)
        await writer.drain()
        left = None if left is None else left - len(data)
