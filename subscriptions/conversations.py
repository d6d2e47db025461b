"""`conversationUpdated`: a conversation as it is, then after each change."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace

from domain.conversations import Conversation
from domain.errors import NotFound, Overloaded
from domain.ids import parse_conversation_id
from domain.ports.repositories import ConversationRepository
from domain.viewers import Viewer
from subscriptions.hub import Hub, pause_before_reading


@dataclass(frozen=True, slots=True)
class ConversationUpdates:
    hub: Hub
    conversations: ConversationRepository

    async def of(
        self, viewer: Viewer, raw_conversation_id: str
    ) -> AsyncGenerator[Conversation, None]:
        """Ends when the conversation is deleted. Raise NotFound for what is not the viewer's."""
        conversation_id = parse_conversation_id(raw_conversation_id)
        if conversation_id is None:
            raise NotFound
        sent: Conversation | None = None
        with self.hub.listen(conversation_id) as listener:
            while not listener.ended:
                await listener.wait()
                try:
                    found = await self.conversations.get_many(viewer.id, [conversation_id])
                except Overloaded:
                    listener.notify()
                    await pause_before_reading()
                    continue
                if conversation_id not in found:
                    if sent is None:
                        raise NotFound
                    return
                conversation = found[conversation_id]
                if sent is None or replace(conversation, as_of=sent.as_of) != sent:
                    sent = conversation
                    yield sent
