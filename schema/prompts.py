"""Prompts: what the viewer has asked for, each text once."""

from datetime import datetime
from typing import TypeAlias

import strawberry

from domain import prompts
from schema.connections import Connection
from schema.errors import Payload
from schema.node import Node


@strawberry.type(
    description="A text that the viewer has started turns or posts with. It is kept when those "
    "are deleted, until `deletePrompt` deletes it."
)
class Prompt(Node):
    source = prompts.Prompt

    text: str = strawberry.field(description="The text as it was sent.")
    uses: int = strawberry.field(
        description="The number of turns and posts that were started with it. `retryOutput` does "
        "not count as a use."
    )
    favourite: bool = strawberry.field(
        description="Whether the viewer has marked it as a favourite."
    )
    last_used_at: datetime = strawberry.field(
        description="When a turn or post was last started with it."
    )


PromptConnection: TypeAlias = Connection[Prompt]


@strawberry.input(description="The input of `deletePrompt`.")
class DeletePromptInput:
    prompt_id: strawberry.ID = strawberry.field(description="The id of the prompt.")


@strawberry.type(description="The result of `deletePrompt`.")
class DeletePromptPayload(Payload):
    deleted_prompt_id: strawberry.ID | None = strawberry.field(
        default=None,
        description="The id of the deleted prompt, to remove it from a cache. Null if the "
        "mutation was refused.",
    )
