"""Kills at random moments, and what they cost: who was killed when, and how soon work went on."""

import asyncio
import random
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from time import time
from typing import Any, Final

from pymongo.errors import PyMongoError

from domain.services.runner import LEASE
from mongod import Mongod, MongodFailed
from tests.resilience.history import RANK, SubscriberLog
from tests.resilience.processes import Api, Documents, Site

MONGOD: Final = "mongod"
GAP_SECONDS: Final = (0.3, 2.0)
CALM_SECONDS: Final = 19.0
"""Now and then a gap so long that what was left is taken up before the next kill."""
KILLS_UNTIL_CALM: Final = 8
_LOOK_EVERY_SECONDS: Final = 0.1
_SLOW_MODELS: Final = frozenset({"rehearsal-slow", "rehearsal-lands-last"})
_LIVELY_SECONDS: Final = 1.0
"""An output that told something this shortly before mongod died was being run."""


@dataclass(slots=True)
class Kill:
    who: str
    at: float
    back_at: float | None = None
    unfinished: int = 0
    """Outputs that were at work."""


@dataclass(slots=True)
class Storm:
    """Kills mongod and API processes, each again only once it is back."""

    site: Site
    randomness: random.Random
    kills: list[Kill] = field(default_factory=list)
    _restarts: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    async def rage(self, times_each: int) -> None:
        """So many kills of mongod and of APIs, in random order; return once all are back."""
        victims = [MONGOD, "api"] * times_each
        self.randomness.shuffle(victims)
        for number, victim in enumerate(victims, start=1):
            await asyncio.sleep(self.randomness.uniform(*GAP_SECONDS))
            if victim == MONGOD:
                await self._kill(MONGOD, self.site.mongod)
            else:
                api = self.randomness.choice(self.site.apis)
                await self._kill(api.name, api)
            if number % KILLS_UNTIL_CALM == 0 and number < len(victims):
                await asyncio.sleep(CALM_SECONDS)
        await asyncio.gather(*self._restarts.values())

    async def _kill(self, name: str, victim: Mongod | Api) -> None:
        if name in self._restarts:
            await self._restarts[name]
        unfinished = await _count_unfinished(self.site.documents)
        kill = Kill(name, time(), unfinished=unfinished)
        await victim.kill()
        self.kills.append(kill)
        down = self.randomness.choice((0.0, 0.0, 0.5, 1.5))
        self._restarts[name] = asyncio.create_task(_restart(kill, victim, down))


async def _restart(kill: Kill, victim: Mongod | Api, down_seconds: float) -> None:
    await asyncio.sleep(down_seconds)
    while True:
        try:
            await victim.start()
        except MongodFailed:
            continue
        kill.back_at = time()
        return


async def _count_unfinished(documents: Documents) -> int:
    try:
        found = (
            await documents["turns"].find({"status": {"$in": ["PENDING", "GENERATING"]}}).to_list()
        )
    except PyMongoError:
        return 0
    return sum(RANK[output["status"]] < 2 for turn in found for output in turn["outputs"])


@dataclass(frozen=True, slots=True)
class _Claim:
    at: float
    fence: int
    lease_until: float
    """As last seen before the next claim."""


@dataclass(frozen=True, slots=True)
class Takeover:
    """An output was claimed again after the process that ran it had been killed."""

    after_return: float
    """Seconds since the killed process was back."""
    after_calm: float
    """Seconds since anything at all came back: what the bound is about."""


@dataclass(slots=True)
class Watch:
    """Looks at the database all the time: when was each output claimed, and claimed again?"""

    documents: Documents
    claims: dict[tuple[str, int], list[_Claim]] = field(default_factory=dict)

    async def look(self) -> None:
        while True:
            with suppress(PyMongoError):
                await self._look_once()
            await asyncio.sleep(_LOOK_EVERY_SECONDS)

    async def _look_once(self) -> None:
        fields = {"outputs.slot": 1, "outputs.fence": 1, "outputs.leaseUntil": 1}
        found: list[dict[str, Any]] = await self.documents["turns"].find({}, fields).to_list()
        for turn in found:
            for output in turn["outputs"]:
                if output["leaseUntil"] is None:
                    continue
                claims = self.claims.setdefault((turn["_id"], output["slot"]), [])
                claim = _Claim(time(), output["fence"], output["leaseUntil"].timestamp())
                if claims and claims[-1].fence == claim.fence:
                    claims[-1] = replace(claims[-1], lease_until=claim.lease_until)
                else:
                    claims.append(claim)

    def takeovers(self, kills: Sequence[Kill]) -> list[Takeover]:
        """Every claim of an output that somebody had claimed before."""
        killed_apis = [kill for kill in kills if kill.who != MONGOD]
        backs = [kill.back_at for kill in kills if kill.back_at is not None]
        found = []
        for claims in self.claims.values():
            for before, after in pairwise(claims):
                renewed_at = before.lease_until - LEASE.total_seconds()
                # The first API to be killed after the last sign of life.
                returns = [kill.back_at for kill in killed_apis if kill.at >= renewed_at]
                last = max((back for back in backs if back <= after.at), default=None)
                if returns and returns[0] is not None and last is not None:
                    found.append(Takeover(after.at - returns[0], after.at - last))
        return found


def silences(subscribers: Sequence[SubscriberLog], kills: Sequence[Kill]) -> list[float]:
    """How long after each return of mongod a socket that lived through it was silent about an
    output at work, where nothing else was killed.
    """
    found: list[float] = []
    steps = [pair for subscriber in subscribers for pair in _steps(subscriber)]
    for kill in kills:
        if kill.who != MONGOD or kill.back_at is None:
            continue
        others = [other for other in kills if other is not kill]
        for before, after in steps:
            if not (kill.at - _LIVELY_SECONDS < before < kill.at and kill.back_at < after):
                continue
            if not any(
                other.at < after and (other.back_at or other.at) > before - _LIVELY_SECONDS
                for other in others
            ):
                found.append(after - kill.back_at)
    return found


def _steps(subscriber: SubscriberLog) -> Iterator[tuple[float, float]]:
    """When one connection was told two steps, one after the other, of an output that tells many."""
    known: dict[tuple[int, str], tuple[float | None, Any]] = {}
    for seen in subscriber.seen:
        for output in seen.turn["outputs"]:
            if output["model"]["id"] not in _SLOW_MODELS:
                continue
            name, state = (seen.connection, output["id"]), (output["status"], output["progress"])
            if name not in known:
                known[name] = None, state
            elif known[name][1] != state:
                before = known[name][0]
                if before is not None:
                    yield before, seen.at
                known[name] = seen.at, state
