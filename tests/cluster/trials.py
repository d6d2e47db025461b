"""`make cluster TRIALS=20`: each part of a cluster is stopped under load, TRIALS times, and
what was promised is checked from all that was written, answered and seen.

Meanwhile Prometheus is asked every query of the dashboard, and which alerts fire.
"""

import asyncio
import random
import sys
from argparse import ArgumentParser
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import monotonic, time
from typing import Any, Final
from uuid import uuid4

import httpx2
from pymongo import AsyncMongoClient

from domain.background import run_in_background
from domain.ids import viewer_id_of
from edge.dev_tokens import ISSUER
from storage.mongo.database import open_database
from tests.cluster.cluster import ROOT, Cluster, Stores, cluster, empty_folder
from tests.cluster.scraping import dashboard_queries, firing_alerts, values
from tests.cluster.visitors import visitors
from tests.resilience.evidence import History, Kill, Terms, all_ended, read_stored
from tests.resilience.history import violations
from tests.resilience.load import Load
from tests.resilience.mutation_sender import MutationSender, round_robin
from tests.resilience.operators import Operator
from tests.resilience.processes import Process
from tests.resilience.state_recorder import StateRecorder
from tests.resilience.storm import stop_and_restart
from tests.storage.places import keys_in
from tests.waits import eventually

AWAY_SECONDS: Final = 6.0
"""Longer than an election, and than any client retries silently."""
STORE_AWAY_SECONDS: Final = 12.0
"""Shorter than a call waits for an answer (DARKROOM_S3_SECONDS): no output has to fail."""
SETTLE_SECONDS: Final = 600.0
CLEARED_SECONDS: Final = 300.0
VIEWERS: Final = 3
PAUSES_SECONDS: Final = (0.5, 2.0)
"""Of a viewer. With shorter ones, trials on a small machine wait for what viewers asked for."""
TERMS: Final = Terms(starting_credits=80, max_active_outputs=8)
SETTINGS: Final = {
    "DARKROOM_STARTING_CREDITS": str(TERMS.starting_credits),
    "DARKROOM_MAX_ACTIVE_OUTPUTS": str(TERMS.max_active_outputs),
}
DATABASE: Final = "darkroom"


