"""Everything of compose.yaml as plain processes on this machine, until Ctrl-C: `make cluster`.

A MongoDB replica set of three, NATS, an S3 server, two API processes, two workers, and, if they are
installed, Caddy and Prometheus with our rules. With `--check` it is tried, and ends: a conversation
is followed through the proxy, and Prometheus answers every query of the dashboard.
"""

import asyncio
import os
import shutil
import signal
import ssl
import sys
from argparse import ArgumentParser
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx2

from edge.dev_tokens import DevelopmentIssuer
from runtime.local_mongod import find_mongod
from storage.objects.bucket import Bucket
from tests.brokers import NatsServer
from tests.buckets import Ministack, bucket_at
from tests.clients import GraphQLClient
from tests.cluster.programs import running, until_answered
from tests.cluster.scraping import dashboard_queries, start_prometheus, values
from tests.operations import FOLLOW, start
from tests.resilience.processes import Api, Process, Worker
from tests.resilience.replica_set import ReplicaSet
from tests.serving import free_port
from tests.storage.places import make_bucket
from tests.tools import find_tool

ROOT: Final = Path(__file__).parents[2]
LANDED_SECONDS: Final = 60
SCRAPED_SECONDS: Final = 60
_PROGRAMS: Final = ("mongod", "nats-server", "ministack")


class Cluster:
    """What runs, and where."""

    def __init__(self, folder: Path, *, with_proxy: bool) -> None:
        self.folder = folder
        self.metrics = {f"{kind}-{i}": free_port() for kind in ("api", "worker") for i in (1, 2)}
        self.proxy = f"https://localhost:{free_port()}" if with_proxy else None
        self.prometheus: str | None = None
        self.apis: list[Api] = []
        self.workers: list[Worker] = []

    @property
    def url(self) -> str:
        return self.proxy or self.apis[0].url

    @property
    def processes(self) -> list[Process]:
        return [*self.apis, *self.workers]

    def add_processes(self, environment: Mapping[str, str]) -> None:
        for name, port in self.metrics.items():
            own = {**environment, "DARKROOM_METRICS_PORT": str(port)}
            if name.startswith("api"):
                self.apis.append(Api(name, data_dir=self.folder, environment=own))
            else:
                self.workers.append(Worker(name, data_dir=self.folder, environment=own))

    def token(self, viewer: str) -> str:
        return DevelopmentIssuer(self.folder / "data").token(viewer)


@dataclass(frozen=True, slots=True)
class Stores:
    """What the processes share."""

    replica_set: ReplicaSet
    broker: NatsServer
    server: Ministack
    bucket: Bucket


@asynccontextmanager
async def cluster(
    folder: Path, *, settings: Mapping[str, str] | None = None, hurried: bool = False
) -> AsyncIterator[tuple[Cluster, Stores]]:
    """Start it, and stop it in reverse. `hurried`: a minute of the alert rules is a second."""
    caddy, prometheus = find_tool("caddy"), find_tool("prometheus")
    deployment = Cluster(folder, with_proxy=caddy is not None)
    async with AsyncExitStack() as stack:
        stores = await _start_stores(folder, stack)
        public = {"DARKROOM_PUBLIC_URL": deployment.proxy} if deployment.proxy else {}
        deployment.add_processes({**_settings_for(folder, stores), **public, **(settings or {})})
        for process in deployment.processes:
            stack.push_async_callback(_stop, process)
        await asyncio.gather(*(process.start() for process in deployment.processes))
        if caddy is not None:
            await _start_caddy(deployment, caddy, stack)
        if prometheus is not None:
            deployment.prometheus = await start_prometheus(
                folder, deployment.metrics, stack, binary=prometheus, hurried=hurried
            )
        yield deployment, stores


async def _stop(process: Process) -> None:
    if process.pid is not None:
        await process.terminate()


async def _start_stores(folder: Path, stack: AsyncExitStack) -> Stores:
    mongod, nats = find_mongod(), find_tool("nats-server")
    if mongod is None or nats is None or find_tool("ministack") is None:
        raise SystemExit(f"A cluster needs these programs: {', '.join(_PROGRAMS)}.")
    replica_set = ReplicaSet(folder, binary=mongod, election_seconds=2.0)
    stack.push_async_callback(replica_set.close)
    await replica_set.start()
    broker = NatsServer(folder, binary=nats)
    stack.push_async_callback(broker.stop)
    await broker.start()
    store = Ministack(folder)
    stack.push_async_callback(store.stop)
    await store.start()
    bucket = bucket_at(store.url, "darkroom")
    await make_bucket(bucket)
    return Stores(replica_set, broker, store, bucket)


