"""Root fields of favourites."""

from typing import Annotated

import strawberry

from domain.images import ImageRecord
from domain.prompts import Prompt
from schema.context import Info
from schema.errors import Refusable
from schema.favourites import (
    SetFavouriteInput,
    SetFavouritePayload,
    SetFavouritesInput,
    SetFavouritesPayload,
)
from schema.images import image_of


@strawberry.type
class FavouriteMutations:
    @strawberry.mutation(
        description="Mark an image or a prompt as a favourite, or remove the mark.",
        extensions=[Refusable()],
    )
    async def set_favourite(
        self,
        info: Info,
        input: Annotated[
            SetFavouriteInput,
            strawberry.argument(description="The image or prompt, and its new state."),
        ],
    ) -> SetFavouritePayload:
        marked = await info.context.services.favourites.set(
            info.context.viewer, input.id, input.favourite
        )
        if isinstance(marked, ImageRecord):
            return SetFavouritePayload(image=image_of(marked))
        return SetFavouritePayload(prompt=marked)

    @strawberry.mutation(
        description="Mark up to 100 images and prompts as favourites, or remove the marks: all or "
        "none. NOT_FOUND for each id that does not exist; its `path` ends with the index in "
        "`ids`.",
        extensions=[Refusable()],
    )
    async def set_favourites(
        self,
        info: Info,
        input: Annotated[
            SetFavouritesInput,
            strawberry.argument(description="The images and prompts, and their new state."),
        ],
    ) -> SetFavouritesPayload:
        marked = await info.context.services.favourites.set_many(
            info.context.viewer, input.ids, input.favourite
        )
        return SetFavouritesPayload(
            images=[image_of(record) for record in marked if isinstance(record, ImageRecord)],
            prompts=[record for record in marked if isinstance(record, Prompt)],
        )
