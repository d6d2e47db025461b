"""Rate limits: how many operations one client may run, and what they may cost.

The buckets are in the database, for all processes. A process takes more than it needs at a time,
and gives that out during the next two seconds: most operations ask the database nothing. What must
stay true: all processes together never give out more than a bucket had; and no operation is
refused, or waits for long, because the database does not answer.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import ceil
from time import monotonic
from typing import Final

from domain.errors import Overloaded, RateLimited
from domain.ports.limits import BucketRepository
from domain.rates import Allowance, Amount, Rate, RateLimitState
from domain.waiting import SemaphoresByKey

log = logging.getLogger(__name__)

LEASE_SECONDS: Final = 2.0
"""How long what a process has taken may be given out. The rest is forgotten: the bucket has got it
back meanwhile.
"""
ANSWER_SECONDS: Final = 1.0
"""How long an operation waits for the database here."""
SILENCE_SECONDS: Final = 1.0
"""How long the database is not asked after it has not answered: everything is allowed."""
REMEMBERED_CLIENTS: Final = 20_000


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class _Held:
    """What this process knows of a client's bucket, and has taken from it."""

    requests: float = 0
    cost: float = 0
    expires_at: float = 0.0
    refused_until: float = 0.0
    left: Amount | None = None
    """What was left in the bucket when it was last asked. None: not asked yet."""
    asked_at: float = 0.0

    def use(self, cost: int, now: float) -> bool:
        if now >= self.expires_at or self.requests < 1 or self.cost < cost:
            return False
        self.requests -= 1
        self.cost -= cost
        return True


@dataclass(slots=True)
class RateLimits:
    """A client is a viewer's id, or something else that stands for an address."""

    buckets: BucketRepository
    viewer: Allowance
    address: Allowance
    now: Callable[[], float] = monotonic
    utc_now: Callable[[], datetime] = _utc_now
    _held: "OrderedDict[str, _Held]" = field(default_factory=OrderedDict)
    _asking: SemaphoresByKey = field(default_factory=lambda: SemaphoresByKey(1))
    _silent_until: float = 0.0

    def check(self, client: str) -> None:
        """Raise RateLimited where the client is known to have nothing left. It asks nobody."""
        held = self._held.get(client)
        if held is not None and self.now() < held.refused_until:
            raise _refusal(held.refused_until - self.now())

    async def take(self, client: str, *, is_viewer: bool, cost: int) -> None:
        """Take an operation of this cost from the client's bucket, or raise RateLimited."""
        allowance = self.viewer if is_viewer else self.address
        # A bucket that is smaller than an operation's cost would never let it pass.
        cost = min(cost, allowance.cost.burst)
        held = self._find(client)
        if held.use(cost, self.now()):
            return
        asking = self._asking.get(client)
        async with asking:
            # Another operation may have asked meanwhile.
            self.check(client)
            if not held.use(cost, self.now()):
                await self._ask(client, held, cost=cost, allowance=allowance)

    def state(self, client: str, *, is_viewer: bool = True, cost: int) -> RateLimitState:
        """A client's cost bucket, as far as this process knows: others may have taken from it."""
        rate, now = (self.viewer if is_viewer else self.address).cost, self.now()
        held = self._held.get(client)
        remaining = float(rate.burst)
        if held is not None and held.left is not None:
            own = held.cost if now < held.expires_at else 0
            back = (now - held.asked_at) * rate.per_second
            remaining = min(held.left.cost + own + back, rate.burst)
        reset_in = timedelta(seconds=(rate.burst - remaining) / rate.per_second)
        return RateLimitState(
            limit=rate.burst,
            remaining=int(remaining),
            cost=cost,
            reset_at=self.utc_now() + reset_in,
        )

    async def _ask(self, client: str, held: _Held, *, cost: int, allowance: Allowance) -> None:
        if self.now() < self._silent_until:
            return
        if self.now() >= held.expires_at:
            held.requests = held.cost = 0
        lease = Amount(allowance.requests.lease, max(cost, allowance.cost.lease))
        need = Amount(max(1 - held.requests, 0), max(cost - held.cost, 0))
        want = Amount(max(lease.requests - held.requests, 0), max(lease.cost - held.cost, 0))
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                taken = await self.buckets.take(client, need=need, want=want, allowance=allowance)
        except (Overloaded, TimeoutError):
            self._silent_until = self.now() + SILENCE_SECONDS
            return
        now = self.now()
        held.left, held.asked_at = taken.left, now
        if taken.given is None:
            requests = _seconds_until(need.requests, taken.left.requests, allowance.requests)
            held.refused_until = now + requests
            cost_seconds = _seconds_until(need.cost, taken.left.cost, allowance.cost)
            raise _refusal(max(requests, cost_seconds))
        held.requests += taken.given.requests - 1
        held.cost += taken.given.cost - cost
        held.expires_at = now + LEASE_SECONDS

    def _find(self, client: str) -> _Held:
        held = self._held.get(client)
        if held is None:
            if len(self._held) >= REMEMBERED_CLIENTS:
                self._held.popitem(last=False)
            held = self._held[client] = _Held()
        else:
            self._held.move_to_end(client)
        return held


def _seconds_until(need: float, left: float, rate: Rate) -> float:
    return max(need - left, 0.0) / rate.per_second


def _refusal(seconds: float) -> RateLimited:
    return RateLimited(retry_after_seconds=max(1, ceil(seconds)))
