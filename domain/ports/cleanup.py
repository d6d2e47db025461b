"""What the clean-up needs to know of the database."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ReferencedKeys:
    """Keys that something in the database refers to."""

    kept: frozenset[str]
    """Their bytes came before what refers to them: they are there."""
    awaited: frozenset[str]
    """Of uploads, whose bytes may be there, come, or never come."""


class ReferencedObjectRepository(Protocol):
    async def of_shard(self, shard: str) -> ReferencedKeys:
        """All of one shard. What is written or deleted meanwhile may be included or not."""

    async def owner(self) -> str:
        """What tells this database from every other one, a copy of it included."""


@dataclass(frozen=True, slots=True)
class PeriodicJob:
    """Something that one process is to do now, and no other."""

    times: int
    """How often it has been begun before."""
    now: datetime
    """By the database's clock."""


class PeriodicJobRepository(Protocol):
    async def begin(self, name: str, *, every: timedelta) -> PeriodicJob | None:
        """Begin a job that is due. No process can begin it again before the interval has passed.

        None: it is not due, or another process came first.
        """
