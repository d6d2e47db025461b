"""The outputs that viewers choose."""

from typing import Protocol

from domain.ids import TurnId, ViewerId


class ChoiceRepository(Protocol):
    async def choose(
        self, viewer_id: ViewerId, turn_id: TurnId, slot: int, *, chosen: bool
    ) -> None:
        """Mark an output that has an image, and no other one of its turn; or take its mark back.

        Nothing is written where that is so already, where there is no such output, or where it has
        no image.
        """
