"""A whole Darkroom that tests kill and freeze: mongod, APIs, and optionally workers, NATS and a
simulated fal.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pymongo import AsyncMongoClient

from domain.ids import ViewerId, viewer_id_of
from edge.dev_tokens import ISSUER, DevelopmentIssuer
from runtime.local_mongod import Mongod
from storage.mongo.database import Database, open_database
from tests.brokers import NatsServer
from tests.clients import GraphQLClient
from tests.resilience.processes import DATABASE, Api, Documents, Process, Vendor, Worker
from tests.serving import free_port
from tests.tools import need, need_mongod

GRACE_SECONDS: Final = 20
Clocks = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrangement:
    """Which processes there are. Without workers the APIs run outputs themselves."""

    apis: int
    api_module: str = "serve"
    workers: int = 0
    worker_module: str = "worker"
    fal: bool = False
    seconds_per_job: float = 1.0
    settings: Mapping[str, str] = field(default_factory=dict)
    """For all of them."""
    clocks: Clocks = field(default_factory=dict)
    """What makes a process's clock differ, by its name."""
    roots: Mapping[str, Path] = field(default_factory=dict)
    """Where the code of a process is that runs another release, by its name."""

    @property
    def is_distributed(self) -> bool:
        return self.workers > 0


class BareSite:
    """The processes of one arrangement, which share a folder, and an external database."""

    def __init__(
        self,
        data_dir: Path,
        arrangement: Arrangement,
        *,
        mongodb_uri: str,
        documents: Documents,
        database: Database,
        nats_url: str | None = None,
    ) -> None:
        self.data_dir = data_dir
        self.arrangement = arrangement
        self.documents = documents
        """The database, read behind the API's back."""
        self.database = database
        """The same, as Darkroom itself sees it."""
        self._mongodb_uri = mongodb_uri
        self._nats_url = nats_url
        self.vendor = (
            Vendor(data_dir=data_dir, seconds_per_job=arrangement.seconds_per_job)
            if arrangement.fal
            else None
        )
        self.apis = [
            Api(
                name,
                data_dir=data_dir,
                environment=self._environment(name),
                module=arrangement.api_module,
            )
            for name in (f"api-{number}" for number in range(arrangement.apis))
        ]
        self.workers = [
            Worker(
                name,
                data_dir=data_dir,
                environment=self._environment(name),
                module=arrangement.worker_module,
            )
            for name in (f"worker-{number}" for number in range(arrangement.workers))
        ]
        for process in self.processes:
            process.root = arrangement.roots.get(process.name, process.root)
        self._issuer = DevelopmentIssuer(data_dir)
        self._clients = AsyncExitStack()

    @property
    def runners(self) -> list[Process]:
        """Those that run outputs."""
        return [*self.workers] if self.arrangement.is_distributed else [*self.apis]

    @property
    def processes(self) -> list[Process]:
        vendors = [self.vendor] if self.vendor else []
        return [*vendors, *self.apis, *self.workers]

    async def start(self) -> None:
        await asyncio.gather(*(process.start() for process in self.processes))

    def token(self, viewer: str) -> str:
        return self._issuer.token(viewer)

    def client(self, api: Api, viewer: str = "ana") -> GraphQLClient:
        client = GraphQLClient(api.url, self.token(viewer))
        self._clients.push_async_callback(client.aclose)
        return client

    async def close(self) -> None:
        await self._clients.aclose()
        for process in self.processes:
            if process.pid is not None:
                await process.kill()

    def _environment(self, name: str) -> Mapping[str, str]:
        environment = {
            "DARKROOM_DATA_DIR": os.fspath(self.data_dir),
            "DARKROOM_MONGODB_URI": self._mongodb_uri,
            "DARKROOM_MONGODB_DATABASE": DATABASE,
            "DARKROOM_GRACE": str(GRACE_SECONDS),
        }
        if self._nats_url is not None:
            environment["DARKROOM_NATS_URL"] = self._nats_url
        if self.vendor is not None:
            environment |= self.vendor.settings
        return {**environment, **self.arrangement.settings, **self.arrangement.clocks.get(name, {})}


class Site(BareSite):
    """The same, with a mongod of their own, and a NATS where they need one."""

    def __init__(
        self,
        data_dir: Path,
        arrangement: Arrangement,
        *,
        mongod: Mongod,
        nats: NatsServer | None,
        documents: Documents,
        database: Database,
    ) -> None:
        super().__init__(
            data_dir,
            arrangement,
            mongodb_uri=mongod.uri,
            documents=documents,
            database=database,
            nats_url=nats.url if nats else None,
        )
        self.mongod = mongod
        self.nats = nats


def viewer_id(viewer: str) -> ViewerId:
    """Who a token of the site's vouches for."""
    return viewer_id_of(ISSUER, viewer)


@asynccontextmanager
async def open_site(
    data_dir: Path, arrangement: Arrangement | None = None, *, apis: int = 1
) -> AsyncIterator[Site]:
    """Start everything, and end it however the block ends."""
    arrangement = arrangement or Arrangement(apis=apis)
    async with AsyncExitStack() as stack:
        mongod = Mongod(data_dir, binary=need_mongod(), preferred_port=free_port())
        stack.push_async_callback(mongod.kill)
        await mongod.start()
        nats = None
        if arrangement.is_distributed:
            nats = NatsServer(data_dir, binary=need("nats-server"))
            stack.push_async_callback(nats.kill)
            await nats.start()
        client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(
            mongod.uri, tz_aware=True, serverSelectionTimeoutMS=2_000, timeoutMS=5_000
        )
        stack.push_async_callback(client.close)
        database = await stack.enter_async_context(open_database(mongod.uri, DATABASE))
        site = Site(
            data_dir,
            arrangement,
            mongod=mongod,
            nats=nats,
            documents=client[DATABASE],
            database=database,
        )
        stack.push_async_callback(site.close)
        await site.start()
        yield site
