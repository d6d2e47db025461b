"""`conversationUpdated`: a conversation as it is, then after each change."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace

from domain.conversations import Conversation
from domain.errors import NotFound
from domain.ids import parse_conversation_id
from domain.ports.conversations import ConversationRepository
from domain.viewers import Viewer
from subscriptions.hub import Hub
from subscriptions.records import follow


@dataclass(frozen=True, slots=True)
class ConversationUpdates:
    hub: Hub
    conversations: ConversationRepository

    async def of(
        self, viewer: Viewer, raw_conversation_id: str
    ) -> AsyncGenerator[Conversation, None]:
        """Yield the conversation. Ends when it is deleted. Raise NotFound unless it is the
        viewer's.
        """
        conversation_id = parse_conversation_id(raw_conversation_id)
        if conversation_id is None:
            raise NotFound

        async def read() -> Conversation | None:
            found = await self.conversations.get_many(viewer.id, [conversation_id])
            return found.get(conversation_id)

        def is_changed(sent: Conversation, found: Conversation) -> bool:
            return replace(found, as_of=sent.as_of) != sent

        updates = follow(self.hub, conversation_id, read=read, is_changed=is_changed)
        async with aclosing(updates):
            async for conversation in updates:
                yield conversation
