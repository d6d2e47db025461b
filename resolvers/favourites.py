"""Root fields of favourites."""

from typing import Annotated

import strawberry

from schema.context import Info
from schema.errors import Refusable
from schema.favourites import SetFavouriteInput, SetFavouritePayload


@strawberry.type
class FavouriteMutations:
    @strawberry.mutation(
        description="Marks an image or a prompt as a favourite, or takes the mark away.",
        extensions=[Refusable(SetFavouritePayload)],
    )
    async def set_favourite(
        self,
        info: Info,
        input: Annotated[
            SetFavouriteInput, strawberry.argument(description="Which one, and whether.")
        ],
    ) -> SetFavouritePayload:
        marked = await info.context.favourites.set(info.context.viewer, input.id, input.favourite)
        return SetFavouritePayload.of(marked)
