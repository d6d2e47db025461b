"""How a process learns what others have written."""

from collections.abc import AsyncIterator
from typing import Protocol

from domain.changes import Change, HistoryLost


class ChangeFeed(Protocol):
    def follow(self) -> AsyncIterator[Change | HistoryLost | None]:
        """Every change from now on, in the database's order, across whatever breaks in between.

        The first item is None and says that the feed is open: what is read after it is not older
        than the changes that follow.
        """
