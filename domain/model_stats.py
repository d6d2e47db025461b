"""Statistics of a viewer's outputs, counted for each model and each day."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from math import log
from typing import Final

from domain.ids import ModelId

MAX_DAYS: Final = 366
_RATIO: Final = 1.04
"""Durations are counted in steps of 4 %, so that a median is known to 2 %."""
_LEAST_SECONDS: Final = 0.001


def step_of(seconds: float) -> int:
    """The step under which a duration is counted; below zero for less than a second."""
    return round(log(max(seconds, _LEAST_SECONDS)) / log(_RATIO))


def seconds_of(step: int) -> float:
    """The duration in the middle of a step."""
    return float(_RATIO**step)


@dataclass(frozen=True, slots=True)
class Comparison:
    """How one model did against another, in turns in which both have delivered."""

    model_id: ModelId
    """The other one."""
    won: int
    lost: int
    """How often the other one was chosen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStats:
    """The counts of one model: of one event, of a day, or of several days."""

    model_id: ModelId
    asked: int = 0
    """Attempts that were queued."""
    delivered: int = 0
    failed: int = 0
    compared: int = 0
    """Outputs that had images in turns of which an output was chosen."""
    chosen: int = 0
    credits: int = 0
    """Credits charged for what was delivered."""
    steps: Mapping[int, int] = field(default_factory=dict)
    """The number of deliveries by duration, from their start, in steps of `step_of`."""
    beaten: Mapping[ModelId, int] = field(default_factory=dict)
    """How often it was chosen where these others had delivered images too."""
    against: Sequence[Comparison] = ()
    """What follows from the counts of all models, the most frequent first. Only of sums."""

    @property
    def win_rate(self) -> float | None:
        """How often it was chosen where it could be, from 0 to 1; None if it never could."""
        return self.chosen / self.compared if self.compared > 0 else None

    @property
    def failure_rate(self) -> float:
        """The fraction of failures among the outputs that it ended itself; 0 if there are none."""
        ended = self.delivered + self.failed
        return self.failed / ended if ended else 0.0

    @property
    def median_seconds(self) -> float | None:
        """The median duration of deliveries, from their start; None if there are none."""
        steps = sorted(self.steps)
        totals = list(accumulate(self.steps[step] for step in steps))
        if not totals:
            return None
        low, high = (
            seconds_of(steps[bisect_right(totals, index)])
            for index in ((totals[-1] - 1) // 2, totals[-1] // 2)
        )
        return round((low + high) / 2, 3)

    @property
    def credits_per_choice(self) -> float | None:
        """The credits for each chosen output, including the cost of those that were not chosen;
        None if none was.
        """
        return self.credits / self.chosen if self.chosen > 0 else None


def total(stats: Iterable[ModelStats]) -> list[ModelStats]:
    """The sum for each model, the most used ones first."""
    by_model: dict[ModelId, list[ModelStats]] = {}
    for stat in stats:
        by_model.setdefault(stat.model_id, []).append(stat)
    sums = sorted(map(_sum, by_model.values()), key=lambda each: (-each.asked, each.model_id))
    return [replace(each, against=_compare(each, sums)) for each in sums]


def _compare(one: ModelStats, all_of_them: Iterable[ModelStats]) -> list[Comparison]:
    found = [
        Comparison(
            other.model_id,
            # Negative where a choice that no release had counted yet was moved.
            won=max(0, one.beaten.get(other.model_id, 0)),
            lost=max(0, other.beaten.get(one.model_id, 0)),
        )
        for other in all_of_them
    ]
    met = [pair for pair in found if pair.won or pair.lost]
    return sorted(met, key=lambda pair: (-pair.won - pair.lost, pair.model_id))


def _sum(parts: Sequence[ModelStats]) -> ModelStats:
    steps, beaten = Counter[int](), Counter[ModelId]()
    for part in parts:
        steps.update(part.steps)
        beaten.update(part.beaten)
    return ModelStats(
        model_id=parts[0].model_id,
        asked=sum(part.asked for part in parts),
        delivered=sum(part.delivered for part in parts),
        failed=sum(part.failed for part in parts),
        compared=sum(part.compared for part in parts),
        chosen=sum(part.chosen for part in parts),
        credits=sum(part.credits for part in parts),
        steps=steps,
        beaten=beaten,
    )
