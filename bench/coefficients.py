"""`python -m bench.coefficients`: measures what each thing costs.

With `--report` it writes bench/coefficients.json, which docs/scaling.md and `bench.fleet` use.
One API process, one worker, a mongod, a NATS and a simulated fal. Processor time is what the
kernel counts for each process, so that other load of the machine matters little; what is used when
nothing happens is measured first, and left out of everything else.
"""

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import orjson
from PIL import Image

from bench.documents import CONVERSATION, FOLLOW, Records
from bench.load import Requests, Sockets
from bench.model import Coefficients
from bench.servers import Bench
from bench.usage import Usage, read_usage, resident_bytes
from domain.ids import ViewerId
from domain.partitions import FollowedPartitions
from storage.imaging.threaded import ThreadedImageProcessor
from storage.mongo.change_feed import MongoChangeFeed
from storage.mongo.database import open_database
from tests.clients import GraphQLClient
from tests.operations import start
from tests.resilience.evidence import all_ended
from tests.resilience.load import end
from tests.resilience.processes import DATABASE
from tests.resilience.sites import Arrangement, Site, open_site
from tests.uploads import uploaded
from tests.waits import eventually

FAL_MODEL: Final = "img-nano-banana"
LOCAL_MODEL: Final = "local-silver"
SETTLE_SECONDS: Final = 300.0
IDLE_SECONDS: Final = 10.0
READERS: Final = 8
FOLLOWERS: Final = 8
PREVIEWS: Final = 3
SETTINGS: Final = {
    "DARKROOM_MAX_ACTIVE_OUTPUTS": "10000",
    "DARKROOM_FAL_PLACES": "50",
    "DARKROOM_STARTING_CREDITS": "1000000",
}


class Measurement:
    """One site, and who asks it."""

    def __init__(self, site: Site, client: GraphQLClient, owner: ViewerId, scale: float) -> None:
        self.site = site
        self.client = client
        self.idle = Usage()
        self.bench = Bench({}, Records(owner), site.documents, owner, {})
        self._scale = scale

    def count(self, whole: int) -> int:
        return max(4, round(whole * self._scale))

    async def used(self, work: Callable[[], Awaitable[object]]) -> Usage:
        """By the work, beyond what is used when nothing happens."""
        before = await read_usage(self.site)
        await work()
        await eventually(
            lambda: all_ended(self.site.documents), within=SETTLE_SECONDS, what="all has ended"
        )
        after = await read_usage(self.site)
        return replace((after - before).beyond(self.idle), seconds=after.seconds - before.seconds)

    async def land(self, count: int, model: str, **options: Any) -> None:
        limit = asyncio.Semaphore(8)

        async def one() -> None:
            async with limit:
                await start(self.client, selectedModels=[model], options=options)

        await asyncio.gather(*(one() for _ in range(count)))
        await eventually(
            lambda: all_ended(self.site.documents), within=SETTLE_SECONDS, what="all has ended"
        )

    async def commit(self, ids: Sequence[str], times: int) -> None:
        for marker in range(times):
            for conversation_id in ids:
                await self.bench.commit(conversation_id, marker)
        await asyncio.sleep(1)

    async def commit_together(self, ids: Sequence[str], times: int) -> None:
        for marker in range(times):
            await asyncio.gather(*(self.bench.commit(one, marker) for one in ids))
        await asyncio.sleep(1)


