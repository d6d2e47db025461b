"""Which viewers are known, and which are blocked."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from domain.ids import ViewerId
from domain.images import ImageRecord


@dataclass(frozen=True, slots=True)
class Block:
    """That an operator has blocked a viewer."""

    viewer_id: ViewerId
    since: datetime
    reason: str | None


class ViewerRepository(Protocol):
    async def is_known(self, viewer_id: ViewerId) -> bool: ...

    async def welcome(self, viewer_id: ViewerId, samples: Sequence[ImageRecord]) -> bool:
        """Store a new viewer with some images; False if the viewer is known."""

    async def block(self, viewer_id: ViewerId, *, reason: str | None) -> None: ...

    async def unblock(self, viewer_id: ViewerId) -> bool:
        """Unblock a viewer. Return whether the viewer was blocked."""

    async def list_blocked(self) -> Collection[ViewerId]: ...

    async def list_blocks(self) -> Sequence[Block]:
        """All blocks, with their times and reasons, the latest last."""
