"""Root fields of images."""

from typing import Annotated

import strawberry

from domain import images
from resolvers.nodes import find_image
from schema.context import Info
from schema.errors import Refusable
from schema.images import DeleteImageInput, DeleteImagePayload, Image


@strawberry.type
class ImageQueries:
    @strawberry.field(graphql_type=Image | None, description="One of the viewer's images, or null.")
    async def image(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="The image's id.")],
    ) -> images.Image | None:
        _ = info.context.viewer
        return await find_image(info, id)


@strawberry.type
class ImageMutations:
    @strawberry.mutation(
        description="Deletes an image, bytes included. IMAGE_IN_USE where a conversation has it as "
        "source or reference. The output that made it stays, without it.",
        extensions=[Refusable()],
    )
    async def delete_image(
        self,
        info: Info,
        input: Annotated[DeleteImageInput, strawberry.argument(description="Which one.")],
    ) -> DeleteImagePayload:
        deleted = await info.context.images.delete(info.context.viewer, input.image_id)
        return DeleteImagePayload(deleted_image_id=strawberry.ID(deleted))
