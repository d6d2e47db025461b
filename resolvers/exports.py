"""Root fields of exports and imports."""

from typing import Annotated

import strawberry

from schema.context import Info
from schema.errors import Refusable
from schema.exports import (
    ExportConversationInput,
    ExportPayload,
    ImportConversationInput,
    ImportConversationPayload,
)


@strawberry.type
class ExportMutations:
    @strawberry.mutation(
        description="Make a ZIP of a conversation: its turns, and the images that they made or "
        "refer to. At most three exports of a viewer can run; more are answered with RATE_LIMITED.",
        extensions=[Refusable()],
    )
    async def export_conversation(
        self,
        info: Info,
        input: Annotated[
            ExportConversationInput, strawberry.argument(description="The conversation to export.")
        ],
    ) -> ExportPayload:
        export = await info.context.services.exports.create_of_conversation(
            info.context.viewer, input.conversation_id
        )
        return ExportPayload(export=export)

    @strawberry.mutation(
        description="Make a ZIP of all conversations, posts, albums and images of the viewer.",
        extensions=[Refusable()],
    )
    async def export_viewer(self, info: Info) -> ExportPayload:
        export = await info.context.services.exports.create_of_viewer(info.context.viewer)
        return ExportPayload(export=export)

    @strawberry.mutation(
        description="Create new conversations, posts, albums and images from an export, with new "
        "IDs and at no cost. Images are checked as uploads are. Calling it again returns the same "
        "import.",
        extensions=[Refusable()],
    )
    async def import_conversation(
        self,
        info: Info,
        input: Annotated[
            ImportConversationInput, strawberry.argument(description="The uploaded export.")
        ],
    ) -> ImportConversationPayload:
        created = await info.context.services.imports.create(info.context.viewer, input.upload_id)
        return ImportConversationPayload(import_=created)
