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
        description="Marks an image or a prompt as a favourite, or takes the mark away.",
        extensions=[Refusable()],
    )
    async def set_favourite(
        self,
        info: Info,
        input: Annotated[
            SetFavouriteInput, strawberry.argument(description="Which one, and whether.")
        ],
    ) -> SetFavouritePayload:
        marked = await info.context.favourites.set(info.context.viewer, input.id, input.favourite)
        if isinstance(marked, ImageRecord):
            return SetFavouritePayload(image=image_of(marked))
        return SetFavouritePayload(prompt=marked)
