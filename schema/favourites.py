"""Marking images and prompts as favourites."""

from typing import Self

import strawberry

from domain.images import ImageRecord
from domain.prompts import Prompt as PromptValue
from schema.errors import UserError
from schema.images import Image
from schema.prompts import Prompt


@strawberry.input(description="Marks an image or a prompt, or takes the mark away.")
class SetFavouriteInput:
    id: strawberry.ID = strawberry.field(description="An image's or a prompt's id.")
    favourite: bool = strawberry.field(description="Whether it is to be a favourite.")


@strawberry.type(description="What was marked, as it then stands: one of the two.")
class SetFavouritePayload:
    image: Image | None = strawberry.field(
        default=None, description="Null where it is a prompt, or it was refused."
    )
    prompt: Prompt | None = strawberry.field(
        default=None, description="Null where it is an image, or it was refused."
    )
    user_errors: list[UserError] = strawberry.field(
        default_factory=list, description="All that is wrong with the input, at once."
    )

    @classmethod
    def of(cls, marked: ImageRecord | PromptValue) -> Self:
        if isinstance(marked, ImageRecord):
            return cls(image=Image.of_record(marked))
        return cls(prompt=Prompt.of(marked))
