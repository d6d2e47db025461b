"""One storm from beginning to end: load, kills, the end of the last output, all evidence."""

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Final

from storage.mongo.collections import PARENTS
from storage.mongo.viewers import MongoViewerRepository
from tests.resilience.account_auditor import AccountAuditor
from tests.resilience.attempts import Attempt, attempts_of
from tests.resilience.evidence import History, Terms, all_ended, read_stored
from tests.resilience.followers import caught_up
from tests.resilience.history import violations
from tests.resilience.load import Load, end
from tests.resilience.mutation_sender import MutationSender, round_robin
from tests.resilience.operators import Operator
from tests.resilience.rollouts import Rollout
from tests.resilience.scale import SEED, THOROUGH
from tests.resilience.sites import Arrangement, Site, open_site, viewer_id
from tests.resilience.state_recorder import StateRecorder
from tests.resilience.storm import Storm
from tests.waits import eventually

VIEWERS: Final = 4
TERMS: Final = Terms(starting_credits=80, max_active_outputs=8)
SETTINGS: Final = {
    "DARKROOM_STARTING_CREDITS": str(TERMS.starting_credits),
    "DARKROOM_MAX_ACTIVE_OUTPUTS": str(TERMS.max_active_outputs),
}
BUSY: Final = (0.2, 0.9)
CALM: Final = (0.5, 2.0)
BEGIN_SECONDS: Final = 180.0
SETTLE_SECONDS: Final = 180.0
CATCH_UP_SECONDS: Final = 30.0
KILL_SECONDS: Final = 30.0
"""Far more than a kill takes: together with the others, when a storm is given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Which storm it is to be."""

    name: str
    arrangement: Arrangement
    kills: int
    weights: Mapping[str, int]
    """What is killed, and how often relative to the others."""
    keys: bool = True
    """Whether viewers use idempotency keys."""
    quiet_end: bool = True
    """Whether one that runs outputs is killed at the end, while all else is healthy."""
    other_release: Path | None = None
    """Where the code of a release is whose processes change places with ours, instead of kills."""
    pauses_seconds: tuple[float, float] = BUSY if THOROUGH else CALM
    """How long each viewer waits before the next request."""


@dataclass(slots=True)
class Run:
    """What came of one storm."""

    history: History
    violations: list[str]
    attempts: list[Attempt]
    settled_seconds: float
    seconds: float
    """From the first request to the end of the last output."""
    runner_memory_bytes: int
    """The most of one process that runs outputs."""


async def run_storm(plan: Plan, folder: Path, *, tell: Callable[[str], None]) -> Run:
    """Never hangs, whatever else does."""
    tell(f"{plan.name}: seed {SEED}, {plan.kills} kills")
    limit = BEGIN_SECONDS + SETTLE_SECONDS + plan.kills * KILL_SECONDS
    async with asyncio.timeout(limit), open_site(folder, plan.arrangement) as site:
        return await _Stage(plan, site, tell).run()


class _Stage:
    def __init__(self, plan: Plan, site: Site, tell: Callable[[str], None]) -> None:
        randomness = random.Random(f"{SEED} {plan.name}")
        route = round_robin([api.url for api in site.apis])
        self._plan = plan
        self._site = site
        self._tell = tell
        self._asker = MutationSender(route=route, token=site.token)
        self._operator = Operator(site.database)
        self._auditor = AccountAuditor(site.database)
        self._recorder = StateRecorder(site.documents)
        self._storm = self._make_storm(randomness)
        self._load = Load(
            self._asker,
            route=route,
            token=site.token,
            randomness=randomness,
            operator=self._operator,
            viewer_id=viewer_id,
            fal=plan.arrangement.fal,
            keys=plan.keys,
            most_followed=20 if THOROUGH else 6,
            pauses_seconds=plan.pauses_seconds,
        )

    async def run(self) -> Run:
        async with self._recorder.writing():
            auditing = asyncio.create_task(self._auditor.look(), name="auditor")
            began = monotonic()
            try:
                settled = await self._work()
                seconds = monotonic() - began
                await self._recorder.caught_up()
                await self._subscribers_caught_up()
            finally:
                await end([auditing])
                await self._load.close()
                await self._asker.aclose()
        history = await self._history()
        runners = self._site.runners
        return Run(
            history,
            violations(history),
            attempts_of(self._recorder.state_log),
            settled,
            seconds,
            max(runner.most_memory_bytes for runner in runners),
        )

    def _make_storm(self, randomness: random.Random) -> Storm | Rollout:
        plan, site = self._plan, self._site
        if plan.other_release:
            return Rollout(site, plan.other_release)
        return Storm(
            site,
            randomness,
            plan.weights,
            quiet_end=plan.quiet_end,
            tell=lambda line: self._tell(f"{plan.name}: {line}"),
        )

    async def _work(self) -> float:
        """The storm, and how long it then took until everything had come to its end."""
        if not THOROUGH:
            await self._welcome()
        async with self._load.working(VIEWERS):
            await eventually(self._has_begun, within=BEGIN_SECONDS, what="work has begun")
            await self._storm.inject(self._plan.kills)
        return await eventually(
            lambda: all_ended(self._site.documents),
            within=SETTLE_SECONDS,
            what="every output has ended",
        )

    async def _welcome(self) -> None:
        """Make the viewers known, so that no process spends seconds on pictures for them."""
        viewers = MongoViewerRepository(self._site.database)
        for name in self._load.names(VIEWERS):
            await viewers.welcome(viewer_id(name), [])

    async def _has_begun(self) -> bool:
        return len(self._load.acknowledged) >= VIEWERS

    async def _subscribers_caught_up(self) -> None:
        parents = [
            parent
            for name in PARENTS.values()
            for parent in await self._site.documents[name].find({}, {"updatedAt": 1}).to_list()
        ]
        await caught_up(self._load.followers, parents, within=CATCH_UP_SECONDS)

    async def _history(self) -> History:
        site = self._site
        bill = await site.vendor.bill() if site.vendor else None
        for runner in site.runners:
            # A killed process leaves its peak memory to be read, and writes nothing more.
            await runner.kill()
        return History(
            self._load.subscribers,
            self._asker.asked,
            await read_stored(site.documents, site.data_dir),
            state_log=self._recorder.state_log,
            bill=bill,
            snapshots=self._auditor.snapshots,
            grants=self._operator.grants,
            kills=self._storm.kills,
            terms=TERMS,
        )
