"""What the database tells of its changes: a hint of what to read anew, never the state itself."""

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True, order=True)
class Moment:
    """A point in the database's own history: its cluster time."""

    seconds: int
    increment: int

    def earlier(self, seconds: int) -> "Moment":
        return Moment(max(0, self.seconds - seconds), 0)


class ChangedKind(StrEnum):
    CONVERSATION = "conversation"
    TURN = "turn"


@dataclass(frozen=True, slots=True)
class Change:
    """A document was written or deleted. Its id alone says which conversation it belongs to."""

    kind: ChangedKind
    id: str
    deleted: bool
    moment: Moment


@dataclass(frozen=True, slots=True)
class HistoryLost:
    """Changes may have been missed: whatever is listened to has to be read anew."""
