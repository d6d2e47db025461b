"""Measures how long changes take to reach subscribers: once for each update, not for each
subscriber.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime

from prometheus_client import Histogram

from domain.ports.changes import Change, ChangeFeed, FeedItem, HistoryLost
from domain.ports.observers import UpdateObserver
from domain.turns import Turn
from metrics.series import Metrics


class ObservedFeed:
    """A change feed whose lag is measured."""

    def __init__(self, feed: ChangeFeed, metrics: Metrics) -> None:
        self._feed = feed
        self._metrics = metrics

    async def follow(self) -> AsyncGenerator[Sequence[FeedItem] | None, None]:
        async with aclosing(self._feed.follow()) as batches:
            async for batch in batches:
                for change in batch or ():
                    if isinstance(change, HistoryLost):
                        self._metrics.feed_losses.inc()
                    elif isinstance(change, Change) and change.written_at is not None:
                        _observe_age(self._metrics.feed_lag, change.written_at)
                yield batch


class UpdateMetrics(UpdateObserver):
    def __init__(self, metrics: Metrics) -> None:
        self._commit_to_frame = metrics.commit_to_frame

    def pushed(self, turn: Turn) -> None:
        _observe_age(self._commit_to_frame, turn.updated_at)


def _observe_age(histogram: Histogram, written_at: datetime) -> None:
    if written_at.tzinfo is None:  # in the form in which the feed decodes it
        written_at = written_at.replace(tzinfo=UTC)
    histogram.observe(max(0.0, (datetime.now(UTC) - written_at).total_seconds()))
