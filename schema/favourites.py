"""Marking images and prompts as favourites."""

from collections.abc import Sequence
from typing import Annotated

import strawberry

import domain.images
import domain.prompts
from schema.errors import Payload
from schema.images import Image
from schema.prompts import Prompt


@strawberry.input(description="The input of `setFavourite`.")
class SetFavouriteInput:
    id: strawberry.ID = strawberry.field(description="The id of an image or a prompt.")
    favourite: bool = strawberry.field(
        description="True to mark it as a favourite, false to remove the mark."
    )


@strawberry.input(description="The input of `setFavourites`.")
class SetFavouritesInput:
    ids: list[strawberry.ID] = strawberry.field(
        description="The ids of up to 100 images and prompts. An id may be there twice."
    )
    favourite: bool = strawberry.field(
        description="True to mark them as favourites, false to remove the marks."
    )


@strawberry.type(description="The images and prompts with their new state, each once.")
class SetFavouritesPayload(Payload):
    images: Annotated[
        Sequence[domain.images.Image],
        strawberry.field(
            graphql_type=list[Image],
            description="The images, in the order of their ids. Empty if the mutation was refused.",
        ),
    ] = ()
    prompts: Annotated[
        Sequence[domain.prompts.Prompt],
        strawberry.field(
            graphql_type=list[Prompt],
            description="The prompts, in the order of their ids. Empty if the mutation was "
            "refused.",
        ),
    ] = ()


@strawberry.type(description="The image or prompt with its new state.")
class SetFavouritePayload(Payload):
    image: Annotated[
        domain.images.Image | None,
        strawberry.field(
            graphql_type=Image | None,
            description="The image. Null if the id was that of a prompt, or if the mutation was "
            "refused.",
        ),
    ] = None
    prompt: Annotated[
        domain.prompts.Prompt | None,
        strawberry.field(
            graphql_type=Prompt | None,
            description="The prompt. Null if the id was that of an image, or if the mutation was "
            "refused.",
        ),
    ] = None
