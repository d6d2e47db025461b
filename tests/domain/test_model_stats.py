"""Statistics of models: sums, rates, and a median calculated from counted steps."""

from collections import Counter
from random import Random
from statistics import median

import pytest

from domain.ids import ModelId
from domain.model_stats import ModelStats, step_of, total

INK, SILVER = ModelId("ink"), ModelId("silver")


def timed(*seconds: float) -> ModelStats:
    steps = Counter(map(step_of, seconds))
    return ModelStats(model_id=INK, delivered=len(seconds), steps=steps)


@pytest.mark.parametrize("count", [1, 2, 3, 10, 999, 1_000])
def test_a_median_is_accurate_to_two_percent(count: int) -> None:
    random = Random(count)
    seconds = [random.lognormvariate(1, 2) + 0.01 for _ in range(count)]

    assert timed(*seconds).median_seconds == pytest.approx(median(seconds), rel=0.0201, abs=0.0006)


def test_a_duration_can_be_zero() -> None:
    assert timed(0, 0, 0).median_seconds == pytest.approx(0.001, abs=0.0006)
    assert timed(-1).median_seconds == pytest.approx(0.001, abs=0.0006)


def test_without_events_there_are_no_rates() -> None:
    stats = ModelStats(model_id=INK, asked=3)

    assert (stats.win_rate, stats.median_seconds, stats.credits_per_choice) == (None, None, None)
    assert stats.failure_rate == 0


def test_days_are_summed_for_each_model_and_rates_are_calculated_from_the_sums() -> None:
    days = [
        ModelStats(model_id=SILVER, asked=1),
        ModelStats(model_id=INK, asked=4, delivered=3, failed=1, compared=3, chosen=2, credits=12),
        # A choice of an earlier day was moved away from it.
        ModelStats(model_id=INK, asked=1, delivered=1, compared=1, chosen=-1, credits=4),
    ]

    ink, silver = total(days)

    assert (ink.model_id, silver.model_id) == (INK, SILVER)
    assert (ink.asked, ink.delivered, ink.failed, ink.chosen) == (5, 4, 1, 1)
    assert (ink.win_rate, ink.failure_rate, ink.credits_per_choice) == (0.25, 0.2, 16)
    assert total([]) == []
