"""Root fields of albums."""

from typing import Annotated

import strawberry

from schema.albums import (
    AlbumPayload,
    CreateAlbumInput,
    DeleteAlbumInput,
    DeleteAlbumPayload,
    UpdateAlbumInput,
)
from schema.context import Info
from schema.errors import Refusable
from schema.scalars import given


@strawberry.type
class AlbumMutations:
    @strawberry.mutation(
        description="Make an album. NOT_FOUND for each image that does not exist; its `path` ends "
        "with the index.",
        extensions=[Refusable()],
    )
    async def create_album(
        self,
        info: Info,
        input: Annotated[CreateAlbumInput, strawberry.argument(description="The new album.")],
    ) -> AlbumPayload:
        album = await info.context.services.albums.create(
            info.context.viewer, input.title, given(input.image_ids) or ()
        )
        return AlbumPayload(album=album)

    @strawberry.mutation(
        description="Rename an album, take images out of it, and add others: all of it or nothing. "
        "An album has at most 10,000 images; more are TOO_MANY_IMAGES.",
        extensions=[Refusable()],
    )
    async def update_album(
        self,
        info: Info,
        input: Annotated[
            UpdateAlbumInput, strawberry.argument(description="The album and what to change.")
        ],
    ) -> AlbumPayload:
        album = await info.context.services.albums.update(info.context.viewer, input.to_command())
        return AlbumPayload(album=album)

    @strawberry.mutation(
        description="Delete an album. Its images stay in the gallery.", extensions=[Refusable()]
    )
    async def delete_album(
        self,
        info: Info,
        input: Annotated[DeleteAlbumInput, strawberry.argument(description="The album to delete.")],
    ) -> DeleteAlbumPayload:
        deleted = await info.context.services.albums.delete(info.context.viewer, input.album_id)
        return DeleteAlbumPayload(deleted_album_id=strawberry.ID(deleted))
