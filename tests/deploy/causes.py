"""What makes each alert fire, done to a real cluster."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias
from uuid import uuid4

import httpx2

from domain.images import SHARDS, ImageOrigin, shard_of
from storage.objects.s3 import open_bucket
from tests.clients import Data, GraphQLClient
from tests.cluster.cluster import Cluster, Stores
from tests.operations import FOLLOW, start, until_finished
from tests.resilience.processes import Documents, Process
from tests.test_operators import STUCK
from tests.waits import eventually

MODEL: Final = "img-nano-banana"
TAKEN_OVER: Final = 20
"""Outputs that run while their worker is killed: twice as many as the alert needs."""
FROZEN_SECONDS: Final = 4.0
STARTED_SECONDS: Final = 120.0
RUNNING_SECONDS: Final = 120.0
PAUSE_SECONDS: Final = 1.0
WAITED: Final = timedelta(seconds=130)


@dataclass(frozen=True, slots=True)
class Deployment:
    """A cluster, and a viewer who works on it."""

    cluster: Cluster
    stores: Stores
    documents: Documents
    client: GraphQLClient

    async def begin(self, *, script: str = "") -> Data:
        """Start a conversation whose output does what the script says. Its turn."""
        turn: Data = {}

        async def is_started() -> bool:
            nonlocal turn
            message = f"A boat, {uuid4().hex} [fal {script}]"
            try:
                payload = await start(
                    self.client, userMessage=message, selectedModels=[MODEL], options={}
                )
            except (AssertionError, httpx2.HTTPError):
                return False  # what was taken away before may not be back
            turn = payload["turn"]
            return True

        await eventually(is_started, within=STARTED_SECONDS, what="a conversation is started")
        return turn

    async def change(self, turn: Data, change: Data) -> None:
        await self.documents["turns"].update_one({"_id": turn["id"]}, [change])

    async def cancel(self, turn: Data) -> None:
        await self.client(
            "mutation($id: ID!) { cancelTurn(input: {turnId: $id}) { turn { id } } }", id=turn["id"]
        )


Cause: TypeAlias = Callable[[Deployment], AbstractAsyncContextManager[None]]
"""It lasts as long as its block."""


@asynccontextmanager
async def process_killed(one: Deployment) -> AsyncIterator[None]:
    (worker, *_) = one.cluster.workers
    await worker.kill()
    yield
    await worker.start()


@asynccontextmanager
async def majority_killed(one: Deployment) -> AsyncIterator[None]:
    members = one.stores.replica_set.members[:2]
    await asyncio.gather(*(member.kill() for member in members))
    async with _repeating(lambda: one.client.execute("{ viewer { id } }")):
        yield
    await asyncio.gather(*(member.start() for member in members))
    await one.stores.replica_set.until_healthy()


@asynccontextmanager
async def nobody_runs_outputs(one: Deployment) -> AsyncIterator[None]:
    async with _without_workers(one):
        turn = await one.begin()
        age = {"$subtract": ["$$NOW", round(WAITED.total_seconds() * 1000)]}
        await one.change(turn, {"$set": {"outputs.queuedAt": age}})
        yield
    await until_finished(one.client, turn)


@asynccontextmanager
async def outputs_held_too_long(one: Deployment) -> AsyncIterator[None]:
    async with _without_workers(one):
        turn = await one.begin()
        await one.change(turn, STUCK)
        yield
        await one.cancel(turn)


@asynccontextmanager
async def answers_lost(one: Deployment) -> AsyncIterator[None]:
    async def lose_many() -> None:
        await asyncio.gather(*(one.begin(script="lose-answer") for _ in range(6)))

    async with _repeating(lose_many):
        yield


@asynccontextmanager
async def key_refused(one: Deployment) -> AsyncIterator[None]:
    async with _repeating(lambda: one.begin(script="submit=401")):
        yield


@asynccontextmanager
async def store_frozen(one: Deployment) -> AsyncIterator[None]:
    one.stores.server.freeze()
    try:
        async with _repeating(lambda: one.begin(script="seconds=0")):
            yield
    finally:
        one.stores.server.thaw()


@asynccontextmanager
async def object_deleted(one: Deployment) -> AsyncIterator[None]:
    """And its shard is the next that is compared."""
    await until_finished(one.client, await one.begin())
    image = await one.documents["images"].find_one({"origin": ImageOrigin.OUTPUT.value})
    assert image is not None
    async with open_bucket(one.stores.bucket) as store:
        await store.delete([image["key"]])
    next_time = {
        "times": len(SHARDS) + SHARDS.index(shard_of(image["key"])) - 1,
        "notBefore": datetime.now(UTC) - timedelta(minutes=1),
    }
    await one.documents["chores"].update_one({"_id": "shards"}, {"$set": next_time}, upsert=True)
    yield


@asynccontextmanager
async def worker_killed_while_it_runs_many(one: Deployment) -> AsyncIterator[None]:
    """The other one takes them over: a process that has just started would show no increase."""
    first, second = one.cluster.workers
    await second.terminate()
    turns = [await one.begin(script="seconds=600") for _ in range(TAKEN_OVER)]

    async def all_run() -> bool:
        generating = {"outputs.status": "GENERATING"}
        return await one.documents["turns"].count_documents(generating) >= TAKEN_OVER

    await eventually(all_run, within=RUNNING_SECONDS, what="all outputs run")
    await second.start()
    await first.kill()
    yield
    await first.start()
    for turn in turns:  # together, they would wait for one another
        await one.cancel(turn)


@asynccontextmanager
async def api_frozen_again_and_again(one: Deployment) -> AsyncIterator[None]:
    """While updates that it has to deliver are written."""

    async def freeze() -> None:
        turn = await one.begin(script="seconds=2")
        conversation_id = "conv_" + turn["id"].split("_")[1]
        async with one.client.subscribe(FOLLOW, id=conversation_id) as updates:
            await updates.next()
            await _freeze(one.cluster.apis[0], FROZEN_SECONDS)
            await updates.next()

    async with _repeating(freeze):
        yield


@asynccontextmanager
async def record_unreadable(one: Deployment) -> AsyncIterator[None]:
    turn = await one.begin()
    await until_finished(one.client, turn)
    await one.change(turn, {"$set": {"createdAt": "yesterday"}})
    query = "query($id: ID!) { turn(id: $id) { createdAt } }"
    async with _repeating(lambda: one.client.execute(query, id=turn["id"])):
        yield
    await one.documents["turns"].delete_one({"_id": turn["id"]})


CAUSES: Final[Mapping[str, Cause]] = {
    "DarkroomDown": process_killed,
    "DarkroomDatabaseAway": majority_killed,
    "DarkroomOutputsQueued": nobody_runs_outputs,
    "DarkroomOutputsStuck": outputs_held_too_long,
    "DarkroomOutcomesUnknown": answers_lost,
    "DarkroomProviderRefusesKey": key_refused,
    "DarkroomProviderFails": answers_lost,
    "DarkroomStoreAway": store_frozen,
    "DarkroomObjectsMissing": object_deleted,
    "DarkroomLeasesExpire": worker_killed_while_it_runs_many,
    "DarkroomLoopBlocked": api_frozen_again_and_again,
    "DarkroomUpdatesLate": api_frozen_again_and_again,
    "DarkroomInternalErrors": record_unreadable,
}
"""By alert."""


@asynccontextmanager
async def _without_workers(one: Deployment) -> AsyncIterator[None]:
    await asyncio.gather(*(worker.terminate() for worker in one.cluster.workers))
    yield
    await asyncio.gather(*(worker.start() for worker in one.cluster.workers))


async def _freeze(process: Process, seconds: float) -> None:
    assert process.pid is not None
    os.kill(process.pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        os.kill(process.pid, signal.SIGCONT)


@asynccontextmanager
async def _repeating(deed: Callable[[], Awaitable[object]]) -> AsyncIterator[None]:
    """A rate has to be seen to rise, so it is done until the alert fires."""

    async def repeat() -> None:
        while True:
            await deed()
            await asyncio.sleep(PAUSE_SECONDS)

    task = asyncio.create_task(repeat())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
    if not task.cancelled():
        task.result()
