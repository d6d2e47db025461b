"""How a process learns what other processes have written, and passes it on."""

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, Protocol, TypeAlias, TypeVar

from domain.changes import ClusterTime
from domain.turns import Turn

READ_AT_ONCE: Final = 100
"""How many changes are read, and given out, before the event loop runs others: a feed that has
fallen behind has many.
"""


class ChangedKind(StrEnum):
    CONVERSATION = "conversation"
    TURN = "turn"
    POST = "post"
    ACCOUNT = "account"
    SHARE = "share"


@dataclass(frozen=True, slots=True)
class Change:
    """A document was written or deleted.

    Its id tells whom the change concerns: a turn's id contains its conversation's, an account's id
    is its viewer's.
    """

    kind: ChangedKind
    id: str
    deleted: bool
    cluster_time: ClusterTime
    read_turn: Callable[[], Turn] | None = None
    """Read the turn after this change or a later one. Most processes do not need it. None where it
    has been deleted.
    """
    written_at: datetime | None = None
    """When the turn was written, in UTC without a zone."""


@dataclass(frozen=True, slots=True)
class HistoryLost:
    """Changes may have been missed: everything that has subscribers has to be read again."""


@dataclass(frozen=True, slots=True)
class Reached:
    """Every change until this time has been brought, or concerns nobody here."""

    cluster_time: ClusterTime


FeedItem: TypeAlias = Change | HistoryLost | Reached


class ChangeFeed(Protocol):
    def follow(self) -> AsyncGenerator[Sequence[FeedItem] | None, None]:
        """Every change from now on, in the database's order, across interruptions: those that have
        come, whenever some have, at most `READ_AT_ONCE` together.

        At first None, which says that the feed is open: what is read afterwards is at least as new
        as the changes that follow. Closing it closes what it has open.
        """


Item_contra = TypeVar("Item_contra", contravariant=True)


class Receiver(Protocol[Item_contra]):
    """Receives items in their order."""

    def take(self, item: Item_contra) -> bool:
        """Take an item at once. Return False, and do not take it, where there is no room."""

    async def ready(self) -> None:
        """Return once there is room."""
