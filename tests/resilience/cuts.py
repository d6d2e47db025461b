"""Cuts of every kind in random order: of a subscriber's connection, of an API, of the primary.

Everything that is cut comes back by itself or is started again, as under any supervisor.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from time import time
from typing import Final

from tests.resilience.followers import Follower
from tests.resilience.load import Load, end
from tests.resilience.replica_set import Member, ReplicaSet
from tests.resilience.replicated import ReplicatedSite
from tests.waits import eventually

_GAP_SECONDS: Final = (0.05, 0.4)
_DOWN_SECONDS: Final = (0.0, 0.0, 0.5, 2.0)
_FROZEN_SECONDS: Final = (3.5, 3.5, 3.5, 5.0, 11.0)
"""Longer than an election; the last also longer than any client waits for a response."""
_IMPATIENT: Final = 0.2
"""How often the primary is cut again before the member that was cut before is back."""
_LATEST: Final = 8
_CONNECTED_SECONDS: Final = 60.0
_ANSWER_SECONDS: Final = 2.0
_MANY: Final = 20

Back = Callable[[], Awaitable[None]]


class Kind(StrEnum):
    RESET = "client RST"
    FINISH = "client FIN"
    API_KILL = "API SIGKILL"
    STEP_DOWN = "step-down"
    KILL = "primary SIGKILL"
    FREEZE = "primary freeze"


OF_CLIENTS: Final = frozenset({Kind.RESET, Kind.FINISH})
OF_DATABASE: Final = frozenset({Kind.STEP_DOWN, Kind.KILL, Kind.FREEZE})
_SHARES: Final = {
    Kind.RESET: 0.39,
    Kind.FINISH: 0.39,
    Kind.API_KILL: 0.04,
    Kind.STEP_DOWN: 0.06,
    Kind.KILL: 0.06,
    Kind.FREEZE: 0.06,
}
"""The database needs seconds after a cut, a connection nothing. What is left is of clients, too."""


@dataclass(slots=True)
class Cut:
    kind: Kind
    who: str
    at: float
    over_at: float | None = None
    """When the affected process or member was healthy again."""


def mixed(count: int, randomness: random.Random) -> list[Kind]:
    """The given number of cuts in random order, each kind in its share.

    A few cuts have a quick one of the database among them, and none of an API: what that ran would
    wait for its lease to run out.
    """
    if count < _MANY:
        kinds = [randomness.choice([Kind.STEP_DOWN, Kind.KILL])]
    else:
        kinds = [kind for kind, share in _SHARES.items() for _ in range(round(share * count))]
    kinds += randomness.choices(sorted(OF_CLIENTS), k=count - len(kinds))
    randomness.shuffle(kinds)
    return kinds


async def break_primary(replica_set: ReplicaSet, primary: Member, kind: Kind) -> tuple[Cut, Back]:
    """Do it at once; return what was done, and how the member recovers."""
    cut = Cut(kind, primary.address, time())
    if kind is Kind.STEP_DOWN:
        cut.who = (await replica_set.step_down()).address
        return cut, primary.until_answers
    if kind is Kind.KILL:
        await primary.kill()
        return cut, primary.start
    await primary.freeze()
    return cut, primary.thaw


@dataclass(slots=True)
class Cutter:
    """Cuts, one after the other; recoveries run in separate tasks meanwhile."""

    site: ReplicatedSite
    load: Load
    randomness: random.Random
    cuts: list[Cut] = field(default_factory=list)
    _returns: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    async def make(self, kinds: Sequence[Kind]) -> None:
        """Return once everything is back."""
        for kind in kinds:
            await asyncio.sleep(self.randomness.uniform(*_GAP_SECONDS))
            if kind in OF_CLIENTS:
                await self._cut_a_client(kind)
            elif kind is Kind.API_KILL:
                await self._kill_an_api()
            else:
                await self._break_primary(kind)
        await asyncio.gather(*self._returns.values())
        await self.site.replica_set.until_healthy()

    async def close(self) -> None:
        await end(self._returns.values())

    async def _cut_a_client(self, kind: Kind) -> None:
        connected: list[Follower] = []

        async def is_connected() -> bool:
            # Most happens in the latest conversations. Every other subscriber is left alone, so
            # that one which is silent can only blame the database for it.
            exposed = self.load.followers[::2]
            connected[:] = [one for one in exposed if one.is_connected][-_LATEST:]
            return bool(connected)

        await eventually(is_connected, within=_CONNECTED_SECONDS, what="a subscriber is connected")
        follower = self.randomness.choice(connected)
        self._begin(kind, follower.log.name).over_at = time()
        follower.cut(reset=kind is Kind.RESET)

    async def _kill_an_api(self) -> None:
        api = self.randomness.choice(self.site.apis)
        await self._returned(api.name)
        cut = self._begin(Kind.API_KILL, api.name)
        await api.kill()
        self._return(cut, self.randomness.choice(_DOWN_SECONDS), api.start)

    async def _break_primary(self, kind: Kind) -> None:
        replica_set = self.site.replica_set
        if self.randomness.random() >= _IMPATIENT:
            for member in replica_set.members:
                await self._returned(member.address)
            await replica_set.until_healthy()
        primary = await replica_set.until_primary()
        await self._returned(primary.address)
        if kind is Kind.KILL:
            await self._next_acknowledgement()
        cut, back = await break_primary(replica_set, primary, kind)
        self.cuts.append(cut)
        seconds = {Kind.STEP_DOWN: (0.0,), Kind.KILL: _DOWN_SECONDS, Kind.FREEZE: _FROZEN_SECONDS}
        await self._returned(cut.who)  # where another one than was meant has stepped down
        self._return(cut, self.randomness.choice(seconds[kind]), back)

    def _begin(self, kind: Kind, who: str) -> Cut:
        cut = Cut(kind, who, time())
        self.cuts.append(cut)
        return cut

    def _return(self, cut: Cut, seconds: float, back: Back) -> None:
        async def return_later() -> None:
            await asyncio.sleep(seconds)
            await back()
            cut.over_at = time()

        self._returns[cut.who] = asyncio.create_task(return_later())

    async def _returned(self, who: str) -> None:
        if who in self._returns:
            await self._returns[who]

    async def _next_acknowledgement(self) -> None:
        """A kill could lose what has just been acknowledged."""
        before = len(self.load.acknowledged)

        async def answered() -> bool:
            return len(self.load.acknowledged) > before

        with suppress(AssertionError):  # no request is in flight just then
            await eventually(answered, within=_ANSWER_SECONDS, what="an answer", every=0.002)
