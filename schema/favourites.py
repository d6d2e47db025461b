"""Marking images and prompts as favourites."""

from typing import Annotated

import strawberry

from domain import images, prompts
from schema.errors import Payload
from schema.images import Image
from schema.prompts import Prompt


@strawberry.input(description="The input of `setFavourite`.")
class SetFavouriteInput:
    id: strawberry.ID = strawberry.field(description="The id of an image or a prompt.")
    favourite: bool = strawberry.field(
        description="True to mark it as a favourite, false to remove the mark."
    )


@strawberry.type(description="The image or prompt with its new state.")
class SetFavouritePayload(Payload):
    image: Annotated[
        images.Image | None,
        strawberry.field(
            graphql_type=Image | None,
            description="The image. Null if the id was that of a prompt, or if the mutation was "
            "refused.",
        ),
    ] = None
    prompt: Annotated[
        prompts.Prompt | None,
        strawberry.field(
            graphql_type=Prompt | None,
            description="The prompt. Null if the id was that of an image, or if the mutation was "
            "refused.",
        ),
    ] = None
