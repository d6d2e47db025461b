"""`make bench`: what Darkroom adds to what MongoDB costs by itself.

Each line compares Darkroom, a process of its own reached over loopback, with the least that would
do the same against the same mongod. Rounds alternate; figures are medians over all rounds.
Milliseconds belong to this machine; the ratios are what can be compared.
"""

import asyncio
import json
import time
from statistics import median, quantiles

from pymongo import AsyncMongoClient
from pymongo.asynchronous.client_session import AsyncClientSession

from bench.darkroom import (
    PAUSE_SECONDS,
    ROUNDS,
    Document,
    a_darkroom,
    compare,
    report,
    resident_megabytes,
)
from tests.clients import GraphQLClient
from tests.operations import FOLLOW, start

COMMITS_PER_ROUND = 100


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
    await compare("startConversation, answered", ours, "bare transaction", theirs)


async def time_frames(client: GraphQLClient, bare: AsyncMongoClient[Document]) -> None:
    """From the commit of a change to the subscriber's frame, against a change stream of one's own.

    Both receive the same commits: the bare reader watches the turn and reads it when it
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

    report(
        "commit sent to subscriber's frame",
        [ours[number] - sent[number] for number in ours],
        "bare watch and find",
        [theirs[number] - sent[number] for number in theirs],
    )
    waits = [1000 * (ours[number] - acknowledged[number]) for number in ours]
    print(f"  of which after the commit was acknowledged: {median(waits):.1f} ms (median)")


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


async def main() -> None:
    async with a_darkroom() as (client, bare, pid):
        print(f"idle memory: {resident_megabytes(pid) or 0:.0f} MB (RSS)")
        await time_starts(client, bare)
        await time_beginnings(bare)
        await time_frames(client, bare)


if __name__ == "__main__":
    asyncio.run(main())
