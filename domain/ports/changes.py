"""How a process learns what others have written, and passes it on."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeVar

from domain.changes import ClusterTime
from domain.turns import Turn


class ChangedKind(StrEnum):
    CONVERSATION = "conversation"
    TURN = "turn"
    POST = "post"
    ACCOUNT = "account"
    SHARE = "share"


@dataclass(frozen=True, slots=True)
class Change:
    """A document was written or deleted. Its id alone says whom it concerns: a turn's holds its
    conversation's, an account's is its viewer's.
    """

    kind: ChangedKind
    id: str
    deleted: bool
    cluster_time: ClusterTime
    turn: Turn | None = None
    """The turn after this change or a later one. None where it is deleted meanwhile."""


@dataclass(frozen=True, slots=True)
class HistoryLost:
    """Changes may have been missed: what has subscribers has to be read again."""


class ChangeFeed(Protocol):
    def follow(self) -> AsyncIterator[Change | HistoryLost | None]:
        """Every change from now on, in the database's order, across whatever breaks in between.

        The first item is None and says that the feed is open: what is read after it is not older
        than the changes that follow.
        """


Item_contra = TypeVar("Item_contra", contravariant=True)


class Receiver(Protocol[Item_contra]):
    """Takes what is delivered, in order."""

    def take(self, item: Item_contra) -> bool:
        """Take it at once. Return False, and do not take it, where there is no room at present."""

    async def ready(self) -> None:
        """Return once there is room."""
