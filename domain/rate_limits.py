"""Rates: how much may be used at once and over time, and what is left of it."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Rate:
    """A bucket that holds at most `burst`, and is refilled by this much per second."""

    burst: int
    per_second: float

    @property
    def lease(self) -> int:
        """How much a process takes at a time, to give it out without asking the database: what is
        refilled within a second, and at most a fifth of the bucket.
        """
        return max(1, min(int(self.per_second), self.burst // 5))


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """The limits of one client."""

    requests: Rate
    cost: Rate


@dataclass(frozen=True, slots=True)
class Amount:
    """An amount of requests, and of their cost."""

    requests: float
    cost: float


@dataclass(frozen=True, slots=True)
class Taken:
    """What was taken from a bucket, and what is left in it."""

    given: Amount | None
    """None where there was too little, and nothing was taken."""
    left: Amount


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimitState:
    """A viewer's cost bucket, as far as a process knows it."""

    limit: int
    remaining: int
    cost: int
    """The cost of the operation that asks."""
    reset_at: datetime
    """When the bucket will be full again, if nothing else is taken from it."""
