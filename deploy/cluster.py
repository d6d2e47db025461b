"""Everything of compose.yaml as plain processes on this machine, until Ctrl-C: `make cluster`.

A MongoDB replica set of three, NATS, an S3 server, two API processes, two workers, and, if they are
installed, Caddy and Prometheus with our rules. With `--check` it is tried, and ends: a conversation
is followed through the proxy, and Prometheus answers every query of the dashboard.
"""

import asyncio
import json
import os
import shutil
import signal
import ssl
import sys
from argparse import ArgumentParser
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx2

from edge.dev_tokens import DevelopmentIssuer
from runtime.local_mongod import find_mongod
from tests.brokers import NatsServer
from tests.buckets import Ministack, bucket_at
from tests.clients import GraphQLClient, Socket, connect_to
from tests.operations import FOLLOW, start
from tests.resilience.replica_set import ReplicaSet
from tests.serving import free_port
from tests.storage.places import make_bucket
from tests.tools import find_tool

ROOT: Final = Path(__file__).parents[1]
READY_SECONDS: Final = 120
STOP_SECONDS: Final = 30
LANDED_SECONDS: Final = 60
SCRAPED_SECONDS: Final = 60
_PROGRAMS: Final = ("mongod", "nats-server", "ministack")


class Cluster:
    """What runs, and where."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.apis = [f"127.0.0.1:{free_port()}" for _ in range(2)]
        self.metrics = {f"{kind}-{i}": free_port() for kind in ("api", "worker") for i in (1, 2)}
        self.proxy: str | None = None
        self.prometheus: str | None = None

    @property
    def url(self) -> str:
        return self.proxy or f"http://{self.apis[0]}"


@asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[Cluster]:
    """Start it, and stop it in reverse."""
    one = Cluster(folder)
    async with AsyncExitStack() as stack:
        environment = await _start_stores(folder, stack)
        caddy, prometheus = find_tool("caddy"), find_tool("prometheus")
        if caddy is not None:
            one.proxy = f"https://localhost:{free_port()}"
        environment["DARKROOM_PUBLIC_URL"] = one.url
        for name, port in one.metrics.items():
            kind, number = name.split("-")
            own = {**environment, "DARKROOM_METRICS_PORT": str(port)}
            if kind == "api":
                own["DARKROOM_PORT"] = one.apis[int(number) - 1].split(":")[1]
            command = [sys.executable, "-m", {"api": "serve"}.get(kind, kind)]
            await stack.enter_async_context(_running(name, command, folder, environment=own))
        for port in one.metrics.values():
            await _until_answered(f"http://127.0.0.1:{port}/readyz")
        if caddy is not None:
            await _start_caddy(one, caddy, stack)
        if prometheus is not None:
            await _start_prometheus(one, prometheus, stack)
        yield one


async def _start_stores(folder: Path, stack: AsyncExitStack) -> dict[str, str]:
    """The settings of processes that use them."""
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
    return {
        "DARKROOM_DATA_DIR": os.fspath(folder / "data"),
        "DARKROOM_MONGODB_URI": replica_set.uri,
        "DARKROOM_NATS_URL": broker.url,
        "DARKROOM_S3_BUCKET": bucket.name,
        "DARKROOM_S3_ENDPOINT": bucket.endpoint,
        "DARKROOM_S3_KEY_ID": bucket.key_id,
        "DARKROOM_S3_SECRET": bucket.secret,
        "DARKROOM_GRACE": "10",
    }


async def _start_caddy(one: Cluster, caddy: Path, stack: AsyncExitStack) -> None:
    environment = {
        "DARKROOM_SITE": one.url,
        "DARKROOM_APIS": " ".join(one.apis),
        "DARKROOM_CADDY_OPTIONS": "auto_https disable_redirects\n\tdefault_bind 127.0.0.1",
        "XDG_DATA_HOME": os.fspath(one.folder / "caddy"),
        "XDG_CONFIG_HOME": os.fspath(one.folder / "caddy"),
    }
    config = ROOT / "deploy/caddy/Caddyfile"
    command: list[str | Path] = [caddy, "run", "--config", config, "--adapter", "caddyfile"]
    await stack.enter_async_context(_running("caddy", command, one.folder, environment=environment))
    await _until_answered(f"{one.url}/healthz")


async def _start_prometheus(one: Cluster, prometheus: Path, stack: AsyncExitStack) -> None:
    folder = one.folder / "prometheus"
    shutil.copytree(ROOT / "deploy/prometheus", folder)
    (folder / "targets").mkdir()
    for kind in ("api", "worker"):
        found = [f"127.0.0.1:{port}" for name, port in one.metrics.items() if kind in name]
        (folder / f"targets/{kind}.json").write_text(json.dumps([{"targets": found}]))
    config = folder / "prometheus.yml"
    often = config.read_text().replace("15s", "2s")
    config.write_text(often)
    address = f"127.0.0.1:{free_port()}"
    command: list[str | Path] = [
        *(prometheus, f"--config.file={config}", f"--web.listen-address={address}"),
        f"--storage.tsdb.path={folder / 'data'}",
    ]
    await stack.enter_async_context(_running("prometheus", command, one.folder, environment={}))
    one.prometheus = f"http://{address}"
    await _until_answered(f"{one.prometheus}/-/ready")


@asynccontextmanager
async def _running(
    name: str, command: Sequence[str | Path], folder: Path, *, environment: Mapping[str, str]
) -> AsyncIterator[None]:
    """A process that writes its log into the folder, and is asked to stop at the end."""
    inherited = {key: value for key, value in os.environ.items() if "DARKROOM_" not in key}
    with (folder / f"{name}.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=ROOT,
            env={**inherited, **environment},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for this script, which stops them in order
        )
    try:
        yield
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()


async def _until_answered(url: str) -> None:
    async with asyncio.timeout(READY_SECONDS), httpx2.AsyncClient(verify=False) as http:
        while True:
            try:
                if (await http.get(url)).is_success:
                    return
            except httpx2.HTTPError:
                pass
            await asyncio.sleep(0.1)


async def check(one: Cluster) -> bool:
    """Follow a conversation through the proxy, and ask Prometheus everything that is drawn."""
    token = DevelopmentIssuer(one.folder / "data").token("ana")
    client = GraphQLClient(one.url, token)
    try:
        await _follow_conversation(client)
    finally:
        await client.aclose()
    if one.prometheus is None:
        print("Prometheus is not installed: no query was tried.")
        return True
    async with httpx2.AsyncClient(base_url=one.prometheus) as http:
        async with asyncio.timeout(SCRAPED_SECONDS):
            while True:
                up = await _ask(http, 'sum(up{job=~"darkroom-.*"})')
                landed = await _ask(http, "count(darkroom_outputs_ended_total)")
                if landed is not None and up == str(len(one.metrics)):
                    break
                await asyncio.sleep(0.5)
        print(f"Prometheus scrapes all {up} processes.")
        failed = [query for query in _queries() if not await _is_answered(http, query)]
    for query in failed:
        print(f"Prometheus does not answer: {query}")
    print(f"Prometheus answers {len(_queries()) - len(failed)} of {len(_queries())} queries.")
    return not failed


async def _follow_conversation(client: GraphQLClient) -> None:
    unverified = ssl.create_default_context()
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    secure = {"ssl": unverified} if client.url.startswith("https") else {}
    payload = await start(client, selectedModels=["local-silver"])
    async with asyncio.timeout(LANDED_SECONDS), connect_to(client.url, **secure) as connection:
        socket = Socket(connection)
        authorization = {"authorization": f"Bearer {client.token}"}
        await socket.send(type="connection_init", payload=authorization)
        assert (await socket.receive())["type"] == "connection_ack"
        updates = await socket.subscribe(
            FOLLOW, id=payload["conversation"]["id"], after=payload["cursor"]
        )
        await updates.until(lambda data: data["turnUpdated"]["turn"]["status"] == "COMPLETED")
    print("An image landed, and its updates came through the proxy.")


def _queries() -> list[str]:
    panels = json.loads((ROOT / "deploy/grafana/darkroom.json").read_text())["panels"]
    return [
        target["expr"].replace("$__rate_interval", "1m")
        for panel in panels
        for target in panel.get("targets", ())
    ]


async def _ask(http: httpx2.AsyncClient, query: str) -> str | None:
    """The first value of the answer, if there is one."""
    answer: Any = (await http.get("/api/v1/query", params={"query": query})).json()
    found = answer["data"]["result"]
    return str(found[0]["value"][1]) if found else None


async def _is_answered(http: httpx2.AsyncClient, query: str) -> bool:
    answer: Any = (await http.get("/api/v1/query", params={"query": query})).json()
    return bool(answer["status"] == "success")


async def _run(folder: Path, *, only_check: bool) -> int:
    asked = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, asked.set)
    async with cluster(folder) as one:
        print(f"Darkroom    {one.url}/graphql  (API processes: {', '.join(one.apis)})")
        print(f"Metrics     {', '.join(f'{name} {port}' for name, port in one.metrics.items())}")
        print(f"Prometheus  {one.prometheus or 'is not installed'}")
        print(f"Token       {DevelopmentIssuer(folder / 'data').token('ana')}")
        print(f"Logs        {folder}")
        if only_check:
            return 0 if await check(one) else 1
        print("Stop        Ctrl-C", flush=True)
        await asked.wait()
    return 0


def main(arguments: Sequence[str]) -> int:
    parser = ArgumentParser(prog="python -m deploy.cluster", description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT / ".cluster", help="for data and logs")
    parser.add_argument("--check", action="store_true", help="try it, and end")
    asked = parser.parse_args(arguments)
    folder: Path = asked.folder.absolute()
    shutil.rmtree(folder, ignore_errors=True)  # the replica set has other ports each time
    folder.mkdir(parents=True)
    return asyncio.run(_run(folder, only_check=asked.check))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
