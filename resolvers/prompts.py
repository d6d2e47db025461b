"""Root fields of prompts."""

from typing import Annotated

import strawberry

from schema.context import Info
from schema.errors import Refusable
from schema.prompts import DeletePromptInput, DeletePromptPayload


@strawberry.type
class PromptMutations:
    @strawberry.mutation(
        description="Delete a prompt from the viewer's list. Turns that were started with it keep "
        "their message. A new turn with the same text adds it again, with one use.",
        extensions=[Refusable()],
    )
    async def delete_prompt(
        self,
        info: Info,
        input: Annotated[
            DeletePromptInput, strawberry.argument(description="The prompt to delete.")
        ],
    ) -> DeletePromptPayload:
        deleted = await info.context.services.prompts.delete(info.context.viewer, input.prompt_id)
        return DeletePromptPayload(deleted_prompt_id=strawberry.ID(deleted))
