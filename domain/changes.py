"""Positions in the database's history, and how far a subscriber has come in it."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True, order=True)
class ClusterTime:
    """A point in the database's own history: its cluster time."""

    seconds: int
    increment: int

    def earlier(self, by: timedelta) -> "ClusterTime":
        return ClusterTime(max(0, self.seconds - int(by.total_seconds())), 0)


@dataclass(frozen=True, slots=True)
class Bookmark:
    """How far a subscriber has come in the updates of a conversation's turns.

    It has received all that changed before `cluster_time`; of turns that changed about then,
    `versions` says which state: pairs of a turn's index and its version.
    """

    cluster_time: ClusterTime
    versions: tuple[tuple[int, int], ...] = ()