@dataclass(slots=True)
class Trials:
    """What is taken away, by its name, and comes back before the trial returns."""

    cluster: Cluster
    stores: Stores
    randomness: random.Random
    kills: list[Kill] = field(default_factory=list)

    def all(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        return {
            "worker killed": lambda: self._kill(self.randomness.choice(self.cluster.workers)),
            "API killed": lambda: self._kill(self.randomness.choice(self.cluster.apis)),
            "primary stepped down": self._step_down,
            "primary killed": self._kill_primary,
            "secondary killed": self._kill_secondary,
            "NATS away": self._take_away_nats,
            "object store away": self._take_away_store,
            "workers rolled": lambda: self._roll(self.cluster.workers),
            "APIs rolled": lambda: self._roll(self.cluster.apis),
        }

    async def _kill(self, process: Process) -> None:
        kill = self._begin_fault(process.name, process in self.cluster.workers)
        await process.kill()
        await process.start()
        kill.back_at = time()

    async def _roll(self, processes: list[Any]) -> None:
        for process in processes:
            kill = self._begin_fault(process.name, process in self.cluster.workers)
            kill.stopped = True
            await stop_and_restart(kill, process)

    async def _step_down(self) -> None:
        kill = self._begin_fault("primary", False, kind="mongod")
        await self.stores.replica_set.step_down()
        await self._until_healthy(kill)

    async def _kill_primary(self) -> None:
        primary = await self.stores.replica_set.until_primary()
        kill = self._begin_fault("primary", False, kind="mongod")
        await primary.kill()
        await asyncio.sleep(AWAY_SECONDS)
        await primary.start()
        await self._until_healthy(kill)

    async def _kill_secondary(self) -> None:
        primary = await self.stores.replica_set.until_primary()
        members = [member for member in self.stores.replica_set.members if member is not primary]
        kill = self._begin_fault("secondary", False, kind="mongod")
        secondary = self.randomness.choice(members)
        await secondary.kill()
        await asyncio.sleep(AWAY_SECONDS)
        await secondary.start()
        await self._until_healthy(kill)

    async def _take_away_nats(self) -> None:
        kill = self._begin_fault("nats", False, kind="nats")
        await self.stores.broker.kill()
        await asyncio.sleep(AWAY_SECONDS)
        await self.stores.broker.start()
        kill.back_at = time()

    async def _take_away_store(self) -> None:
        """Frozen, since it keeps its objects in memory."""
        self.stores.server.freeze()
        try:
            await asyncio.sleep(STORE_AWAY_SECONDS)
        finally:
            self.stores.server.thaw()

    async def _until_healthy(self, kill: Kill) -> None:
        await self.stores.replica_set.until_healthy()
        kill.back_at = time()

    def _begin_fault(self, process_name: str, ran_outputs: bool, *, kind: str = "") -> Kill:
        kind = kind or ("worker" if ran_outputs else "api")
        kill = Kill(process_name, kind, time(), ran_outputs=ran_outputs)
        self.kills.append(kill)
        return kill


@dataclass(slots=True)
class Watcher:
    """Asks Prometheus again and again."""

    http: httpx2.AsyncClient
    with_data: set[str] = field(default_factory=set)
    fired: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    firing: set[str] = field(default_factory=set)

    async def watch(self) -> None:
        while True:
            for query in dashboard_queries("10s"):
                if query not in self.with_data and await values(self.http, query):
                    self.with_data.add(query)
            firing = await firing_alerts(self.http)
            for name in firing - self.firing:
                self.fired[name] += 1
            self.firing = firing
            await asyncio.sleep(1)

    async def has_cleared(self) -> bool:
        return not self.firing


async def try_all(folder: Path, *, rounds: int, seed: str) -> bool:
    """Run all trials under load, and print the result. Return whether no promise was broken."""
    randomness = random.Random(seed)
    async with (
        cluster(folder, settings=SETTINGS, hurried=True) as (deployment, stores),
        _watched(deployment) as watcher,
        AsyncMongoClient[dict[str, Any]](stores.replica_set.uri, tz_aware=True) as client,
        open_database(stores.replica_set.uri, DATABASE) as database,
    ):
        trials = Trials(deployment, stores, randomness)
        documents, operator = client[DATABASE], Operator(database)
        load = _make_load(deployment, operator, randomness)
        recorder = StateRecorder(documents)
        try:
            async with recorder.writing():
                async with load.working(VIEWERS):
                    await _run_trials(trials, rounds)
                await eventually(
                    lambda: all_ended(documents), within=SETTLE_SECONDS, what="every output ended"
                )
                await recorder.caught_up()
        finally:
            await load.close()
            await load.sender.aclose()
        stored = await read_stored(documents, deployment.folder)
        stored.objects = await keys_in(stores.bucket)
        broken = violations(
            History(
                load.subscribers,
                load.sender.asked,
                stored,
                state_log=recorder.state_log,
                grants=operator.grants,
                kills=trials.kills,
                terms=TERMS,
            )
        )
        cleared = await _report_monitoring(watcher)
    print(f"{len(load.sender.asked)} requests, {len(load.acknowledged)} acknowledged; seed {seed}")
    print(f"Promises broken: {len(broken)}")
    for sentence in broken:
        print(f"  {sentence}")
    return not broken and cleared


def _make_load(deployment: Cluster, operator: Operator, randomness: random.Random) -> Load:
    route = round_robin([api.url for api in deployment.apis])
    return Load(
        MutationSender(route=route, token=deployment.token),
        route=route,
        token=deployment.token,
        randomness=randomness,
        operator=operator,
        viewer_id=lambda name: viewer_id_of(ISSUER, name),
        pauses_seconds=PAUSES_SECONDS,
    )


async def _run_trials(trials: Trials, rounds: int) -> None:
    """Run every trial repeatedly, and print how long it then takes until an image lands."""
    urls = [api.url for api in trials.cluster.apis]
    for name, trial in trials.all().items():
        durations, landed = [], []
        async with visitors(urls, trials.cluster.token, why=name) as visiting:
            await visiting.until_refused()
            for _ in range(rounds):
                started_at = monotonic()
                await trial()
                durations.append(monotonic() - started_at)
                landed.append(await visiting.until_landed())
        print(
            f"{name}: {rounds} times; away for {median(durations):.1f} s "
            f"(worst {max(durations):.1f} s); "
            f"then an image landed within {median(landed):.1f} s (worst {max(landed):.1f} s)",
            flush=True,
        )


@asynccontextmanager
async def _watched(deployment: Cluster) -> AsyncIterator[Watcher | None]:
    if deployment.prometheus is None:
        yield None
        return
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx2.AsyncClient(base_url=deployment.prometheus))
        watcher = Watcher(http)
        async with run_in_background(watcher.watch(), name="prometheus"):
            yield watcher


async def _report_monitoring(watcher: Watcher | None) -> bool:
    """Whether all that fired has cleared."""
    if watcher is None:
        print("Prometheus is not installed: nothing was watched.")
        return True
    asked = dashboard_queries("10s")
    try:
        await eventually(watcher.has_cleared, within=CLEARED_SECONDS, what="alerts have cleared")
    except AssertionError:
        print(f"Alerts that still fire: {', '.join(sorted(watcher.firing))}")
    print(f"Queries with data: {len(watcher.with_data)} of {len(asked)}")
    for query in asked:
        if query not in watcher.with_data:
            print(f"  without: {query}")
    fired = ", ".join(f"{count} × {name}" for name, count in sorted(watcher.fired.items()))
    print(f"Alerts that fired, and cleared: {fired or 'none'}")
    return not watcher.firing


def main(arguments: Sequence[str]) -> int:
    parser = ArgumentParser(prog="python -m tests.cluster.trials", description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT / ".cluster", help="for data and logs")
    parser.add_argument("--rounds", type=int, default=1, help="how often each part is taken away")
    parser.add_argument("--seed", default=uuid4().hex[:8], help="decides what viewers do")
    asked = parser.parse_args(arguments)
    folder = empty_folder(asked.folder)
    return 0 if asyncio.run(try_all(folder, rounds=asked.rounds, seed=asked.seed)) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
