"""A Darkroom in production that is attacked: its own mongod, a token issuer, and an API whose event
loop is measured.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from domain.ids import ViewerId, viewer_id_of
from runtime.local_mongod import Mongod
from settings import Limits, Settings, variable_of
from tests.clients import GraphQLClient
from tests.edge.serve_with_probe import prepare
from tests.operations import SMALL, START, until_finished
from tests.programs import end_process
from tests.resilience.processes import Api, wait_until_answering
from tests.serving import free_port
from tests.test_identity_providers import LocalIssuer, issuing
from tests.tools import need_mongod
from tests.unlimited import UNLIMITED_ENVIRONMENT

ATTACKERS: Final = 400
"""Viewers whose tokens are used. A single one would soon reach its rate limit."""
NEIGHBOURS: Final = 8
TOKEN_SECONDS: Final = 7_200
CANARY: Final = "canary-7f3a"
"""In what has to stay secret, wherever an attack has a place for it."""
RAISED: Final = {
    "address_requests": 10_000_000,
    "address_requests_per_second": 1_000_000,
    "address_cost": 1_000_000_000,
    "address_sockets": 20_000,
    "address_subscriptions": 20_000,
}
"""All clients have one address here. Every other limit has its default."""


@dataclass(slots=True)
class Site:
    api: Api
    mongod: Mongod
    issuer: LocalIssuer
    rounds: Path
    """Where the longest rounds of the event loop are written."""
    metrics_url: str
    mongodb_uri: str
    attackers: list[str]
    """Their tokens."""

    def token(self, viewer: str, *, life: int = TOKEN_SECONDS) -> str:
        return self.issuer.token({"sub": viewer}, life=life)

    def viewer_id(self, viewer: str) -> ViewerId:
        return viewer_id_of(self.issuer.issuer, viewer)

    def client(self, viewer: str | None) -> GraphQLClient:
        return GraphQLClient(self.api.url, None if viewer is None else self.token(viewer))


@asynccontextmanager
async def a_site(folder: Path) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        mongod = Mongod(folder / "mongod", binary=need_mongod(), preferred_port=free_port())
        await mongod.start()
        stack.push_async_callback(mongod.stop)
        issuer = await stack.enter_async_context(issuing())
        uri = f"{mongod.uri}{'&' if '?' in mongod.uri else '/?'}appName={CANARY}"
        site = _arranged(folder, mongod, issuer, uri)
        await site.api.start()
        stack.push_async_callback(site.api.kill)
        first = site.client("first")
        stack.push_async_callback(first.aclose)
        await wait_until_answering(first)
        yield site


def _arranged(folder: Path, mongod: Mongod, issuer: LocalIssuer, uri: str) -> Site:
    rounds, metrics = folder / "rounds", free_port()
    prepare(rounds)
    environment = {
        **_limits(),
        "DARKROOM_ENVIRONMENT": "production",
        "DARKROOM_TOKEN_ISSUER": issuer.issuer,
        "DARKROOM_JWKS_URL": f"{issuer.url}/the-keys",
        "DARKROOM_SECRET": f"{CANARY} {'s' * 32}",
        "DARKROOM_ALLOWED_HOSTS": "127.0.0.1,x",
        "DARKROOM_LOCAL_MODELS": "true",
        "DARKROOM_STARTING_CREDITS": "1000000",
        "DARKROOM_METRICS_PORT": str(metrics),
        "DARKROOM_MONGODB_URI": uri,
        "DARKROOM_MONGODB_DATABASE": "attacked",
        "DARKROOM_DATA_DIR": str(folder),
        "DARKROOM_TEST_ROUND": str(rounds),
    }
    api = Api("api", data_dir=folder, environment=environment, module="tests.edge.serve_with_probe")
    return Site(
        api=api,
        mongod=mongod,
        issuer=issuer,
        rounds=rounds,
        metrics_url=f"http://127.0.0.1:{metrics}/metrics",
        mongodb_uri=uri,
        attackers=[
            issuer.token({"sub": f"{CANARY} {number}"}, life=TOKEN_SECONDS)
            for number in range(ATTACKERS)
        ],
    )


def _limits() -> dict[str, str]:
    """The defaults, where tests otherwise have none."""
    defaults = {variable_of(Settings, "limit", name): value for name, value in Limits()}
    raised = {variable_of(Settings, "limit", name): value for name, value in RAISED.items()}
    return {
        name: str(value)
        for name, value in (defaults | raised).items()
        if name in UNLIMITED_ENVIRONMENT or name in raised
    }


@asynccontextmanager
async def neighbours(site: Site) -> AsyncIterator[asyncio.StreamReader]:
    """Other viewers, who use it all the time. What they experience is read line by line."""
    viewers = await asyncio.gather(*(_settle(site, f"neighbour {n}") for n in range(NEIGHBOURS)))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.attacks.neighbour", site.api.url),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin
    assert process.stdout
    process.stdin.write(json.dumps(viewers).encode())
    process.stdin.close()
    try:
        yield process.stdout
    finally:
        await end_process(process, seconds=10)


async def _settle(site: Site, viewer: str) -> tuple[str, str]:
    """Their token, and a conversation of theirs."""
    client = site.client(viewer)
    try:
        given = {"userMessage": "A boat", "selectedModels": ["local-ink"], "options": SMALL}
        started = (await client(START, input=given))["startConversation"]
        assert started["userErrors"] == []
        await until_finished(client, started["turn"])
        return client.token or "", started["conversation"]["id"]
    finally:
        await client.aclose()
