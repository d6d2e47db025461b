"""Forks of conversations, and the deletion of single turns."""

from collections.abc import Sequence
from typing import Protocol

from domain.conflicts import Conflict
from domain.conversations import Conversation
from domain.idempotency import IdempotencyKey
from domain.ids import ConversationId, TurnId, ViewerId
from domain.turns import KeptTurn


class BranchRepository(Protocol):
    async def fork(
        self,
        viewer_id: ViewerId,
        turn_id: TurnId,
        new_id: ConversationId,
        *,
        title: str | None,
        max_turns: int,
        key: IdempotencyKey | None = None,
    ) -> Conversation | Conflict:
        """Write a conversation that begins with copies of another one's turns up to this one, and
        has the same images. What has not ended is cancelled in the copies. None for the title: that
        of the other one.

        The conflict is STALE, if the turn is gone, IMAGE_GONE, KEY_USED, or LIMIT_REACHED: there
        are more turns than `max_turns`.
        """

    async def delete_turn(
        self, viewer_id: ViewerId, turn_id: TurnId
    ) -> Sequence[str] | KeptTurn | None:
        """Delete a turn that nothing builds on, with its outputs' images except favourites and
        those that a copy of the turn has too. Release what unfinished outputs had reserved.

        Return the keys of objects that are orphans from then on, or what builds on it, in which
        case nothing was written. None if there is no such turn.
        """
