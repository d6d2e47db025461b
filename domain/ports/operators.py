"""What operators, and what scales for them, ask about the outputs of all viewers."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from domain.ids import ModelId
from domain.outputs import OutputStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """The unfinished outputs of one model that have one status."""

    model_id: ModelId
    status: OutputStatus
    count: int
    oldest: timedelta
    """For how long the first of them has been asked for."""
    stuck: int
    """How many should have ended long ago, by their deadline or as queued too long."""
    credits_reserved: int


class BacklogRepository(Protocol):
    async def list_backlogs(self) -> Sequence[Backlog]:
        """Of all viewers. Raise `Overloaded` where the database cannot be reached."""
