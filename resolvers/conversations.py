"""Root fields of conversations: read, start, rename, delete, follow."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

import strawberry

from domain import conversations
from domain.changes import Bookmark
from resolvers.nodes import find_conversation
from schema.companions import with_companion
from schema.context import Info
from schema.conversations import (
    Conversation,
    DeleteConversationInput,
    DeleteConversationPayload,
    ForkConversationInput,
    ForkConversationPayload,
    RenameConversationInput,
    RenameConversationPayload,
    RestoreConversationInput,
    RestoreConversationPayload,
    StartConversationInput,
    StartConversationPayload,
)
from schema.errors import Refusable


@strawberry.type
class ConversationQueries:
    @strawberry.field(
        graphql_type=Conversation | None,
        description="A conversation of the viewer. Null if there is none with this id.",
    )
    async def conversation(
        self,
        info: Info,
        id: Annotated[
            strawberry.ID, strawberry.argument(description="The id of the conversation.")
        ],
    ) -> conversations.Conversation | None:
        _ = info.context.viewer
        return await find_conversation(info, id)


@strawberry.type
class ConversationMutations:
    @strawberry.mutation(
        description="Start a conversation from one of the viewer's images, or from text alone. "
        "The response does not wait for the models.",
        extensions=[Refusable()],
    )
    async def start_conversation(
        self,
        info: Info,
        input: Annotated[
            StartConversationInput,
            strawberry.argument(description="The first turn, and the image to start from."),
        ],
    ) -> StartConversationPayload:
        conversation, turn = await info.context.services.conversations.start(
            info.context.viewer, input.to_command()
        )
        return StartConversationPayload(
            conversation=with_companion(conversation, turn),
            turn=turn,
            cursor=info.context.services.turn_cursors.make(
                conversation.id, Bookmark(conversation.as_of)
            ),
        )

    @strawberry.mutation(
        description="Rename a conversation.",
        extensions=[Refusable()],
    )
    async def rename_conversation(
        self,
        info: Info,
        input: Annotated[
            RenameConversationInput,
            strawberry.argument(description="The conversation and its new title."),
        ],
    ) -> RenameConversationPayload:
        conversation = await info.context.services.conversations.rename(
            info.context.viewer, input.conversation_id, input.title
        )
        return RenameConversationPayload(conversation=conversation)

    @strawberry.mutation(
        description="Start a conversation that begins with copies of a turn and of all turns "
        "before it. It has the same images, which exist once in the gallery; `Image.turn` and "
        "`Image.output` lead to where an image was made. No model runs and nothing is charged. "
        "Outputs that have not ended are COMPLETED in the copies if they have images, otherwise "
        "CANCELLED. TURN_IN_PROGRESS if the turn is running and has no image yet.",
        extensions=[Refusable()],
    )
    async def fork_conversation(
        self,
        info: Info,
        input: Annotated[
            ForkConversationInput, strawberry.argument(description="The turn to fork at.")
        ],
    ) -> ForkConversationPayload:
        conversation = await info.context.services.branches.fork(
            info.context.viewer, input.to_command()
        )
        return ForkConversationPayload(conversation=conversation)

    @strawberry.mutation(
        description="Delete a conversation with its turns and the images of its outputs. Images "
        "that are favourites, or that another conversation uses as source image or "
        "reference or has copied, are kept, and so is the source image. Outputs that have not "
        "ended are cancelled.",
        extensions=[Refusable()],
    )
    async def delete_conversation(
        self,
        info: Info,
        input: Annotated[
            DeleteConversationInput, strawberry.argument(description="The conversation to delete.")
        ],
    ) -> DeleteConversationPayload:
        deleted = await info.context.services.conversations.delete(
            info.context.viewer, input.conversation_id
        )
        return DeleteConversationPayload(deleted_conversation_id=strawberry.ID(deleted))

    @strawberry.mutation(
        description="Undo `deleteConversation`, if the server keeps deleted conversations for some "
        "days. Outputs that had not ended are cancelled; shares and exports are not restored.",
        extensions=[Refusable()],
    )
    async def restore_conversation(
        self,
        info: Info,
        input: Annotated[
            RestoreConversationInput,
            strawberry.argument(description="The conversation to restore."),
        ],
    ) -> RestoreConversationPayload:
        restored = await info.context.services.conversations.restore(
            info.context.viewer, input.conversation_id
        )
        return RestoreConversationPayload(conversation=restored)


@strawberry.type
class ConversationSubscriptions:
    @strawberry.subscription(
        graphql_type=Conversation,
        description="Changes of a conversation itself, such as its title and its number of "
        "turns. Sends the current state first, then the new state at every change. "
        "Completes when the conversation is deleted.",
    )
    async def conversation_updated(
        self,
        info: Info,
        conversation_id: Annotated[
            strawberry.ID, strawberry.argument(description="The conversation to subscribe to.")
        ],
    ) -> AsyncGenerator[conversations.Conversation, None]:
        updates = info.context.services.updates.conversations.of(
            info.context.viewer, conversation_id
        )
        async with aclosing(updates):
            async for conversation in updates:
                yield conversation
