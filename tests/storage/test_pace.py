"""When the change feed reads events one by one, and when several together."""

import pytest

from storage.mongo.change_feed import FAST_EVENTS, FAST_SECONDS, Pace


@pytest.mark.parametrize(("per_second", "fast"), [(1, False), (50, False), (100, True)])
def test_only_events_that_come_fast_are_read_together(per_second: int, fast: bool) -> None:
    """At 50 each second somebody may look at one of them: it is told at once."""
    time = 0.0
    pace = Pace(lambda: time)
    assert not pace.is_fast
    for _ in range(3 * FAST_EVENTS):
        pace.count()
        time += 1 / per_second
    assert pace.is_fast is fast
    time += FAST_SECONDS
    assert not pace.is_fast
