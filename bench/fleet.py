"""`python -m bench.fleet`: plays a day of a million viewers on the measured coefficients, minute by
minute, and says how many processes it takes. `--verify` runs 1, 2 and 4 real processes, and
compares what they use with the same arithmetic.
"""

import argparse
import asyncio
import math
import random
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import orjson

from bench.coefficients import FAL_MODEL, SETTINGS, Measurement
from bench.documents import CONVERSATION, FOLLOW
from bench.load import Requests, Sockets
from bench.model import Activity, Coefficients, usage_of
from bench.usage import Usage, read_usage
from domain.ids import ViewerId
from tests.resilience.sites import Arrangement, open_site

MINUTES: Final = 24 * 60
BUSY: Final = 0.6
"""How much of a core is used before another process is started."""
TOLERANCE: Final = 0.2
ARRANGEMENTS: Final = ((1, 0), (1, 1), (2, 2))
"""API processes and workers."""
_SETTLE_SECONDS: Final = 3.0
_CHANGED: Final = 20
"""Conversations that change in each second of a comparison."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """What viewers do."""

    viewers: int = 1_000_000
    sessions: float = 1.5
    session_minutes: float = 20.0
    turns: float = 4.0
    """In a session, as its uploads and queries."""
    outputs: float = 2.0
    """Of a turn."""
    previews: float = 1.0
    """Of an output."""
    uploads: float = 0.5
    queries: float = 8.0
    devices: float = 1.2
    """Subscriptions to the conversation that is worked at: pages that are open."""
    idle_pages: float = 0.0
    """Subscriptions that are open without a session, for each viewer."""
    peak: float = 2.5
    """The busiest minute, as a multiple of the mean one."""
    provider_seconds: float = 12.0
    provider_slots: int = 4_000
    """Of all providers together."""

    def share_of(self, minute: int) -> float:
        """How busy a minute is; the mean of all is 1."""
        wave = (1 + math.cos(2 * math.pi * (minute / MINUTES - 20 / 24))) / 2
        # A power of the wave has its mean below its peak by as much as is wanted.
        return float(self.peak * wave**self._sharpness)

    @property
    def _sharpness(self) -> float:
        # The mean of cos²ⁿ is about 1/√(πn): for a mean of 1 with this peak.
        return max(0.5, self.peak**2 / math.pi - 0.25)


class TooMuchLoad(Exception):
    """For one database and its processes: divide the viewers among several."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Minute:
    """One minute of the day."""

    activity: Activity
    usage: Usage
    apis: int
    workers: int
    waiting: int
    """Outputs that wait for a provider's slot."""
    longest_wait_seconds: float


def play(day: Day, costs: Coefficients, *, seed: str = "a day") -> Iterator[Minute]:
    """Sessions begin at random; outputs wait where all slots of the providers are taken."""
    randomness = random.Random(seed)
    sessions: deque[int] = deque(maxlen=round(day.session_minutes))
    queue: deque[tuple[int, int]] = deque()
    per_minute = day.provider_slots * 60 / day.provider_seconds
    for minute in range(MINUTES):
        mean = day.viewers * day.sessions * day.share_of(minute) / MINUTES
        sessions.append(max(0, round(randomness.gauss(mean, math.sqrt(mean)))))
        at_work = sum(sessions)
        each_second = at_work / day.session_minutes / 60
        asked = randomness.gauss(1, 0.02) * each_second * day.turns * day.outputs * 60
        queue.append((minute, round(max(0.0, asked))))
        landed, left = 0, round(per_minute)
        while queue and left:
            came, count = queue.popleft()
            taken = min(count, left)
            landed, left = landed + taken, left - taken
            if taken < count:
                queue.appendleft((came, count - taken))
        activity = Activity(
            landed=landed / 60,
            photographs=landed / 60,
            previews=landed / 60 * day.previews,
            uploads=each_second * day.uploads,
            queries=each_second * day.queries,
            subscribers=at_work * day.devices + day.viewers * day.idle_pages,
            followers=day.devices,
        )
        apis, workers, usage = _fleet_for(activity, costs)
        yield Minute(
            activity=activity,
            usage=usage,
            apis=apis,
            workers=workers,
            waiting=sum(count for _, count in queue),
            longest_wait_seconds=60.0 * (minute - queue[0][0]) if queue else 0.0,
        )


def _fleet_for(activity: Activity, costs: Coefficients) -> tuple[int, int, Usage]:
    """As many processes as needed. Raise TooMuchLoad if no number is enough, since what each API
    process does for all changes leaves too little of a core for anything else.
    """
    one, two = (usage_of(activity, costs, apis=apis, workers=0) for apis in (1, 2))
    each = two.api - one.api
    if each >= BUSY:
        raise TooMuchLoad(f"Each API process would need {each:.1f} cores to read the change feed.")
    apis = max(1, math.ceil((one.api - each) / (BUSY - each)))
    workers = max(1, math.ceil(one.worker / (BUSY - costs.idle_worker.worker)))
    return apis, workers, usage_of(activity, costs, apis=apis, workers=workers)


def busiest_of(minutes: Iterable[Minute]) -> Minute:
    return max(minutes, key=lambda one: one.usage.processor)