async def measure_coefficients(m: Measurement) -> Coefficients:
    await m.land(8, FAL_MODEL, previews=0)  # whatever is only done once
    await m.land(4, LOCAL_MODEL, width=512, height=512, previews=0)
    m.idle = per_second(await m.used(lambda: asyncio.sleep(IDLE_SECONDS)))
    landed, changes, documents = await _landed(m)
    change, delivered, subscriber, subscriber_bytes = await _subscriptions(m)
    preview, upload, query = await _preview(m), await _upload(m), await _query(m)
    feed_reader, (decoding, photograph_bytes) = await _feed_reader(m), await _decoding(m)
    (api,), (worker,) = ([one.pid for one in kind] for kind in (m.site.apis, m.site.workers))
    assert api is not None
    assert worker is not None
    api_bytes, worker_bytes = resident_bytes(api), resident_bytes(worker)
    idle, (idle_database, idle_api) = m.idle, await _idle_without(m)
    return Coefficients(
        idle_database=idle_database,
        idle_api=idle_api - idle_database,
        idle_worker=idle - idle_api,
        landed=landed,
        preview=preview,
        upload=upload,
        query=query,
        change=change,
        delivered=delivered,
        feed_reader=feed_reader,
        subscriber=subscriber,
        landed_changes=changes,
        landed_document_bytes=documents,
        decoding=decoding,
        photograph_bytes=photograph_bytes,
        api_bytes=api_bytes,
        worker_bytes=worker_bytes,
        subscriber_bytes=subscriber_bytes,
        measured={
            "at": datetime.now(UTC).isoformat(timespec="minutes"),
            "cores": str(os.cpu_count()),
            "load average": f"{os.getloadavg()[0]:.1f}",
        },
    )


async def _landed(m: Measurement) -> tuple[Usage, float, float]:
    count = m.count(60)
    bytes_before = (await m.site.documents.command("dbStats"))["dataSize"]
    turns_before = await _versions(m)
    used = await m.used(lambda: m.land(count, FAL_MODEL, previews=0))
    changes = (await _versions(m) - turns_before) / count
    documents = (await m.site.documents.command("dbStats"))["dataSize"] - bytes_before
    return each(used, count), changes, documents / count


async def _versions(m: Measurement) -> float:
    """How many changes of turns there have been, the first one of each included."""
    stages: list[dict[str, Any]] = [{"$group": {"_id": None, "sum": {"$sum": "$version"}}}]
    found = await (await m.site.documents["turns"].aggregate(stages)).to_list()
    return float(found[0]["sum"]) if found else 0.0


async def _preview(m: Measurement) -> Usage:
    """The difference that previews make, by how many there are."""
    count, size = m.count(24), {"width": 512, "height": 512}
    without = await m.used(lambda: m.land(count, LOCAL_MODEL, previews=0, **size))
    with_them = await m.used(lambda: m.land(count, LOCAL_MODEL, previews=PREVIEWS, **size))
    return each(with_them - without, PREVIEWS * count)


async def _upload(m: Measurement) -> Usage:
    count = m.count(20)
    picture = _photograph()

    async def upload() -> None:
        for _ in range(count):
            await uploaded(m.client, picture, "image/jpeg")

    await upload()  # the sandbox starts its processes

    return each(await m.used(upload), count)


def _photograph() -> bytes:
    """About a megabyte, as hard to decode and to make smaller as one."""
    written = BytesIO()
    Image.effect_noise((1536, 1024), 40).convert("RGB").save(written, "JPEG", quality=85)
    return written.getvalue()


async def _decoding(m: Measurement) -> tuple[Usage, float]:
    """Of a photograph, with its thumbnails: the simulated fal's pictures are nearly empty. Also the
    bytes of all of them.
    """
    count, picture = m.count(12), _photograph()
    processor = ThreadedImageProcessor()
    try:
        before = time.process_time()
        for _ in range(count):
            made = await processor.process(picture)
        used = time.process_time() - before
    finally:
        await processor.aclose()
    stored = len(made.original.data) + sum(len(one.data) for one in made.thumbnails)
    return Usage(worker=used / count), stored


async def _query(m: Measurement) -> Usage:
    count = m.count(400)
    (conversation_id,) = await m.bench.add(1, turns=3)
    body = orjson.dumps({"query": CONVERSATION, "variables": {"id": conversation_id}})
    requests = Requests(m.site.apis[0].port, m.site.token("ana"))
    return each(await m.used(lambda: requests.run([body] * count, connections=8)), count)


