"""Shares as use cases read and write them."""

from collections.abc import Sequence
from typing import Protocol

from domain.conflicts import Conflict
from domain.ids import ShareId, ViewerId
from domain.shares import Share


class ShareRepository(Protocol):
    async def create(
        self, share: Share, *, at_most: int, at_most_of_conversation: int
    ) -> Conflict | None:
        """Write it. The conflict is STALE, where there is no such conversation, or LIMIT_REACHED.

        Raise ViewerBeingDeleted.
        """

    async def list(self, viewer_id: ViewerId) -> Sequence[Share]:
        """The shares that have not expired, newest first."""

    async def get(self, viewer_id: ViewerId, share_id: ShareId) -> Share | None:
        """The share, or None if there is none or it has expired."""

    async def view(self, viewer_id: ViewerId, share_id: ShareId, *, times: int) -> Share | None:
        """Count views of a share. Return None if it has expired."""

    async def delete(self, viewer_id: ViewerId, share_id: ShareId) -> bool: ...
