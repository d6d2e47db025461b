"""Rates: how much may be used at once and over time, and what is left of it."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Rate:
    """A bucket that holds `burst` at most, and is filled again by so much per second."""

    burst: int
    per_second: float

    @property
    def lease(self) -> int:
        """What a process takes at a time, to give out without asking the database again: what comes
        back within a second, and at most a fifth of the bucket.
        """
        return max(1, min(int(self.per_second), self.burst // 5))


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What one client may use."""

    requests: Rate
    cost: Rate


@dataclass(frozen=True, slots=True)
class Amount:
    """Of requests, and of their cost."""

    requests: float
    cost: float


@dataclass(frozen=True, slots=True)
class Taken:
    """What a bucket has given, and what is left in it."""

    given: Amount | None
    """None where there was too little: then nothing has been taken."""
    left: Amount


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimitState:
    """A viewer's cost bucket, as a process knows it."""

    limit: int
    remaining: int
    cost: int
    """Of the operation that asks."""
    reset_at: datetime
    """When the bucket is full again, if nothing else is taken from it."""