async def _subscriptions(m: Measurement) -> tuple[Usage, Usage, Usage, float]:
    """A change with a follower, a further follower, and what an open subscription costs."""
    pid = m.site.apis[0].pid
    assert pid is not None
    conversations, times = m.count(150), 8
    ids = await m.bench.add(conversations, turns=1)
    sockets = Sockets(m.site.apis[0].port, m.site.token("ana"))
    memory = resident_bytes(pid)
    await sockets.subscribe(FOLLOW, ids)
    memory = resident_bytes(pid) - memory
    quiet = await m.used(lambda: asyncio.sleep(IDLE_SECONDS))
    with_one = await m.used(lambda: m.commit(ids, times))
    few = ids[: max(1, conversations // FOLLOWERS)]
    await sockets.subscribe(FOLLOW, few * (FOLLOWERS - 1))
    with_many = await m.used(lambda: m.commit(few, times))
    await sockets.close()
    change = each(with_one, conversations * times)
    delivered = each(each(with_many, len(few) * times) - change, FOLLOWERS - 1)
    # The database does not know of followers.
    delivered = Usage(api=delivered.api)
    per_subscriber = Usage(api=max(0.0, quiet.api) / (IDLE_SECONDS * conversations))
    return change, delivered, per_subscriber, memory / conversations


async def _feed_reader(m: Measurement) -> Usage:
    """What further readers add to the database. The reading itself is an API process's own. Many
    changes at once, as they come where this matters: readers take them in batches.
    """
    ids = await m.bench.add(20, turns=1)
    times = max(4, m.count(400) // 20)
    alone = await m.used(lambda: m.commit_together(ids, times))
    async with AsyncExitStack() as stack:
        for _ in range(READERS):
            database = await stack.enter_async_context(open_database(m.site.mongod.uri, DATABASE))
            task = asyncio.create_task(_read(MongoChangeFeed(database, FollowedPartitions(1))))
            stack.push_async_callback(end, [task])
        await asyncio.sleep(2)
        together = await m.used(lambda: m.commit_together(ids, times))
    added = each(together - alone, READERS * times * 20)
    # An API process reads a change that nobody follows there at the cost that this one has had.
    read = alone.api / (times * 20)
    return Usage(api=max(0.0, read), mongod=added.mongod, operations=added.operations)


async def _read(feed: MongoChangeFeed) -> None:
    async for _ in feed.follow():
        pass


async def _idle_without(m: Measurement) -> tuple[Usage, Usage]:
    """Of the database alone, and of the database with the API process."""
    m.idle = Usage()
    await m.site.workers[0].kill()
    with_api = per_second(await m.used(lambda: asyncio.sleep(IDLE_SECONDS)))
    await m.site.apis[0].kill()
    alone = per_second(await m.used(lambda: asyncio.sleep(IDLE_SECONDS)))
    return alone, with_api


def each(used: Usage, count: float) -> Usage:
    return replace(used * (1 / count), seconds=0.0)


def per_second(used: Usage) -> Usage:
    return replace(used * (1 / used.seconds), seconds=1.0)


async def measure(*, scale: float) -> Coefficients:
    arrangement = Arrangement(apis=1, workers=1, fal=True, seconds_per_job=0.2, settings=SETTINGS)
    with tempfile.TemporaryDirectory() as folder:
        async with open_site(Path(folder), arrangement) as site:
            client = site.client(site.apis[0])
            owner = ViewerId((await client("{ viewer { id } }"))["viewer"]["id"])
            found = await measure_coefficients(Measurement(site, client, owner, scale))
    return replace(found, measured={**found.measured, "scale": f"{scale:g}"})


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="of the load")
    parser.add_argument("--report", action="store_true", help="write bench/coefficients.json")
    options = parser.parse_args()
    found = await measure(scale=options.scale)
    for name in Coefficients.__dataclass_fields__:
        print(f"{name}: {getattr(found, name)}")
    if options.report:
        found.write()


if __name__ == "__main__":
    asyncio.run(main())
