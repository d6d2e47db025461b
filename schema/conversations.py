"""Conversations, and how to start, rename and delete one."""

from datetime import datetime
from typing import Self, TypeAlias

import strawberry

from domain import conversations, models, turns
from domain.changes import Bookmark
from domain.models import AspectRatio
from schema.connections import Connection, Cursor, First, Last, page_request
from schema.context import Info
from schema.errors import UserError
from schema.images import Image, ImageConnection
from schema.node import Node
from schema.scalars import given
from schema.turns import GenerationOptions, Turn, to_turn_request

TurnConnection: TypeAlias = Connection[Turn]


@strawberry.type(description="A picture, or nothing, and the turns that were made of it.")
class Conversation(Node):
    value: strawberry.Private[conversations.Conversation]
    newest: strawberry.Private[turns.Turn | None]
    """The newest turn where it is at hand, so that one answer never shows two states of it."""

    title: str = strawberry.field(description="Made from the first message; can be changed.")
    source_image: Image | None = strawberry.field(
        description="Null where the conversation began from words alone."
    )
    aspect_ratio: AspectRatio = strawberry.field(
        description="What the next turn uses where `sendEdit` names none."
    )
    resolution: models.Resolution = strawberry.field(
        description="What the next turn uses where `sendEdit` names none."
    )
    turn_count: int = strawberry.field(description="How many turns it has.")
    created_at: datetime = strawberry.field(description="When it was started.")
    updated_at: datetime = strawberry.field(description="When it was last renamed or given a turn.")

    @classmethod
    def of(
        cls, conversation: conversations.Conversation, *, at_hand: turns.Turn | None = None
    ) -> Self:
        source = conversation.source_image
        is_newest = at_hand is not None and at_hand.turn_index == conversation.turn_count - 1
        return cls(
            value=conversation,
            newest=at_hand if is_newest else None,
            id=strawberry.ID(conversation.id),
            title=conversation.title,
            source_image=Image.of(source) if source else None,
            aspect_ratio=conversation.aspect_ratio,
            resolution=conversation.resolution,
            turn_count=conversation.turn_count,
            created_at=conversation.created_at,
            updated_at=conversation.updated_at,
        )

    @strawberry.field(description="The turns, oldest first.")
    async def turns(
        self,
        info: Info,
        first: First = strawberry.UNSET,
        after: Cursor = strawberry.UNSET,
        last: Last = strawberry.UNSET,
        before: Cursor = strawberry.UNSET,
    ) -> TurnConnection:
        name = f"turns {self.value.id}"
        request = page_request(info, name, first=first, after=after, last=last, before=before)
        page = await info.context.turns.page(info.context.viewer, self.value.id, request)
        return TurnConnection.of(page, Turn.of, info, name)

    @strawberry.field(description="The newest turn.")
    async def latest_turn(self, info: Info) -> Turn | None:
        turn = self.newest or await info.context.load.latest_turn.load(self.value.id)
        return Turn.of(turn) if turn else None

    @strawberry.field(
        description="Where `turnUpdated` stands as of this read: pass it as `after`. Not a cursor "
        "of a list."
    )
    def cursor(self, info: Info) -> str:
        return info.context.turn_cursors.make(self.value.id, Bookmark(self.value.as_of))

    @strawberry.field(
        description="The thumbnail strip: the source image, then every output's, oldest first."
    )
    async def images(
        self,
        info: Info,
        first: First = strawberry.UNSET,
        after: Cursor = strawberry.UNSET,
    ) -> ImageConnection:
        name = f"images {self.value.id}"
        request = page_request(info, name, first=first, after=after)
        page = await info.context.turns.strip(info.context.viewer, self.value, request)
        return ImageConnection.of(page, Image.of, info, name)


ConversationConnection: TypeAlias = Connection[Conversation]


@strawberry.input(description="Asks for a conversation and its first turn.")
class StartConversationInput:
    user_message: str = strawberry.field(description="What to make: 1 to 2,000 characters.")
    source_image_id: strawberry.ID | None = strawberry.field(
        default=strawberry.UNSET,
        description="Any image that the viewer owns. Left out, the first turn makes images from "
        "words alone. A variation is this image, its prompt, and a new seed.",
    )
    selected_models: list[strawberry.ID] | None = strawberry.field(
        default=strawberry.UNSET,
        description="Left out: the source image's own model, its replacement where it is retired, "
        "its editing sibling where it has one; else the registry's default.",
    )
    manual_reference_ids: list[strawberry.ID] | None = strawberry.field(
        default=strawberry.UNSET,
        description="Extra references for this turn, in order: 10 at most.",
    )
    aspect_ratio: AspectRatio | None = strawberry.field(
        default=strawberry.UNSET,
        description="Left out: the nearest of the ten ratios to the source image's; else 1:1. What "
        "is inherited is fitted to each model; only what is given here is refused.",
    )
    resolution: models.Resolution | None = strawberry.field(
        default=strawberry.UNSET,
        description="Left out: the source image's; else ONE_K. Fitted or refused likewise.",
    )
    options: GenerationOptions | None = strawberry.field(
        default=strawberry.UNSET, description="Left out: the defaults of each option."
    )
    max_credits: int | None = strawberry.field(
        default=strawberry.UNSET, description="Refuse, rather than spend more than this."
    )
    idempotency_key: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="1 to 255 characters. The same key and input again answers with the same "
        "objects, as they stand now, and does nothing twice. A refused call does not use the key "
        "up. Kept for 48 hours.",
    )

    def to_command(self) -> conversations.StartConversation:
        return conversations.StartConversation(
            turn=to_turn_request(
                user_message=self.user_message,
                selected_models=self.selected_models,
                manual_reference_ids=self.manual_reference_ids,
                aspect_ratio=self.aspect_ratio,
                resolution=self.resolution,
                options=self.options,
            ),
            source_image_id=given(self.source_image_id),
            max_credits=given(self.max_credits),
            idempotency_key=given(self.idempotency_key),
        )


@strawberry.type(description="The conversation that was started; its first turn is at work.")
class StartConversationPayload:
    conversation: Conversation | None = strawberry.field(
        default=None, description="Null where it was refused."
    )
    turn: Turn | None = strawberry.field(
        default=None, description="The first turn. Null where it was refused."
    )
    cursor: str | None = strawberry.field(
        default=None,
        description="Pass it as `after` to `turnUpdated`: nothing is missed. Null where it was "
        "refused.",
    )
    user_errors: list[UserError] = strawberry.field(
        default_factory=list, description="All that is wrong with the input, at once."
    )


@strawberry.input(description="Gives a conversation another title.")
class RenameConversationInput:
    conversation_id: strawberry.ID = strawberry.field(description="The conversation.")
    title: str = strawberry.field(description="1 to 120 characters on one line.")


@strawberry.type(description="The conversation with its new title.")
class RenameConversationPayload:
    conversation: Conversation | None = strawberry.field(
        default=None, description="Null where it was refused."
    )
    user_errors: list[UserError] = strawberry.field(
        default_factory=list, description="All that is wrong with the input, at once."
    )


@strawberry.input(description="Names the conversation to delete.")
class DeleteConversationInput:
    conversation_id: strawberry.ID = strawberry.field(description="The conversation.")


@strawberry.type(description="What was deleted.")
class DeleteConversationPayload:
    deleted_conversation_id: strawberry.ID | None = strawberry.field(
        default=None, description="To drop from a cache; null where it was refused."
    )
    user_errors: list[UserError] = strawberry.field(
        default_factory=list, description="All that is wrong with the input, at once."
    )
