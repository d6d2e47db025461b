"""Positions in the database's history: when something was written, and what a subscriber has
received.
"""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True, order=True)
class ClusterTime:
    """A cluster time: a point in the database's own history."""

    seconds: int
    increment: int

    def earlier(self, by: timedelta) -> "ClusterTime":
        return ClusterTime(max(0, self.seconds - int(by.total_seconds())), 0)


@dataclass(frozen=True, slots=True)
class Bookmark:
    """What a subscriber has received of a conversation's turns.

    It has all that changed before `cluster_time`. For turns that changed at about that time,
    `versions` has pairs of a turn's index and the version that was received.
    """

    cluster_time: ClusterTime
    versions: tuple[tuple[int, int], ...] = ()
