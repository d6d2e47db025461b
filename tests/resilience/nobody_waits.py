"""For services that have no waiting turns."""

from domain.ids import TurnId
from domain.turns import Turn
from domain.viewers import Viewer


class NobodyWaits:
    """See `domain.services.turns.WaitingTurns`."""

    def search_now(self) -> None:
        raise AssertionError("No turn is asked to wait.")

    async def cancel(self, viewer: Viewer, turn_id: TurnId) -> Turn | None:
        raise AssertionError(f"{turn_id} does not wait for {viewer}.")
