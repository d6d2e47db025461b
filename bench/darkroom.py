"""What measurements share: a Darkroom as a process of its own, and the comparison of two sides."""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from pymongo import AsyncMongoClient

from edge.dev_tokens import DevelopmentIssuer
from runtime.local_mongod import Mongod, find_mongod
from tests.clients import GraphQLClient
from tests.serving import free_port

ROUNDS = 3
CALLS_PER_ROUND = 50
PAUSE_SECONDS = 0.02

Document = dict[str, Any]


@asynccontextmanager
async def a_darkroom(
    **settings: str,
) -> AsyncIterator[tuple[GraphQLClient, AsyncMongoClient[Document], int]]:
    """A mongod, a Darkroom process on it, a client, a bare connection, and the process's id."""
    binary = find_mongod()
    assert binary is not None
    with tempfile.TemporaryDirectory() as folder:
        mongod = Mongod(Path(folder), binary=binary)
        await mongod.start()
        port = free_port()
        environment = {
            "DARKROOM_DATA_DIR": folder,
            "DARKROOM_MONGODB_URI": mongod.uri,
            "DARKROOM_PORT": str(port),
            "DARKROOM_LOG_LEVEL": "warning",
            "DARKROOM_MAX_ACTIVE_OUTPUTS": "10000",
            **settings,
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "serve",
            env={**os.environ, **environment},
            stdout=asyncio.subprocess.DEVNULL,
        )
        token = DevelopmentIssuer(Path(folder)).token("bench")
        client = GraphQLClient(f"http://127.0.0.1:{port}", token)
        try:
            await _answering(client)
            async with AsyncMongoClient[Document](mongod.uri) as bare:
                yield client, bare, process.pid
        finally:
            await client.aclose()
            process.terminate()
            await process.wait()
            await mongod.stop()


async def _answering(client: GraphQLClient) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                await client("{ viewer { id } }")
                return
            except OSError:
                await asyncio.sleep(0.1)
            except Exception as error:
                if "Connect" not in type(error).__name__:
                    raise
                await asyncio.sleep(0.1)


async def compare(
    name: str,
    ours: Callable[[], Awaitable[None]],
    their_name: str,
    theirs: Callable[[], Awaitable[None]],
) -> None:
    mine: list[float] = []
    others: list[float] = []
    for _ in range(ROUNDS):
        for run, times in ((ours, mine), (theirs, others)):
            for _ in range(CALLS_PER_ROUND):
                began = time.perf_counter()
                await run()
                times.append(time.perf_counter() - began)
                await asyncio.sleep(PAUSE_SECONDS)
    report(name, mine, their_name, others)


def report(name: str, ours: list[float], their_name: str, theirs: list[float]) -> None:
    mine, other = (1000 * median(times) for times in (ours, theirs))
    worst = 1000 * quantiles(ours, n=100)[98]
    print(
        f"{name}: {mine:.1f} ms (p99 {worst:.1f}); {their_name}: {other:.1f} ms; "
        f"{mine / other:.2f} times"
    )


def resident_megabytes(pid: int) -> float | None:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    return next(int(line.split()[1]) for line in status.splitlines() if "VmRSS" in line) / 1024