def _settings_for(folder: Path, stores: Stores) -> dict[str, str]:
    return {
        "DARKROOM_DATA_DIR": os.fspath(folder / "data"),
        "DARKROOM_MONGODB_URI": stores.replica_set.uri,
        "DARKROOM_NATS_URL": stores.broker.url,
        "DARKROOM_S3_BUCKET": stores.bucket.name,
        "DARKROOM_S3_ENDPOINT": stores.bucket.endpoint,
        "DARKROOM_S3_KEY_ID": stores.bucket.key_id,
        "DARKROOM_S3_SECRET": stores.bucket.secret,
        "DARKROOM_GRACE": "10",
    }


async def _start_caddy(deployment: Cluster, caddy: Path, stack: AsyncExitStack) -> None:
    environment = {
        "DARKROOM_SITE": deployment.url,
        "DARKROOM_APIS": " ".join(api.url.removeprefix("http://") for api in deployment.apis),
        "DARKROOM_CADDY_OPTIONS": "auto_https disable_redirects\n\tdefault_bind 127.0.0.1",
        "XDG_DATA_HOME": os.fspath(deployment.folder / "caddy"),
        "XDG_CONFIG_HOME": os.fspath(deployment.folder / "caddy"),
    }
    config = ROOT / "deploy/caddy/Caddyfile"
    command: list[str | Path] = [caddy, "run", "--config", config, "--adapter", "caddyfile"]
    await stack.enter_async_context(
        running("caddy", command, deployment.folder, environment=environment)
    )
    await until_answered(f"{deployment.url}/healthz")


async def check(deployment: Cluster) -> bool:
    """Follow a conversation through the proxy, and ask Prometheus everything that is drawn."""
    client = GraphQLClient(deployment.url, deployment.token("ana"), secure=_trust_proxy(deployment))
    try:
        await _follow_conversation(client)
    finally:
        await client.aclose()
    if deployment.prometheus is None:
        print("Prometheus is not installed: no query was tried.")
        return True
    async with httpx2.AsyncClient(base_url=deployment.prometheus) as http:
        async with asyncio.timeout(SCRAPED_SECONDS):
            while True:
                up = await values(http, 'sum(up{job=~"darkroom-.*"})')
                landed = await values(http, "count(darkroom_outputs_ended_total)")
                if landed and up == [str(len(deployment.metrics))]:
                    break
                await asyncio.sleep(0.5)
        print(f"Prometheus scrapes all {up[0]} processes.")
        asked = dashboard_queries()
        answered = [await values(http, query) for query in asked]
    print(f"Prometheus answers all {len(asked)} queries, {sum(map(bool, answered))} with data.")
    return True


def _trust_proxy(deployment: Cluster) -> ssl.SSLContext | None:
    """Trust the authority that Caddy has made for itself, and no other."""
    if deployment.proxy is None:
        return None
    authority = deployment.folder / "caddy/caddy/pki/authorities/local/root.crt"
    return ssl.create_default_context(cafile=authority)


async def _follow_conversation(client: GraphQLClient) -> None:
    payload = await start(client, selectedModels=["local-silver"])
    conversation = {"id": payload["conversation"]["id"], "after": payload["cursor"]}
    async with asyncio.timeout(LANDED_SECONDS), client.subscribe(FOLLOW, **conversation) as updates:
        await updates.until(lambda data: data["turnUpdated"]["turn"]["status"] == "COMPLETED")
    print("An image landed, and its updates came through the proxy.")


async def _run(folder: Path, *, only_check: bool) -> int:
    asked = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, asked.set)
    async with cluster(folder) as (deployment, _):
        apis = ", ".join(api.url for api in deployment.apis)
        print(f"Darkroom    {deployment.url}/graphql  (API processes: {apis})")
        metrics = ", ".join(f"{name} {port}" for name, port in deployment.metrics.items())
        print(f"Metrics     {metrics}")
        print(f"Prometheus  {deployment.prometheus or 'is not installed'}")
        print(f"Token       {deployment.token('ana')}")
        print(f"Logs        {folder}")
        if only_check:
            return 0 if await check(deployment) else 1
        print("Stop        Ctrl-C", flush=True)
        await asked.wait()
    return 0


def main(arguments: Sequence[str]) -> int:
    parser = ArgumentParser(prog="python -m tests.cluster.cluster", description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT / ".cluster", help="for data and logs")
    parser.add_argument("--check", action="store_true", help="try it, and end")
    asked = parser.parse_args(arguments)
    return asyncio.run(_run(empty_folder(asked.folder), only_check=asked.check))


def empty_folder(path: Path) -> Path:
    """The folder, without what an earlier run has left: its replica set had other ports."""
    folder = path.absolute()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
