"""Plans: what a turn would be, made by the same code that plans the turns that are written."""

from collections.abc import Sequence
from dataclasses import dataclass

from domain.conversations import StartConversation
from domain.errors import UserError
from domain.services.conversations import ConversationService
from domain.services.turns import TurnService
from domain.turns import PlanTurn, SendEdit, TurnPlan
from domain.viewers import Viewer


@dataclass(frozen=True, slots=True)
class PlanService:
    conversations: ConversationService
    turns: TurnService

    async def plan(self, viewer: Viewer, command: PlanTurn) -> tuple[TurnPlan, Sequence[UserError]]:
        """The plan, incomplete if something is wrong, and the user errors. Nothing is written."""
        if command.conversation_id is None:
            start = StartConversation(command.turn, source_image_id=command.source_image_id)
            return await self.conversations.plan(viewer, start)
        edit = SendEdit(command.conversation_id, command.turn, command.previous_output_ids)
        return await self.turns.plan(viewer, edit)
