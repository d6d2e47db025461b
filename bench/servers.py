"""The measured servers as processes of their own, on one mongod, and what they use."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pymongo import AsyncMongoClient

from bench.documents import Record, Records
from bench.usage import resident_bytes
from domain.ids import ViewerId
from edge.dev_tokens import DevelopmentIssuer
from runtime.local_mongod import Mongod, find_mongod
from tests.clients import GraphQLClient
from tests.serving import free_port

DATABASE: Final = "darkroom"
START_SECONDS: Final = 180
PLAIN: Final = "strawberry"
SERVERS: Final = ("relay", "darkroom", PLAIN)
RAISED_LIMITS: Final = {
    "DARKROOM_LIMIT_VIEWER_REQUESTS": "1000000",
    "DARKROOM_LIMIT_COST": "100000000",
    "DARKROOM_LIMIT_COST_PER_SECOND": "1000000",
    "DARKROOM_LIMIT_REQUESTS_IN_FLIGHT": "1000",
    "DARKROOM_LIMIT_PROCESS_REQUESTS_IN_FLIGHT": "1000",
    "DARKROOM_LIMIT_VIEWER_SOCKETS": "20000",
    "DARKROOM_LIMIT_ADDRESS_SOCKETS": "20000",
    "DARKROOM_LIMIT_VIEWER_SUBSCRIPTIONS": "20000",
    "DARKROOM_LIMIT_ADDRESS_REQUESTS": "1000000",
    "DARKROOM_LIMIT_ADDRESS_SUBSCRIPTIONS": "10000",
    "DARKROOM_LIMIT_INIT_SECONDS": "60",
}
"""All load is one viewer's, from one address. A busy machine is given time.
Everything else has its usual limit.
"""


@dataclass(frozen=True, slots=True)
class Server:
    name: str
    port: int
    token: str
    pid: int
    folder: Path
    idle_megabytes: float
    """What it held at its start."""

    def processor(self) -> float:
        """Seconds of processor time so far, of all threads."""
        used = 0
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            used += int((task / "schedstat").read_text().split()[0])
        return used / 1e9

    def megabytes(self) -> float:
        return resident_bytes(self.pid) / 2**20

    async def probe(self) -> dict[str, Any]:
        """Begin to watch its loop, or end it and return what was seen."""
        path = _probe_of(self.folder, self.name)
        path.unlink(missing_ok=True)
        os.kill(self.pid, signal.SIGUSR1)
        for _ in range(200):
            await asyncio.sleep(0.02)
            if path.exists() and path.read_text():
                found: dict[str, Any] = json.loads(path.read_text())
                return found
        return {}


@dataclass(frozen=True, slots=True)
class Bench:
    """Everything that rows measure with."""

    servers: dict[str, Server]
    records: Records
    database: Any
    owner_id: ViewerId
    turns: dict[str, list[Record]]
    """By conversation."""

    async def add(self, count: int, *, turns: int, gallery: bool = False) -> list[str]:
        """Write conversations; return their ids."""
        ids: list[str] = []
        for _ in range(count):
            conversation, made = self.records.conversation(turns=turns)
            await self.database.conversations.insert_one(conversation)
            await self.database.turns.insert_many(made)
            if gallery:
                await self.database.images.insert_many(self.records.gallery(made))
            ids.append(conversation["_id"])
            self.turns[conversation["_id"]] = made
        await asyncio.sleep(1)  # until the servers have passed over these changes
        return ids

    async def commit(self, conversation_id: str, marker: int) -> None:
        """Land something in the conversation's last turn, as the output's worker would."""
        turn = self.turns[conversation_id][-1]
        await self.database.turns.update_one(
            {"_id": turn["_id"]},
            {
                "$inc": {"version": 1, "outputs.0.version": 1},
                "$set": {"outputs.0.text": f"m{marker}"},
                "$currentDate": {"updatedAt": True, "changedAt": {"$type": "timestamp"}},
            },
        )


@asynccontextmanager
async def open_bench(
    folder: Path, *, others: Sequence[str] = ("relay", PLAIN)
) -> AsyncIterator[Bench]:
    """Start mongod, Darkroom, and the other servers."""
    async with _open_mongod(folder) as uri, AsyncExitStack() as stack:
        client = await stack.enter_async_context(AsyncMongoClient[Record](uri))
        servers: dict[str, Server] = {}
        darkroom = servers["darkroom"] = await _start(stack, "darkroom", uri=uri, folder=folder)
        api = GraphQLClient(f"http://127.0.0.1:{darkroom.port}", darkroom.token)
        owner = (await api("{ viewer { id } }"))["viewer"]["id"]
        await api.aclose()
        for name in others:
            servers[name] = await _start(stack, name, uri=uri, folder=folder, owner_id=owner)
        records = Records(owner)
        yield Bench(servers, records, client[DATABASE], owner, {})


@asynccontextmanager
async def open_darkroom(folder: Path) -> AsyncIterator[Server]:
    """Start mongod and a Darkroom alone."""
    async with _open_mongod(folder) as uri, AsyncExitStack() as stack:
        yield await _start(stack, "darkroom", uri=uri, folder=folder)


@asynccontextmanager
async def _open_mongod(folder: Path) -> AsyncIterator[str]:
    binary = find_mongod()
    assert binary is not None, "`make bench` installs a mongod."
    mongod = Mongod(folder, binary=binary)
    await mongod.start()
    try:
        yield mongod.uri
    finally:
        await mongod.stop()


async def _start(
    stack: AsyncExitStack, name: str, *, uri: str, folder: Path, owner_id: str = ""
) -> Server:
    port = free_port()
    own = {
        "DARKROOM_DATA_DIR": str(folder),
        "DARKROOM_MONGODB_URI": uri,
        "DARKROOM_MONGODB_DATABASE": DATABASE,
        "DARKROOM_PORT": str(port),
        "DARKROOM_LOG_LEVEL": "warning",
        "DARKROOM_MAX_ACTIVE_OUTPUTS": "10000",
        **RAISED_LIMITS,
    }
    probe = str(_probe_of(folder, name))
    arguments = {
        "darkroom": ["bench.darkroom", probe],
        "relay": ["bench.relay", uri, DATABASE, str(port), probe],
        PLAIN: ["bench.plain", uri, DATABASE, str(port), owner_id, probe],
    }[name]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        *arguments,
        env={**os.environ, **own},
        stdout=asyncio.subprocess.DEVNULL,
    )
    stack.push_async_callback(_stop, process)
    await _until_it_answers(port)
    token = DevelopmentIssuer(folder).token("bench") if name == "darkroom" else "-"
    return Server(name, port, token, process.pid, folder, resident_bytes(process.pid) / 2**20)


def _probe_of(folder: Path, name: str) -> Path:
    return folder / f"probe-{name}.json"


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    await process.wait()


async def _until_it_answers(port: int) -> None:
    async with asyncio.timeout(START_SECONDS):
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                if b"200" in await reader.readline():
                    writer.close()
                    await asyncio.sleep(1)
                    return
                writer.close()
            except OSError:
                pass
            await asyncio.sleep(0.1)
