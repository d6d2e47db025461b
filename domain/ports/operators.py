"""What operators, and autoscalers, need to know about the outputs of all viewers."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from domain.ids import ModelId, OutputId, ViewerId
from domain.outputs import OutputStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """The unfinished outputs of one model that have one status."""

    model_id: ModelId
    status: OutputStatus
    count: int
    oldest: timedelta
    """How long ago the oldest of them was requested."""
    stuck: int
    """How many are overdue by much, by their deadline or because they were queued too long."""
    credits_reserved: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StuckOutput:
    """An output that is overdue by much."""

    output_id: OutputId
    viewer_id: ViewerId
    model_id: ModelId
    status: OutputStatus
    queued_at: datetime
    lease_until: datetime | None
    """Until when a worker holds it. None: no worker does."""


class BacklogRepository(Protocol):
    """Reads outputs of all viewers. Raises `Overloaded` where the database cannot be reached."""

    async def list_backlogs(self) -> Sequence[Backlog]: ...

    async def list_stuck(self, *, limit: int) -> Sequence[StuckOutput]:
        """Outputs that are overdue by much, the longest queued first."""

    async def list_deletions(self, *, limit: int) -> Sequence[ViewerId]:
        """Viewers whose deletion has begun, and is not finished."""
