"""Requests that come again under an idempotency key."""

from dataclasses import dataclass

from domain.conversations import Conversation
from domain.errors import UserErrorCode
from domain.idempotency import IdempotencyKey, IdempotencyRecord
from domain.ids import conversation_of_turn
from domain.planning import Refusals, refuse
from domain.ports.repositories import ConversationRepository, IdempotencyRepository, TurnRepository
from domain.turns import Turn
from domain.viewers import Viewer


@dataclass(frozen=True, slots=True)
class IdempotencyService:
    receipts: IdempotencyRepository
    conversations: ConversationRepository
    turns: TurnRepository

    async def find(self, viewer: Viewer, key: IdempotencyKey | None) -> IdempotencyRecord | None:
        """What came of the same request before, or None. Raise Refused for other input."""
        receipt = await self.receipts.get(viewer.id, key) if key is not None else None
        if key is not None and receipt is not None and not receipt.is_for(key):
            message = "This key came with another input before. A new request needs a new key."
            refuse(UserErrorCode.IDEMPOTENCY_KEY_REUSED, message, "idempotencyKey")
        return receipt

    async def raise_if_refused(
        self, viewer: Viewer, key: IdempotencyKey | None, refusals: Refusals
    ) -> None:
        """Raise what has been found, unless the key has been used meanwhile.

        Then it may be the twin's own effect that speaks against a second one: there is an answer,
        and looking again finds it.
        """
        if refusals.found and await self.find(viewer, key) is None:
            refusals.raise_if_any()

    async def answer(self, viewer: Viewer, receipt: IdempotencyRecord) -> tuple[Conversation, Turn]:
        """What the key made, as it stands now. Raise Refused where it has been deleted."""
        conversation_id = conversation_of_turn(receipt.turn_id)
        conversations = await self.conversations.get_many(viewer.id, [conversation_id])
        turns = await self.turns.get_many(viewer.id, [receipt.turn_id])
        if not conversations or not turns:
            # It is never made again.
            message = "What this key made has been deleted."
            refuse(UserErrorCode.NOT_FOUND, message, "idempotencyKey")
        return conversations[conversation_id], turns[receipt.turn_id]
