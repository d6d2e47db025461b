"""Shares: links to a conversation, and what they lead to."""

from datetime import datetime
from typing import Annotated, ClassVar

import strawberry

import domain.conversations
import domain.turns
from domain import errors, shares, shown
from schema.connections import Cursor, First, ListPage
from schema.context import Info
from schema.conversations import Conversation, TurnConnection, page_of_turns
from schema.errors import Payload
from schema.hints import hints
from schema.scalars import given


@strawberry.type(
    description="A link by which anyone reads one conversation and follows it live, and nothing "
    "else, until it ends or is revoked."
)
class Share:
    source: ClassVar[type] = shares.Share

    id: strawberry.ID = strawberry.field(description="A globally unique id, `share_01jd…`.")
    expires_at: datetime | None = strawberry.field(
        description="When it ends. Null: when it is revoked, or the conversation is deleted."
    )
    includes_prompts: bool = strawberry.field(
        description="Whether readers see messages, negative prompts, texts of models, and a title "
        "that is the beginning of the first message."
    )
    views: int = strawberry.field(
        description="How often `shared` was answered with it. A reload counts again, a "
        "subscription does not count."
    )
    created_at: datetime = strawberry.field(description="When it was created.")

    @strawberry.field(
        description="The link, e.g. `https://example.com/studio/shared/…`. Its last part is the "
        "token for `shared` and `sharedTurnUpdated`. Anyone who has it can read the conversation."
    )
    @staticmethod
    def url(share: strawberry.Parent[shares.Share], info: Info) -> str:
        return info.context.services.shares.url_of(share)

    @strawberry.field(
        graphql_type=Conversation,
        description="The conversation that it leads to.",
        metadata=hints("conversation_id"),
    )
    @staticmethod
    async def conversation(
        share: strawberry.Parent[shares.Share], info: Info
    ) -> domain.conversations.Conversation:
        found = await info.context.load.conversation.load(share.conversation_id)
        if found is None:
            raise errors.NotFound("The conversation has just been deleted.")
        return found


@strawberry.type(
    description="A conversation as the readers of a share see it. Messages, negative prompts and "
    "texts of models are empty unless `Share.includesPrompts`. Credits are 0, `usage` is null, no "
    "image is a favourite, and nothing leads to other conversations or to the gallery: "
    "`Turn.conversation` has a title and turns only, and `Image.madeFrom` is empty. URLs of images "
    "work for everybody until they expire, also when the share has ended before."
)
class SharedConversation:
    source: ClassVar[type] = shown.SharedConversation

    title: str = strawberry.field(
        description="The title. Empty where it is the beginning of the first message and the share "
        "does not include prompts: rename the conversation to show a title."
    )
    expires_at: datetime | None = strawberry.field(
        description="When the share ends. Null if no time is set."
    )

    @strawberry.field(
        graphql_type=TurnConnection,
        description="The turns, oldest first.",
        metadata=hints("conversation", projects=True),
    )
    @staticmethod
    async def turns(
        shared: strawberry.Parent[shown.SharedConversation],
        info: Info,
        first: First = strawberry.UNSET,
        after: Cursor = strawberry.UNSET,
    ) -> ListPage[domain.turns.Turn]:
        return await page_of_turns(shared.conversation, info, first=first, after=after)


@strawberry.input(description="The input of `createShare`.")
class CreateShareInput:
    conversation_id: strawberry.ID = strawberry.field(description="The conversation to share.")
    expires_at: datetime | None = strawberry.field(
        default=strawberry.UNSET,
        description="When the share ends. If omitted: when it is revoked, or the conversation is "
        "deleted.",
    )
    include_prompts: bool | None = strawberry.field(
        default=False, description="Whether readers see messages and other words."
    )

    def to_command(self) -> shares.CreateShare:
        return shares.CreateShare(
            self.conversation_id,
            expires_at=given(self.expires_at),
            includes_prompts=bool(self.include_prompts),
        )


@strawberry.type(description="The new share, with its link.")
class CreateSharePayload(Payload):
    share: Annotated[
        shares.Share | None,
        strawberry.field(
            graphql_type=Share | None, description="The share. Null if the mutation was refused."
        ),
    ] = None


@strawberry.input(description="The input of `revokeShare`.")
class RevokeShareInput:
    share_id: strawberry.ID = strawberry.field(description="The id of the share.")


@strawberry.type(description="The result of `revokeShare`.")
class RevokeSharePayload(Payload):
    revoked_share_id: strawberry.ID | None = strawberry.field(
        default=None,
        description="The id of the revoked share, to remove it from a cache. Null if the mutation "
        "was refused.",
    )
