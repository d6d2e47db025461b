"""Exports and imports: jobs that make a ZIP of what a viewer has, and create it again from one."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import strawberry

from domain import conversations, jobs, outputs
from schema.context import Info
from schema.errors import Payload
from schema.hints import hints
from schema.node import Node
from schema.outputs import GenerationError

if TYPE_CHECKING:
    from schema.conversations import Conversation


@strawberry.type(
    description="A ZIP of originals, byte for byte, and JSON with turns, messages, models, seeds "
    "and what each image was made from: `manifest.json` names its parts. A job makes it: query "
    "`node` for its progress."
)
class Export(Node):
    source = jobs.Export

    status: outputs.OutputStatus = strawberry.field(
        description="QUEUED, GENERATING, COMPLETED or FAILED."
    )
    progress: float | None = strawberry.field(
        description="The progress from 0 to 1 while a conversation is exported. Null if it is not "
        "known."
    )
    byte_size: int | None = strawberry.field(
        description="The size in bytes. Null unless `status` is COMPLETED, and above 2 GiB."
    )
    expires_at: datetime | None = strawberry.field(
        description="When the ZIP is deleted: a day after it was made. `node` returns null then. "
        "Null while it is not complete."
    )
    error: GenerationError | None = strawberry.field(
        description="Why it failed. Null unless `status` is FAILED."
    )

    @strawberry.field(
        description="A signed, absolute URL of the ZIP, valid for 30 to 60 minutes: query it again "
        "after that. Null unless `status` is COMPLETED.",
        metadata=hints("key"),
    )
    @staticmethod
    def url(export: strawberry.Parent[jobs.Export], info: Info) -> str | None:
        return info.context.services.links.link(export.key).url if export.key else None


@strawberry.input(description="The input of `exportConversation`.")
class ExportConversationInput:
    conversation_id: strawberry.ID = strawberry.field(description="The conversation to export.")


@strawberry.type(description="The export, queued.")
class ExportPayload(Payload):
    export: Annotated[
        jobs.Export | None,
        strawberry.field(
            graphql_type=Export | None, description="The export. Null if the mutation was refused."
        ),
    ] = None


@strawberry.type(
    description="A job that creates new conversations and images from an export, with new IDs and "
    "at no cost. Query `node` for its progress. Images appear in the gallery as soon as they are "
    "created, conversations at the end."
)
class Import(Node):
    source = jobs.Import

    status: outputs.OutputStatus = strawberry.field(
        description="QUEUED, GENERATING, COMPLETED or FAILED."
    )
    progress: float | None = strawberry.field(
        description="The progress from 0 to 1. Null if it is not known."
    )
    error: GenerationError | None = strawberry.field(
        description="Why it failed. Null unless `status` is FAILED."
    )

    @strawberry.field(
        graphql_type=Annotated["Conversation", strawberry.lazy("schema.conversations")] | None,
        description="The new conversation, or the first one of an export of a viewer. Null until "
        "`status` is COMPLETED, and if it has been deleted.",
        metadata=hints("conversation_id"),
    )
    @staticmethod
    async def conversation(
        job: strawberry.Parent[jobs.Import], info: Info
    ) -> conversations.Conversation | None:
        if job.conversation_id is None:
            return None
        return await info.context.load.conversation.load(job.conversation_id)


@strawberry.input(description="The input of `importConversation`.")
class ImportConversationInput:
    upload_id: strawberry.ID = strawberry.field(
        description="An upload with the purpose IMPORT, whose file has been sent."
    )


@strawberry.type(description="The import, queued.")
class ImportConversationPayload(Payload):
    import_: Annotated[
        jobs.Import | None,
        strawberry.field(
            name="import",
            graphql_type=Import | None,
            description="The import. Null if the mutation was refused.",
        ),
    ] = None
