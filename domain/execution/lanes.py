"""Where runs count against one limit, and how many run there: for each viewer too."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from domain.ids import ViewerId
from domain.rules import MIN_RUNS_PER_VIEWER, has_room


@dataclass(frozen=True, slots=True)
class Lane:
    """What shares one limit of concurrent runs: a provider's images, or its captions."""

    provider: str
    is_caption: bool = False

    def __str__(self) -> str:
        return f"{self.provider} captions" if self.is_caption else self.provider


class Lanes:
    """Counts runs as they come and go: a search asks for room for hundreds of outputs."""

    def __init__(self, limits: Mapping[Lane, int]) -> None:
        self.limits = limits
        self._running: Counter[Lane] = Counter()
        self._own: Counter[tuple[Lane, ViewerId]] = Counter()

    @property
    def running(self) -> Mapping[Lane, int]:
        """How many runs each lane has, without the lanes that have none."""
        return self._running

    @property
    def with_room(self) -> set[Lane]:
        return {lane for lane, limit in self.limits.items() if self._running[lane] < limit}

    def has_room_for(self, viewer_id: ViewerId, lane: Lane) -> bool:
        own = self._own[lane, viewer_id]
        limit = self.limits.get(lane, MIN_RUNS_PER_VIEWER)
        return has_room(limit, running=self._running[lane], own=own)

    def enter(self, lane: Lane, viewer_id: ViewerId) -> None:
        self._running[lane] += 1
        self._own[lane, viewer_id] += 1

    def leave(self, lane: Lane, viewer_id: ViewerId) -> None:
        self._running[lane] -= 1
        self._own[lane, viewer_id] -= 1
        if not self._running[lane]:
            del self._running[lane]
        if not self._own[lane, viewer_id]:
            del self._own[lane, viewer_id]
