"""Rate limits: how many operations one client may run, and what they may cost.

The buckets are in the database, for all processes. A process takes more than it needs at a time,
and gives that out during the next two seconds: most operations ask the database nothing. What must
stay true: all processes together never grant more than a bucket had; and no operation is
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
from domain.ports.rate_limits import RateLimitRepository
from domain.rate_limits import Allowance, Amount, Rate, RateLimitState
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
class _ClientBucket:
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

    buckets: RateLimitRepository
    viewer: Allowance
    address: Allowance
    now: Callable[[], float] = monotonic
    utc_now: Callable[[], datetime] = _utc_now
    _clients: "OrderedDict[str, _ClientBucket]" = field(default_factory=OrderedDict)
    _locks: SemaphoresByKey = field(default_factory=lambda: SemaphoresByKey(1))
    _database_skipped_until: float = 0.0

    def check(self, client: str) -> None:
        """Raise RateLimited where the client is known to have nothing left, without a read."""
        bucket = self._clients.get(client)
        if bucket is not None and self.now() < bucket.refused_until:
            raise _refusal(bucket.refused_until - self.now())

    async def take(self, client: str, *, is_viewer: bool, cost: int) -> None:
        """Take an operation of this cost from the client's bucket, or raise RateLimited."""
        allowance = self.viewer if is_viewer else self.address
        # A bucket that is smaller than an operation's cost would never let it pass.
        cost = min(cost, allowance.cost.burst)
        bucket = self._find_bucket(client)
        if bucket.use(cost, self.now()):
            return
        async with self._locks.get(client):
            # Another operation may have asked meanwhile.
            self.check(client)
            if not bucket.use(cost, self.now()):
                await self._take_from_database(client, bucket, cost=cost, allowance=allowance)

    def state(self, client: str, *, is_viewer: bool = True, cost: int) -> RateLimitState:
        """A client's cost bucket, as far as this process knows: others may have taken from it."""
        rate, now = (self.viewer if is_viewer else self.address).cost, self.now()
        bucket = self._clients.get(client)
        remaining = float(rate.burst)
        if bucket is not None and bucket.left is not None:
            own = bucket.cost if now < bucket.expires_at else 0
            back = (now - bucket.asked_at) * rate.per_second
            remaining = min(bucket.left.cost + own + back, rate.burst)
        reset_in = timedelta(seconds=(rate.burst - remaining) / rate.per_second)
        return RateLimitState(
            limit=rate.burst,
            remaining=int(remaining),
            cost=cost,
            reset_at=self.utc_now() + reset_in,
        )

    async def _take_from_database(
        self, client: str, bucket: _ClientBucket, *, cost: int, allowance: Allowance
    ) -> None:
        if self.now() < self._database_skipped_until:
            return
        if self.now() >= bucket.expires_at:
            bucket.requests = bucket.cost = 0
        lease = Amount(allowance.requests.lease, max(cost, allowance.cost.lease))
        minimum = Amount(max(1 - bucket.requests, 0), max(cost - bucket.cost, 0))
        maximum = Amount(max(lease.requests - bucket.requests, 0), max(lease.cost - bucket.cost, 0))
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await self.buckets.take(
                    client, minimum=minimum, maximum=maximum, allowance=allowance
                )
        except (Overloaded, TimeoutError):
            self._database_skipped_until = self.now() + SILENCE_SECONDS
            return
        now = self.now()
        bucket.left, bucket.asked_at = answer.left, now
        if answer.given is None:
            requests = _seconds_until(minimum.requests, answer.left.requests, allowance.requests)
            bucket.refused_until = now + requests
            cost_seconds = _seconds_until(minimum.cost, answer.left.cost, allowance.cost)
            raise _refusal(max(requests, cost_seconds))
        bucket.requests += answer.given.requests - 1
        bucket.cost += answer.given.cost - cost
        bucket.expires_at = now + LEASE_SECONDS

    def _find_bucket(self, client: str) -> _ClientBucket:
        bucket = self._clients.get(client)
        if bucket is None:
            if len(self._clients) >= REMEMBERED_CLIENTS:
                self._clients.popitem(last=False)
            bucket = self._clients[client] = _ClientBucket()
        else:
            self._clients.move_to_end(client)
        return bucket


def _seconds_until(minimum: float, left: float, rate: Rate) -> float:
    return max(minimum - left, 0.0) / rate.per_second


def _refusal(seconds: float) -> RateLimited:
    return RateLimited(retry_after_seconds=max(1, ceil(seconds)))
