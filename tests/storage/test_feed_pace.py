"""When the change feed reads changes one by one, and when several together."""

import pytest

from storage.mongo.feed_pace import FAST_CHANGES, FAST_SECONDS, FeedPace


@pytest.mark.parametrize(("per_second", "fast"), [(1, False), (200, False), (1000, True)])
def test_only_changes_in_quick_succession_are_read_together(per_second: int, fast: bool) -> None:
    """At 200 a second a client may be waiting for one of them: it is read at once."""
    time = 0.0
    pace = FeedPace(None, lambda: time)
    assert not pace.is_fast
    for _ in range(3 * FAST_CHANGES):
        pace.count()
        time += 1 / per_second
    assert pace.is_fast is fast
    time += FAST_SECONDS
    assert not pace.is_fast
