"""Real processes to be hurt: a mongod, API processes beside each other, all ended by their pid.

What must stay true: whatever a test does to them, none outlives it.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any, Final, TypeAlias

import httpx2
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from issuer import DevelopmentIssuer
from mongod import Mongod, find_mongod
from tests.clients import GraphQLClient
from tests.serving import free_port

Documents: TypeAlias = AsyncDatabase[dict[str, Any]]

ROOT: Final = Path(__file__).parents[2]
READY_SECONDS: Final = 60.0
DATABASE: Final = "darkroom"
KILLS: Final = int(os.environ.get("DARKROOM_TEST_KILLS", "4"))
"""Of mongod and of the API each."""
THOROUGH: Final = KILLS >= 20


async def eventually(
    holds: Callable[[], Awaitable[bool]], *, within: float, what: str, every: float = 0.05
) -> float:
    """Look again and again until it holds; the seconds that it took."""
    started = monotonic()
    while not await holds():
        assert monotonic() - started < within, f"not within {within} s: {what}"
        await asyncio.sleep(every)
    return monotonic() - started


class Api:
    """One `python -m serve` on a port of its own, which it keeps from start to start."""

    def __init__(self, name: str, *, data_dir: Path, mongodb_uri: str) -> None:
        self.name = name
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_path = data_dir / f"{name}.log"
        self.starts = 0
        self._data_dir = data_dir
        self._mongodb_uri = mongodb_uri
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if running and self._process else None

    async def start(self) -> None:
        """Start it and wait until it is ready.

        As under any supervisor it is started again where it ends by itself, as it does while there
        is no database.
        """
        async with asyncio.timeout(READY_SECONDS), httpx2.AsyncClient(base_url=self.url) as http:
            while True:
                if self.pid is None:
                    await self._spawn()
                with suppress(httpx2.HTTPError):
                    if (await http.get("/readyz", timeout=5)).status_code == 200:
                        return
                await asyncio.sleep(0.05)

    async def kill(self) -> None:
        """End it as a power cut would."""
        await self._end(signal.SIGKILL)

    async def terminate(self) -> int:
        """Ask it to stop; its exit code."""
        return await self._end(signal.SIGTERM)

    def text_of_log(self) -> str:
        return self.log_path.read_text() if self.log_path.exists() else ""

    async def _spawn(self) -> None:
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("DARKROOM_")
        }
        environment |= {
            "DARKROOM_PORT": str(self.port),
            "DARKROOM_DATA_DIR": os.fspath(self._data_dir),
            "DARKROOM_MONGODB_URI": self._mongodb_uri,
            "DARKROOM_MONGODB_DATABASE": DATABASE,
        }
        self.starts += 1
        with self.log_path.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "serve"),
                cwd=ROOT,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    async def _end(self, number: signal.Signals) -> int:
        assert self._process is not None
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)
        return await asyncio.wait_for(self._process.wait(), READY_SECONDS)


class Site:
    """A mongod and the API processes that share it and a folder."""

    def __init__(self, data_dir: Path, mongod: Mongod, documents: Documents) -> None:
        self.data_dir = data_dir
        self.mongod = mongod
        self.documents = documents
        """The database, read behind the API's back."""
        self.apis: list[Api] = []
        self._issuer = DevelopmentIssuer(data_dir)
        self._clients = AsyncExitStack()

    async def start_api(self) -> Api:
        api = Api(f"api-{len(self.apis)}", data_dir=self.data_dir, mongodb_uri=self.mongod.uri)
        self.apis.append(api)
        await api.start()
        return api

    def token(self, viewer: str) -> str:
        return self._issuer.token(viewer)

    def client(self, api: Api, viewer: str = "ana") -> GraphQLClient:
        client = GraphQLClient(api.url, self.token(viewer))
        self._clients.push_async_callback(client.aclose)
        return client

    async def close(self) -> None:
        await self._clients.aclose()
        for api in self.apis:
            if api.pid is not None:
                await api.kill()


@asynccontextmanager
async def open_site(data_dir: Path, *, apis: int) -> AsyncIterator[Site]:
    """A mongod that can be hurt without hurting other tests, and so many API processes."""
    binary = find_mongod()
    assert binary is not None, "The tests need a mongod; requirements/app.txt brings one."
    mongod = Mongod(data_dir, binary=binary)
    await mongod.start()
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(
        mongod.uri, tz_aware=True, serverSelectionTimeoutMS=2_000, timeoutMS=5_000
    )
    site = Site(data_dir, mongod, client[DATABASE])
    try:
        await asyncio.gather(*(site.start_api() for _ in range(apis)))
        yield site
    finally:
        await site.close()
        await client.close()
        await mongod.kill()


@asynccontextmanager
async def frozen(mongod: Mongod) -> AsyncIterator[None]:
    """Stop it in its tracks, as a machine that swaps or a disk that hangs does."""
    assert mongod.pid is not None
    os.kill(mongod.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(mongod.pid, signal.SIGCONT)


@asynccontextmanager
async def away(mongod: Mongod) -> AsyncIterator[None]:
    """Kill it, and start it again at the end unless the block has done so."""
    await mongod.kill()
    try:
        yield
    finally:
        if mongod.pid is None:
            await mongod.start()
