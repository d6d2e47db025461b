"""Albums, and how to make, change and delete one."""

from datetime import datetime
from typing import Annotated, TypeAlias

import strawberry

import domain.images
from domain import albums
from schema.connections import Connection, Cursor, First, ListPage, page_request
from schema.context import Info
from schema.errors import Payload
from schema.images import ImageConnection, images_of
from schema.node import Node
from schema.scalars import given


@strawberry.type(
    description="Images that the viewer has put together. An image can be in many albums. It is "
    "kept when its conversation is deleted, and leaves its albums when it is deleted itself."
)
class Album(Node):
    source = albums.Album

    title: str = strawberry.field(description="The title.")
    created_at: datetime = strawberry.field(description="When the album was made.")

    @strawberry.field(
        graphql_type=ImageConnection,
        description="The images in the order in which they were added. One that is removed and "
        "added again comes last.",
    )
    @staticmethod
    async def images(
        album: strawberry.Parent[albums.Album],
        info: Info,
        first: First = strawberry.UNSET,
        after: Cursor = strawberry.UNSET,
    ) -> ListPage[domain.images.Image]:
        name = f"images {album.id}"
        request = page_request(info, name, first=first, after=after)
        page = await info.context.services.albums.page_images(
            info.context.viewer, album.id, request
        )
        return ListPage(images_of(page), name, info.context.services.page_cursors)


AlbumConnection: TypeAlias = Connection[Album]


@strawberry.input(description="The input of `createAlbum`.")
class CreateAlbumInput:
    title: str = strawberry.field(description="The title: one line of 1 to 120 characters.")
    image_ids: list[strawberry.ID] | None = strawberry.field(
        default=strawberry.UNSET,
        description="The ids of up to 100 images to begin with, in this order. An id may be there "
        "twice, and counts once.",
    )


@strawberry.input(description="The input of `updateAlbum`.")
class UpdateAlbumInput:
    album_id: strawberry.ID = strawberry.field(description="The id of the album.")
    title: str | None = strawberry.field(
        default=strawberry.UNSET, description="The new title. If omitted, it stays."
    )
    add_image_ids: list[strawberry.ID] | None = strawberry.field(
        default=strawberry.UNSET,
        description="The ids of up to 100 images to add at the end, in this order. Those that are "
        "in the album already stay where they are, unless they are in `removeImageIds` too.",
    )
    remove_image_ids: list[strawberry.ID] | None = strawberry.field(
        default=strawberry.UNSET,
        description="The ids of up to 100 images to take out, before others are added. They stay "
        "in the gallery. Ids that are not in the album are ignored.",
    )

    def to_command(self) -> albums.UpdateAlbum:
        return albums.UpdateAlbum(
            album_id=self.album_id,
            title=given(self.title),
            add_image_ids=given(self.add_image_ids) or (),
            remove_image_ids=given(self.remove_image_ids) or (),
        )


@strawberry.type(description="The album with its new state.")
class AlbumPayload(Payload):
    album: Annotated[
        albums.Album | None,
        strawberry.field(
            graphql_type=Album | None, description="The album. Null if the mutation was refused."
        ),
    ] = None


@strawberry.input(description="The input of `deleteAlbum`.")
class DeleteAlbumInput:
    album_id: strawberry.ID = strawberry.field(description="The id of the album.")


@strawberry.type(description="The result of `deleteAlbum`.")
class DeleteAlbumPayload(Payload):
    deleted_album_id: strawberry.ID | None = strawberry.field(
        default=None,
        description="The id of the deleted album, to remove it from a cache. Null if the mutation "
        "was refused.",
    )
