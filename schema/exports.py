"""Exports: jobs that make a ZIP of what a viewer has."""

from datetime import datetime
from typing import Annotated

import strawberry

from domain import exports, outputs
from schema.context import Info
from schema.errors import Payload
from schema.hints import hints
from schema.node import Node
from schema.outputs import GenerationError


@strawberry.type(
    description="A ZIP of originals, byte for byte, and JSON with turns, messages, models, seeds "
    "and what each image was made from: `manifest.json` names its parts. A job makes it: query "
    "`node` to see how it goes."
)
class Export(Node):
    source = exports.Export

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
    def url(export: strawberry.Parent[exports.Export], info: Info) -> str | None:
        return info.context.services.links.link(export.key).url if export.key else None


@strawberry.input(description="The input of `exportConversation`.")
class ExportConversationInput:
    conversation_id: strawberry.ID = strawberry.field(description="The conversation to export.")


@strawberry.type(description="The export, queued.")
class ExportPayload(Payload):
    export: Annotated[
        exports.Export | None,
        strawberry.field(
            graphql_type=Export | None, description="The export. Null if the mutation was refused."
        ),
    ] = None
