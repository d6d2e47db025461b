"""Kills at random moments: one process after the other, each restarted soon."""

import asyncio
import random
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from time import time
from typing import Final, Protocol

from pymongo.errors import PyMongoError

from domain.execution.leases import LEASE
from runtime.local_mongod import MongodFailed
from storage.mongo.collections import PARENTS
from tests.resilience.evidence import Kill
from tests.resilience.processes import Process
from tests.resilience.sites import Site
from tests.waits import eventually

GAP_SECONDS: Final = (0.2, 1.6)
DOWN_SECONDS: Final = (0.0, 0.0, 0.5, 1.5)
KILLS_UNTIL_CALM: Final = 60
"""Kills in a row; then all are restarted, and one that runs outputs is killed alone."""
SETTLE_SECONDS: Final = 5.0
CALM_SECONDS: Final = LEASE.total_seconds() + 6.0
"""A lease, a sweep, and some."""
STOPS: Final = 0.2
"""The share of Darkroom's processes that is stopped instead of killed."""
LOSES_EVERYTHING: Final = 0.2
"""The share of kills of NATS after which its files are gone as well."""
DISTRIBUTED: Final = {"worker": 10, "api": 4, "mongod": 3, "nats": 2, "fal": 2}
EMBEDDED: Final = {"api": 6, "mongod": 3, "fal": 2}
"""What is killed, and how often relative to the others."""
AIMED: Final = 0.4
"""The share of kills of workers that waits until a submission is in flight."""
AIM_SECONDS: Final = 3.0
BREATHERS: Final = 0.2
"""How often the next kill waits until all are restarted and outputs are running."""
_TELL_EVERY: Final = 25
_BEING_ASKED: Final = {
    "status": "GENERATING",
    "outputs": {
        "$elemMatch": {"status": "GENERATING", "runs.job": None, "runs.refused": False},
    },
}


class _Killable(Protocol):
    async def start(self) -> None: ...

    async def kill(self) -> None: ...


@dataclass(slots=True)
class Storm:
    site: Site
    randomness: random.Random
    weights: Mapping[str, int]
    quiet_end: bool = True
    """Whether the last kill is a quiet one."""
    kills: list[Kill] = field(default_factory=list)
    tell: Callable[[str], None] = field(default=lambda _: None)
    _restarts: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    async def inject(self, count: int) -> None:
        """Kill the given number of times; return once all are restarted."""
        try:
            kinds = self._kinds(count - 1 if self.quiet_end else count)
            for number, kind in enumerate(kinds, start=1):
                await asyncio.sleep(self.randomness.uniform(*GAP_SECONDS))
                if self.randomness.random() < BREATHERS:
                    await asyncio.gather(*self._restarts.values())
                await self._hurt(kind)
                if number % _TELL_EVERY == 0:
                    self.tell(f"{number} of {count} kills")
                if number % KILLS_UNTIL_CALM == 0:
                    await self.kill_quietly()
                    await asyncio.sleep(CALM_SECONDS)
            if self.quiet_end:
                await self.kill_quietly()
            await asyncio.gather(*self._restarts.values())
        finally:
            for task in self._restarts.values():
                task.cancel()
            await asyncio.gather(*self._restarts.values(), return_exceptions=True)

    async def kill_quietly(self) -> None:
        """Kill one that runs outputs while all else is healthy: others take over its outputs."""
        await asyncio.gather(*self._restarts.values())
        await asyncio.sleep(SETTLE_SECONDS)
        victim = self.randomness.choice(self.site.runners)
        kind = "worker" if self.site.arrangement.is_distributed else "api"
        await self._kill(kind, victim.name, victim, quiet=True)

    def _kinds(self, count: int) -> list[str]:
        weights = self.weights
        # Each kind comes at least once, and as often as it should, whatever the order.
        cycle = [kind for kind, weight in weights.items() for _ in range(weight)]
        self.randomness.shuffle(cycle)
        kinds = [*weights, *(cycle[number % len(cycle)] for number in range(count))][:count]
        self.randomness.shuffle(kinds)
        return kinds

    async def _hurt(self, kind: str) -> None:
        if kind == "mongod":
            await self._kill(kind, kind, self.site.mongod)
        elif kind == "nats":
            assert self.site.nats is not None
            await self._kill(kind, kind, self.site.nats)
        else:
            victim = self.randomness.choice(self._processes(kind))
            await self._ready(victim.name)
            if kind != "fal" and self.randomness.random() < AIMED:
                await self._wait_for_submission()
            if kind != "fal" and self.randomness.random() < STOPS:
                await self._stop(kind, victim)
            else:
                await self._kill(kind, victim.name, victim)

    async def _wait_for_submission(self) -> None:
        """Wait for a moment in which a worker has called a vendor, and awaits the response."""

        async def being_asked() -> bool:
            for name in PARENTS.values():
                if await self.site.documents[name].find_one(_BEING_ASKED, {"_id": 1}):
                    return True
            return False

        with suppress(AssertionError, PyMongoError):
            await eventually(being_asked, within=AIM_SECONDS, what="a vendor is asked", every=0.01)

    def _processes(self, kind: str) -> list[Process]:
        if kind == "fal":
            assert self.site.vendor is not None
            return [self.site.vendor]
        of_kind: list[Process] = [*(self.site.workers if kind == "worker" else self.site.apis)]
        up = [
            one
            for one in of_kind
            if one.name not in self._restarts or self._restarts[one.name].done()
        ]
        return up or of_kind

    async def _kill(self, kind: str, name: str, victim: _Killable, *, quiet: bool = False) -> None:
        kill = await self._begin(kind, name, quiet=quiet)
        nats = self.site.nats
        if victim is nats and nats and self.randomness.random() < LOSES_EVERYTHING:
            await nats.lose_everything()
        else:
            await victim.kill()
        kill.ended_after = time() - kill.at
        down = LEASE.total_seconds() if quiet else self.randomness.choice(DOWN_SECONDS)
        self._restarts[name] = asyncio.create_task(_restart(kill, victim, down))

    async def _stop(self, kind: str, victim: Process) -> None:
        kill = await self._begin(kind, victim.name, quiet=False)
        kill.stopped = True
        self._restarts[victim.name] = asyncio.create_task(stop_and_restart(kill, victim))

    async def _begin(self, kind: str, name: str, *, quiet: bool) -> Kill:
        await self._ready(name)
        ran_outputs = kind == "worker" or (kind == "api" and not self.site.workers)
        kill = Kill(name, kind, time(), ran_outputs=ran_outputs, quiet=quiet)
        self.kills.append(kill)
        return kill

    async def _ready(self, name: str) -> None:
        """A process that is not yet restarted is not killed."""
        if name in self._restarts:
            await self._restarts[name]


async def stop_and_restart(kill: Kill, victim: Process) -> None:
    kill.exit_code = await victim.terminate()
    kill.ended_after = time() - kill.at
    await _restart(kill, victim, 0.0)


async def _restart(kill: Kill, victim: _Killable, down_seconds: float) -> None:
    await asyncio.sleep(down_seconds)
    while True:
        try:
            await victim.start()
        except MongodFailed:
            continue
        kill.back_at = time()
        return


def to_terminal(line: str) -> None:
    """Progress output for a long run."""
    sys.__stderr__ and sys.__stderr__.write(f"{line}\n")
