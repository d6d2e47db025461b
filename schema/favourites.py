"""Marking images and prompts as favourites."""

from typing import Annotated

import strawberry

from domain import images, prompts
from schema.errors import Payload
from schema.images import Image
from schema.prompts import Prompt


@strawberry.input(description="Marks an image or a prompt, or takes the mark away.")
class SetFavouriteInput:
    id: strawberry.ID = strawberry.field(description="An image's or a prompt's id.")
    favourite: bool = strawberry.field(description="Whether it is to be a favourite.")


@strawberry.type(description="What was marked, as it then stands: one of the two.")
class SetFavouritePayload(Payload):
    image: Annotated[
        images.Image | None,
        strawberry.field(
            graphql_type=Image | None, description="Null where it is a prompt, or it was refused."
        ),
    ] = None
    prompt: Annotated[
        prompts.Prompt | None,
        strawberry.field(
            graphql_type=Prompt | None, description="Null where it is an image, or it was refused."
        ),
    ] = None