def describe(day: Day, costs: Coefficients) -> None:
    minutes = list(play(day, costs))
    busiest = busiest_of(minutes)
    a, u = busiest.activity, busiest.usage
    print(f"{day.viewers:,} viewers, {day.viewers * day.sessions:,.0f} sessions")
    print(f"outputs in the day     {sum(one.activity.landed for one in minutes) * 60:,.0f}")
    print(f"busiest minute         {a.landed:,.0f} outputs/s, {a.queries:,.0f} queries/s")
    print(f"open subscriptions     {a.subscribers:,.0f}")
    print(f"API processes          {busiest.apis:,} ({u.api:,.1f} cores)")
    print(f"workers                {busiest.workers:,} ({u.worker:,.1f} cores)")
    print(f"the database           {u.mongod:,.1f} cores, {u.operations:,.0f} operations/s")
    memory = busiest.apis * costs.api_bytes + a.subscribers * costs.subscriber_bytes
    print(f"memory of APIs         {memory / 2**30:,.1f} GB")
    stored = sum(one.activity.landed for one in minutes) * 60
    print(f"new documents          {stored * costs.landed_document_bytes / 1e9:,.1f} GB")
    print(f"new objects            {stored * costs.photograph_bytes / 1e12:,.2f} TB")
    waits = max(one.longest_wait_seconds for one in minutes)
    print(f"longest wait for slots {waits / 60:,.0f} min ({day.provider_slots:,} slots)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Processor time that the processes used and should use, in cores."""

    apis: int
    workers: int
    used: float
    calculated: float

    @property
    def ratio(self) -> float:
        return self.used / self.calculated

    @property
    def agrees(self) -> bool:
        return abs(self.ratio - 1) <= TOLERANCE


async def compare(costs: Coefficients, *, seconds: float, scale: float) -> list[Comparison]:
    """Put the same load on 1, 2 and 4 real processes, and print what they use."""
    found = []
    for apis, workers in ARRANGEMENTS:
        activity, used = await _measure(apis, workers, seconds=seconds, scale=scale)
        expected = usage_of(activity, costs, apis=apis, workers=workers)
        one = Comparison(
            apis=apis, workers=workers, used=used.processor, calculated=expected.processor
        )
        found.append(one)
        print(f"{apis} APIs, {workers} workers: {one.ratio:.2f} of what was calculated")
        for name, usage in (("used", used), ("calculated", expected)):
            print(
                f"  {name:<10} API {usage.api:.3f}, workers {usage.worker:.3f}, database "
                f"{usage.mongod:.3f} cores, {usage.operations:.0f} operations/s",
                flush=True,
            )
    return found


async def _measure(
    apis: int, workers: int, *, seconds: float, scale: float
) -> tuple[Activity, Usage]:
    """A load that is the same for all arrangements, spread over the APIs: what there was of it, per
    second, and what it used.
    """
    arrangement = Arrangement(
        apis=apis, workers=workers, fal=True, seconds_per_job=0.2, settings=SETTINGS
    )
    with tempfile.TemporaryDirectory() as folder:
        async with open_site(Path(folder), arrangement) as site:
            clients = [site.client(api) for api in site.apis]
            owners = [(await client("{ viewer { id } }"))["viewer"]["id"] for client in clients]
            m = Measurement(site, clients[0], ViewerId(owners[0]), scale)
            ids = await m.bench.add(max(_CHANGED, m.count(80)), turns=3)
            sockets = []
            for api in site.apis:
                sockets.append(Sockets(api.port, site.token("ana")))
                await sockets[-1].subscribe(FOLLOW, ids)
            await m.land(8, FAL_MODEL, previews=0)
            await asyncio.sleep(_SETTLE_SECONDS)
            before = await read_usage(site)
            done = await _work(m, site.apis[-1].port, ids, seconds=seconds)
            after = await read_usage(site)
            for one in sockets:
                await one.close()
    used = after - before
    activity = replace(done, subscribers=float(len(ids) * apis), followers=float(apis))
    return activity, used * (1 / used.seconds)


async def _work(m: Measurement, port: int, ids: list[str], *, seconds: float) -> Activity:
    """Per second: two outputs, ten queries, twenty changes; as far as the machine can."""
    body = orjson.dumps({"query": CONVERSATION, "variables": {"id": ids[0]}})
    requests = Requests(port, m.site.token("ana"))
    began, landed, queries, committed = time.monotonic(), 0, 0, 0
    while time.monotonic() - began < seconds:
        second = time.monotonic()
        await asyncio.gather(
            m.land(2, FAL_MODEL, previews=0), requests.run([body] * 10, connections=2)
        )
        for conversation_id in random.sample(ids, _CHANGED):
            await m.bench.commit(conversation_id, committed)
            committed += 1
        landed, queries = landed + 2, queries + 10
        await asyncio.sleep(max(0.0, 1 - (time.monotonic() - second)))
    took = time.monotonic() - began
    return Activity(landed=landed / took, queries=queries / took, committed=committed / took)


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--viewers", type=int, default=Day().viewers)
    parser.add_argument("--idle-pages", type=float, default=0.0, help="open pages of each viewer")
    parser.add_argument("--slots", type=int, default=Day().provider_slots)
    parser.add_argument(
        "--cells", type=int, default=1, help="databases with processes of their own"
    )
    parser.add_argument("--verify", action="store_true", help="run 1, 2 and 4 processes")
    parser.add_argument("--seconds", type=float, default=30.0, help="for each of them")
    parser.add_argument("--scale", type=float, default=1.0, help="of their load")
    options = parser.parse_args()
    costs = Coefficients.read()
    if options.verify:
        compared = await compare(costs, seconds=options.seconds, scale=options.scale)
        agrees = all(one.agrees for one in compared)
        print("Within 20 %." if agrees else "Not within 20 %.")
        return 0 if agrees else 1
    day = Day(
        viewers=options.viewers // options.cells,
        idle_pages=options.idle_pages,
        provider_slots=max(1, options.slots // options.cells),
    )
    print(f"each of {options.cells} cells:")
    try:
        describe(day, costs)
    except TooMuchLoad as why:
        print(f"{day.viewers:,} viewers are too many for one cell. {why}")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))
