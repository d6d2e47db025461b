"""A server in its own process, bytes sent to it by hand, and what other clients experience
meanwhile.
"""

import asyncio
import os
import re
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Final

from tests.conftest import a_database_name
from tests.resilience.processes import Api
from tests.resilience.scale import load_factor
from tests.waits import PATIENCE_SECONDS

MAX_WAIT_SECONDS: Final = 1.0
"""For the response to another client's small request. On an idle machine it is 0.05;
what these tests are about has been seconds.
"""
PAUSE_SECONDS: Final = 0.02
"""Between two of them: far less than such a wait. Without it they keep a processor busy."""
_CHUNK: Final = 64 * 1024


@asynccontextmanager
async def an_api(
    mongodb_uri: str,
    folder: Path,
    *,
    settings: Mapping[str, str] | None = None,
    module: str = "serve",
) -> AsyncIterator[Api]:
    """A process with its own database."""
    async with a_database_name(mongodb_uri) as name:
        environment = {
            "DARKROOM_MONGODB_URI": mongodb_uri,
            "DARKROOM_MONGODB_DATABASE": name,
            "DARKROOM_DATA_DIR": str(folder),
            **(settings or {}),
        }
        api = Api("api", data_dir=folder, environment=environment, module=module)
        await api.start()
        try:
            yield api
        finally:
            await api.kill()


class Connection:
    """A client that sends arbitrary bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def send(self, data: bytes) -> None:
        """Send as much as the server takes, which may be less than all once it has closed."""
        with suppress(OSError):
            for start in range(0, len(data), _CHUNK):
                self._writer.write(data[start : start + _CHUNK])
                await self._writer.drain()

    async def drip(self, data: bytes, *, every: float) -> None:
        """Send the same again and again, until the server closes."""
        with suppress(OSError):
            while not self._reader.at_eof():
                self._writer.write(data)
                await self._writer.drain()
                await asyncio.sleep(every)

    async def read(self, size: int) -> bytes:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self._reader.readexactly(size)

    async def read_until(self, end: bytes) -> bytes:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self._reader.readuntil(end)

    async def read_to_the_end(self) -> bytes:
        """All that comes until the server closes."""
        received = bytearray()
        async with asyncio.timeout(PATIENCE_SECONDS):
            with suppress(OSError):
                while data := await self._reader.read(_CHUNK):
                    received += data
        return bytes(received)

    def stop_reading(self) -> None:
        self._writer.transport.pause_reading()  # type: ignore[attr-defined]

    def close(self) -> None:
        self._writer.close()

    def reset(self) -> None:
        """Close as a client does that ends with unread data: by RST, not by FIN."""
        client: socket.socket = self._writer.get_extra_info("socket")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


@asynccontextmanager
async def connection_to(api: Api, *, has_room: bool = True) -> AsyncIterator[Connection]:
    """Connect, with or without room for what is received and not read."""
    client = socket.socket()
    client.setblocking(False)
    if not has_room:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    try:
        await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", api.port))
        reader, writer = await asyncio.open_connection(sock=client)
    except BaseException:
        client.close()
        raise
    connection = Connection(reader, writer)
    try:
        yield connection
    finally:
        connection.close()


def status_of(answer: bytes) -> int:
    """The status of the first answer; 0 where there is none."""
    found = re.match(rb"HTTP/1\.1 (\d{3}) ", answer)
    return int(found[1]) if found else 0


def memory_of(api: Api) -> int:
    """What the process has in memory, in bytes."""
    status = Path(f"/proc/{api.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found
    return int(found[1]) * 1024


def processor_seconds(api: Api) -> float:
    """What the process has used of a processor so far."""
    fields = Path(f"/proc/{api.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def loop_seconds(api: Api) -> float:
    """What its event loop has used of a processor so far, without other threads."""
    return int(Path(f"/proc/{api.pid}/task/{api.pid}/schedstat").read_text().split()[0]) / 1e9


@asynccontextmanager
async def others_are_served(api: Api) -> AsyncIterator[None]:
    """Send a small request again and again, and require that no response takes long.

    What counts is how long the API was busy meanwhile: on a machine with much else to do, every
    answer takes long.
    """
    waits = list[float]()
    ends = asyncio.Event()

    async def ask() -> None:
        while not waits or not ends.is_set():
            began, used = monotonic(), processor_seconds(api)
            async with connection_to(api) as other:
                await other.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                assert status_of(await other.read_to_the_end()) == 200
            waits.append(min(monotonic() - began, processor_seconds(api) - used))
            await asyncio.sleep(PAUSE_SECONDS)

    asking = asyncio.create_task(ask())
    try:
        yield
    finally:
        ends.set()
        await asyncio.wait([asking])
    asking.result()
    assert max(waits) < MAX_WAIT_SECONDS * load_factor()
