"""`make bench`: what Darkroom adds to what MongoDB costs by itself.

Each line compares Darkroom, a process of its own reached over loopback, with the least that would
do the same against the same mongod. Rounds alternate; figures are medians over all rounds.
Milliseconds belong to this machine; the ratios are what can be compared.
"""

import asyncio
import json
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
from pymongo.asynchronous.client_session import AsyncClientSession

from issuer import DevelopmentIssuer
from mongod import Mongod, find_mongod
from tests.clients import GraphQLClient
from tests.operations import FOLLOW, start
from tests.serving import free_port

ROUNDS = 3
STARTS_PER_ROUND = 50
COMMITS_PER_ROUND = 100
PAUSE_SECONDS = 0.02

Document = dict[str, Any]


@asynccontextmanager
async def a_darkroom() -> AsyncIterator[tuple[GraphQLClient, AsyncMongoClient[Document], int]]:
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


async def time_starts(client: GraphQLClient, bare: AsyncMongoClient[Document]) -> None:
    """`startConversation` against the bare transaction: two documents written by majority."""

    async def ours() -> None:
        await start(client, selectedModels=["rehearsal-refuses"])

    database = bare["bench"]

    async def theirs() -> None:
        async def work(session: AsyncClientSession) -> None:
            await database["conversations"].insert_one({"title": "A boat"}, session=session)
            await database["turns"].insert_one({"outputs": [{}]}, session=session)

        async with bare.start_session() as session:
            await session.with_transaction(work)

    await ours()
    await theirs()
    await _compare("startConversation, answered", ours, "bare transaction", theirs)


async def _compare(
    name: str,
    ours: Callable[[], Awaitable[None]],
    their_name: str,
    theirs: Callable[[], Awaitable[None]],
) -> None:
    mine: list[float] = []
    others: list[float] = []
    for _ in range(ROUNDS):
        for run, times in ((ours, mine), (theirs, others)):
            for _ in range(STARTS_PER_ROUND):
                began = time.perf_counter()
                await run()
                times.append(time.perf_counter() - began)
                await asyncio.sleep(PAUSE_SECONDS)
    _report(name, mine, their_name, others)


async def time_frames(client: GraphQLClient, bare: AsyncMongoClient[Document]) -> None:
    """From the commit of a change to the subscriber's frame, against a change stream of one's own.

    Both are told of the same commits: the bare reader watches the turn and reads it when it
    changes.
    """
    payload = await start(client, selectedModels=["rehearsal-hangs"])
    turn_id = payload["turn"]["id"]
    turns = bare["darkroom"]["turns"]
    ours: dict[int, float] = {}
    theirs: dict[int, float] = {}
    sent: dict[int, float] = {}
    acknowledged: dict[int, float] = {}
    last = ROUNDS * COMMITS_PER_ROUND - 1

    async with (
        client.subscribe(FOLLOW, id=payload["conversation"]["id"]) as updates,
        await turns.watch([{"$match": {"documentKey._id": turn_id}}]) as stream,
    ):
        await updates.next()

        async def follow() -> None:
            while last not in ours:  # quick changes may come as one
                message = json.loads(await updates.socket.connection.recv())
                received = time.perf_counter()
                output = message["payload"]["data"]["turnUpdated"]["turn"]["outputs"][0]
                if output["text"]:
                    ours[int(output["text"])] = received

        async def watch() -> None:
            while last not in theirs:
                await stream.next()
                found = await turns.find_one({"_id": turn_id})
                received = time.perf_counter()
                if found and found["outputs"][0]["text"]:
                    theirs.setdefault(int(found["outputs"][0]["text"]), received)

        readers = asyncio.gather(follow(), watch())
        for number in range(ROUNDS * COMMITS_PER_ROUND):
            sent[number] = time.perf_counter()
            await turns.update_one(
                {"_id": turn_id},
                {
                    "$inc": {"version": 1, "outputs.0.version": 1},
                    "$set": {"outputs.0.text": str(number)},
                },
            )
            acknowledged[number] = time.perf_counter()
            await asyncio.sleep(PAUSE_SECONDS)
        await asyncio.wait_for(readers, 30)

    _report(
        "commit sent to subscriber's frame",
        [ours[number] - sent[number] for number in ours],
        "bare watch and find",
        [theirs[number] - sent[number] for number in theirs],
    )
    waits = [1000 * (ours[number] - acknowledged[number]) for number in ours]
    print(f"  of which after the commit was acknowledged: {median(waits):.1f} ms at the median")


async def time_beginnings(bare: AsyncMongoClient[Document]) -> None:
    """From the commit that queues an output to its claim, both by the database's clock."""
    outputs = [
        output
        async for turn in bare["darkroom"]["turns"].find({"outputs.model": "rehearsal-refuses"})
        for output in turn["outputs"]
    ]
    waits = [
        1000 * (output["startedAt"] - output["queuedAt"]).total_seconds()
        for output in outputs
        if output["startedAt"]
    ]
    worst = quantiles(waits, n=100)[98]
    print(f"queued to started: {median(waits):.0f} ms (p99 {worst:.0f}), {len(waits)} outputs")


def _report(name: str, ours: list[float], their_name: str, theirs: list[float]) -> None:
    mine, other = (1000 * median(times) for times in (ours, theirs))
    worst = 1000 * quantiles(ours, n=100)[98]
    print(
        f"{name}: {mine:.1f} ms (p99 {worst:.1f}); {their_name}: {other:.1f} ms; "
        f"{mine / other:.2f} times as long"
    )


def resident_megabytes(pid: int) -> float | None:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    return next(int(line.split()[1]) for line in status.splitlines() if "VmRSS" in line) / 1024


async def main() -> None:
    async with a_darkroom() as (client, bare, pid):
        print(f"idle: {resident_megabytes(pid) or 0:.0f} MB resident")
        await time_starts(client, bare)
        await time_beginnings(bare)
        await time_frames(client, bare)


if __name__ == "__main__":
    asyncio.run(main())
