"""Root fields of favourites."""

from typing import Annotated

import strawberry

from domain.images import ImageRecord
from schema.context import Info
from schema.errors import Refusable
from schema.favourites import SetFavouriteInput, SetFavouritePayload
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
