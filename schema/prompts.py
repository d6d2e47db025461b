"""Prompts: what the viewer has asked for, each text once."""

from datetime import datetime
from typing import TypeAlias

import strawberry

from domain import prompts
from schema.connections import Connection
from schema.node import Node


@strawberry.type(
    description="A text that the viewer has begun turns with. It stays when those are deleted."
)
class Prompt(Node):
    source = prompts.Prompt

    text: str = strawberry.field(description="As it was sent.")
    uses: int = strawberry.field(
        description="How many turns were begun with it. `retryOutput` is no use."
    )
    favourite: bool = strawberry.field(description="Whether the viewer has marked it.")
    last_used_at: datetime = strawberry.field(description="When a turn was last begun with it.")


PromptConnection: TypeAlias = Connection[Prompt]
