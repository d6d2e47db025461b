"""Conversations, and how to start, rename and delete one."""

from datetime import datetime
from typing import Annotated, ClassVar, TypeAlias

import strawberry

import domain.conversations
import domain.images
import domain.turns
from domain.changes import Bookmark
from domain.models import AspectRatio, Resolution
from domain.pages import Page
from schema.companions import companion
from schema.connections import Connection, Cursor, First, Last, ListPage, page_request
from schema.context import Info, wanted
from schema.errors import Payload
from schema.hints import hints
from schema.images import Image, ImageConnection
from schema.node import Node
from schema.scalars import given
from schema.turn_inputs import IDEMPOTENCY_KEY, EditInput, PaidInput
from schema.turns import StartedTurnPayload, Turn

TurnConnection: TypeAlias = Connection[Turn]


async def page_of_turns(
    conversation: domain.conversations.Conversation,
    info: Info,
    *,
    first: int | None,
    after: str | None,
    last: int | None = None,
    before: str | None = None,
) -> ListPage[domain.turns.Turn]:
    """Load a page of turns, oldest first. Only what the field's selection needs is read."""
    name = f"turns {conversation.id}"
    request = page_request(info, name, first=first, after=after, last=last, before=before)
    load = info.context.reading(conversation)
    page = await info.context.services.turns.page(
        load.viewer, conversation.id, request, wanted=wanted(info)
    )
    return ListPage(load.show_page(page), name, info.context.services.page_cursors)


@strawberry.type(
    description="A sequence of turns that starts from a source image or from text alone."
)
class Conversation(Node):
    source = domain.conversations.Conversation

    title: str = strawberry.field(
        description="The title: the beginning of the first message, until `renameConversation` "
        "changes it."
    )
    source_image: Image | None = strawberry.field(
        description="The image that the conversation started from. Null if it started from text "
        "alone."
    )
    aspect_ratio: AspectRatio = strawberry.field(
        description="The aspect ratio of the next turn, unless `sendEdit` gives another."
    )
    resolution: Resolution = strawberry.field(
        description="The resolution of the next turn, unless `sendEdit` gives another."
    )
    turn_count: int = strawberry.field(description="The number of turns, without deleted ones.")
    created_at: datetime = strawberry.field(description="When the conversation was started.")
    updated_at: datetime = strawberry.field(
        description="When the conversation was last renamed, or its last turn was added."
    )

    @strawberry.field(
        graphql_type=TurnConnection,
        description="The turns, oldest first.",
        metadata=hints("id", projects=True),
    )
    @staticmethod
    async def turns(
        conversation: strawberry.Parent[domain.conversations.Conversation],
        info: Info,
        first: First = strawberry.UNSET,
        after: Cursor = strawberry.UNSET,
        *,
        last: Last = strawberry.UNSET,
        before: Cursor = strawberry.UNSET,
    ) -> ListPage[domain.turns.Turn]:
        return await page_of_turns(
            conversation, info, first=first, after=after, last=last, before=before
        )

    @strawberry.field(
        graphql_type=Turn | None, description="The newest turn. Null if all were deleted."
    )
    @staticmethod
    async def latest_turn(
        conversation: strawberry.Parent[domain.conversations.Conversation], info: Info
    ) -> domain.turns.Turn | None:
        # Where a turn came with the conversation, one answer never shows two states of it.
        known = companion(conversation, domain.turns.Turn)
        if known is not None and known.turn_index == conversation.next_turn_index - 1:
            return known
        return await info.context.reading(conversation).latest_turn.load(conversation.id)

    @strawberry.field(
        description="The position of this read in the stream of updates: pass it as `after` to "
        "`turnUpdated`. It is not a cursor of a list."
    )
    @staticmethod
    def cursor(
        conversation: strawberry.Parent[domain.conversations.Conversation], info: Info
    ) -> str:
        return info.context.services.turn_cursors.make(
            conversation.id, Bookmark(conversation.as_of)
        )

    @strawberry.field(
        graphql_type=ImageConnection,
        description="The images of the conversation, for a thumbnail strip: the source image, "
        "then the images of every output, oldest first.",
    )
    @staticmethod
    async def images(
        conversation: strawberry.Parent[domain.conversations.Conversation],
        info: Info,
        first: First = strawberry.UNSET,
        after: Cursor = strawberry.UNSET,
    ) -> ListPage[domain.images.Image]:
        name = f"images {conversation.id}"
        request = page_request(info, name, first=first, after=after)
        load = info.context.reading(conversation)
        page: Page[domain.images.Image] = Page(())
        if load.scope is None:  # Readers of a share find the images in the turns.
            page = await info.context.services.turns.find_image_strip(
                load.viewer, conversation, request
            )
        return ListPage(page, name, info.context.services.page_cursors)


