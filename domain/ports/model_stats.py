"""What is counted for each model and day."""

from collections.abc import Sequence
from datetime import date
from typing import Protocol

from domain.ids import ViewerId
from domain.model_stats import ModelStats


class ModelStatsRepository(Protocol):
    async def list_since(self, viewer_id: ViewerId, day: date) -> Sequence[ModelStats]:
        """The counts from this day on, in UTC, one for each model and day."""
