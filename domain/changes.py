"""What the database reports of its changes: hints of what to read again, never the state."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum


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


class ChangedKind(StrEnum):
    CONVERSATION = "conversation"
    TURN = "turn"
    ACCOUNT = "account"


@dataclass(frozen=True, slots=True)
class Change:
    """A document was written or deleted. Its id alone says whom it concerns: a turn's holds its
    conversation's, an account's is its viewer's.
    """

    kind: ChangedKind
    id: str
    deleted: bool
    cluster_time: ClusterTime


@dataclass(frozen=True, slots=True)
class HistoryLost:
    """Changes may have been missed: what has subscribers has to be read again."""