ConversationConnection: TypeAlias = Connection[Conversation]


@strawberry.input(
    description="The input of `startConversation`: a conversation and its first turn."
)
class StartConversationInput(EditInput, PaidInput):
    source_image_id: strawberry.ID | None = strawberry.field(
        default=strawberry.UNSET,
        description="The image to start from: any image of the viewer. If omitted, the first "
        "turn makes images from text alone. To make a variation of an image, start "
        "from it with its prompt and a new seed.",
    )

    def to_command(self) -> domain.conversations.StartConversation:
        return domain.conversations.StartConversation(
            turn=self.to_request(),
            source_image_id=given(self.source_image_id),
            max_credits=given(self.max_credits),
            idempotency_key=given(self.idempotency_key),
        )


@strawberry.type
class ConversationPayload(Payload):
    conversation: Annotated[
        domain.conversations.Conversation | None,
        strawberry.field(
            graphql_type=Conversation | None,
            description="The conversation. Null if the mutation was refused.",
        ),
    ] = None


@strawberry.type(description="The new conversation. Its first turn is running.")
class StartConversationPayload(ConversationPayload, StartedTurnPayload):
    pass


@strawberry.input(description="The input of `renameConversation`.")
class RenameConversationInput:
    conversation_id: strawberry.ID = strawberry.field(description="The id of the conversation.")
    title: str = strawberry.field(description="The new title: one line of 1 to 120 characters.")


@strawberry.type(description="The conversation with its new title.")
class RenameConversationPayload(ConversationPayload):
    pass


@strawberry.input(description="The input of `forkConversation`.")
class ForkConversationInput:
    turn_id: strawberry.ID = strawberry.field(
        description="The last turn that the new conversation has: it begins with this one and all "
        "before it, at most 1,000."
    )
    title: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="The title of the new conversation: one line of 1 to 120 characters. If "
        "omitted: that of the other one.",
    )
    idempotency_key: str | None = strawberry.field(
        default=strawberry.UNSET, description=IDEMPOTENCY_KEY
    )

    def to_command(self) -> domain.conversations.ForkConversation:
        return domain.conversations.ForkConversation(
            self.turn_id,
            title=given(self.title),
            idempotency_key=given(self.idempotency_key),
        )


@strawberry.type(description="The new conversation.")
class ForkConversationPayload(ConversationPayload):
    pass


@strawberry.type(description="A conversation that was deleted, and can be restored for a while.")
class DeletedConversation:
    source: ClassVar[type] = domain.conversations.DeletedConversation

    id: strawberry.ID = strawberry.field(description="The id, for `restoreConversation`.")
    title: str = strawberry.field(description="The title that it had.")
    turn_count: int = strawberry.field(description="How many turns it had.")
    restorable_until: datetime = strawberry.field(description="When it can no longer be restored.")


@strawberry.input(description="The input of `restoreConversation`.")
class RestoreConversationInput:
    conversation_id: strawberry.ID = strawberry.field(
        description="The id of the deleted conversation."
    )


@strawberry.type(description="The conversation, as it was.")
class RestoreConversationPayload(ConversationPayload):
    pass


@strawberry.input(description="The input of `deleteConversation`.")
class DeleteConversationInput:
    conversation_id: strawberry.ID = strawberry.field(description="The id of the conversation.")


@strawberry.type(description="The result of `deleteConversation`.")
class DeleteConversationPayload(Payload):
    deleted_conversation_id: strawberry.ID | None = strawberry.field(
        default=None,
        description="The id of the deleted conversation, to remove it from a cache. Null if the "
        "mutation was refused.",
    )
