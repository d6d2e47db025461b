"""Turns that wait for the one before them."""

from collections.abc import Sequence
from typing import Protocol

from domain.conflicts import Conflict
from domain.ids import TurnId, ViewerId
from domain.outputs import GenerationError
from domain.turns import Turn, TurnPlan


class WaitingTurnRepository(Protocol):
    async def list(self, *, after: TurnId | None, limit: int) -> Sequence[Turn]:
        """Turns of all viewers that wait, by their ids, after this one."""

    async def begin(
        self, viewer_id: ViewerId, turn_id: TurnId, *, plan: TurnPlan, max_active_outputs: int
    ) -> Turn | Conflict:
        """Queue the planned outputs of a turn that waits, and reserve their credits.

        The conflict is STALE if it does not wait any more, IMAGE_GONE or LIMIT_REACHED.
        """

    async def end(
        self, viewer_id: ViewerId, turn_id: TurnId, failure: GenerationError | None
    ) -> Turn | None:
        """End a turn that waits as failed, or as cancelled without a failure; None if it does not
        wait any more.
        """
